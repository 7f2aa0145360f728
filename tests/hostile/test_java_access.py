"""Which files a file's own names can make Java open: none outside its folder, and none by URL."""

from __future__ import annotations

import os
import threading

import jpype
import numpy as np
import pytest
import tifffile

from bfbridge.errors import BfbridgeError, UnreadableFile
from bfbridge_bioformats.runtime.machine import machine
from tests.support.javareads import read
from tests.support.opens import Opens
from tests.support.webserver import listen

pytestmark = pytest.mark.java

IMAGE = np.arange(63, dtype=np.uint8).reshape(7, 9)
OME = """<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">
<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="9" SizeY="7"
 SizeZ="1" SizeC="1" SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="1"/><TiffData>
<UUID FileName="NAME">urn:uuid:aaaaaaaa-0000-0000-0000-000000000000</UUID></TiffData>
</Pixels></Image></OME>"""
BINARY_ONLY = """<?xml version="1.0"?><OME UUID="urn:uuid:bbbbbbbb-0000-0000-0000-000000000000"
 xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><BinaryOnly MetadataFile="NAME"
 UUID="urn:uuid:aaaaaaaa-0000-0000-0000-000000000000"/></OME>"""
LEICA = """<?xml version="1.0"?><LMSDataContainerHeader Version="2"><Element Name="x"><Data/>
<Memory/><Children><Reference File="NAME" UUID="1"/></Children></Element>
</LMSDataContainerHeader>"""
NRRD = "NRRD0001\ntype: uint8\ndimension: 2\nsizes: 9 7\nencoding: {}\n{}data file: NAME\n"

CARRIERS = {
    "a.pattern": "NAME",
    "a.afi": "<ImageList><Image><Path>NAME</Path></Image></ImageList>",
    "a.nhdr": NRRD.format("raw", ""),
    "packed.nhdr": NRRD.format("gzip", ""),
    "skipping.nhdr": NRRD.format("gzip", "byte skip: -1\n"),
    "a.companion.ome": OME,
    "a.ome.tif": OME,
    "b.ome.tif": BINARY_ONLY,
    "a.ndpis": "[NanoZoomer Digital Pathology Image Set]\r\nNoImages=1\r\nImage0=NAME\r\n",
    "a.xlef": LEICA,
    "a.vms": "[Virtual Microscope Specimen]\r\nNoLayers=1\r\nNoJpegColumns=1\r\nNoJpegRows=1\r\n"
    "ImageFile=NAME\r\nMapFile=NAME\r\nOptimisationFile=NAME\r\nMacroImage=NAME\r\n",
}
# {outside} is a file in the folder above, {url} a server.
NAMES = {
    "a step up": "../{outside}",
    "a step down and two up": "x/../../{outside}",
    "two steps up": "../../{above}/{outside}",
    "absolute": "{folder}/{outside}",
    "backslashes": "..\\{outside}",
    "percent-encoded": "%2e%2e/{outside}",
    "newline": "..\n/{outside}",
    "file URL": "file://{folder}/{outside}",
    "file without slashes": "file:{folder}/{outside}",
    "http": "{url}/x.tif",
    "https": "https://127.0.0.1:1/x.tif",
    "s3": "s3+{url}/bucket/x.tif",
    "jar": "jar:{url}/x.jar!/y.tif",
    "link": "link.tif",
    "pipe": "pipe.tif",
    "synthetic": "a&amp;sizeX=20000&amp;sizeY=20000&amp;sleepInitFile=20000.fake",
}


@pytest.fixture(scope="module")
def server():
    """A web server that notes every request."""
    with listen() as heard:
        yield heard


@pytest.fixture
def outside(tmp_path):
    """A file that is none of the opened file's business, and a folder below it with ways out."""
    file = tmp_path / "secret.tif"
    tifffile.imwrite(file, IMAGE)
    inner = tmp_path / "data"
    inner.mkdir()
    (inner / "link.tif").symlink_to(file)
    os.mkfifo(inner / "pipe.tif")
    return file


def carry(folder, carrier, name):
    """Write a file that names another one."""
    path = folder / carrier
    text = CARRIERS[carrier]
    if not text.lstrip().startswith("<"):
        name = name.replace("&amp;", "&")
    text = text.replace("NAME", name)
    if carrier.endswith(".tif"):
        tifffile.imwrite(path, IMAGE, description=text.encode(), metadata=None)
    else:
        path.write_bytes(text.encode())
    return path


def soon(action):
    """Return the error that an action ends with, None if it ends well; fail if it does not end."""
    ended = []

    def run():
        try:
            action()
        except BaseException as error:  # noqa: BLE001 - told to the test
            ended.append(error)
        else:
            ended.append(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(60)
    assert ended, "does not end"
    return ended[0]


@pytest.mark.parametrize("way", NAMES)
@pytest.mark.parametrize("carrier", CARRIERS)
def test_no_name_leads_out(outside, server, carrier, way):
    url, asked = server
    asked.clear()
    folder = outside.parent
    name = NAMES[way].format(outside=outside.name, folder=folder, above=folder.name, url=url)
    path = carry(folder / "data", carrier, name)
    with Opens(outside) as opens:
        error = soon(lambda: read(path))
        assert opens.count() == 0
    # Of an OME-TIFF whose companion is missing, Bio-Formats reads the file itself.
    assert isinstance(error, BfbridgeError) or (error is None and carrier.endswith(".tif"))
    assert asked == []


@pytest.mark.parametrize("carrier", ["a.pattern", "a.ndpis", "a.vms"])
@pytest.mark.parametrize(
    ("way", "why"),
    [
        ("http", "a URL. URLs in a file are never fetched"),
        ("pipe", "a pipe, a device or a socket"),
        ("synthetic", "a synthetic image"),
        ("link", "outside its own folder.*allow_outside=True"),
    ],
)
def test_the_error_says_which_name_and_why(outside, server, carrier, way, why):
    name = NAMES[way].format(url=server[0])
    path = carry(outside.parent / "data", carrier, name)
    error = soon(lambda: read(path))
    assert isinstance(error, UnreadableFile)
    with pytest.raises(UnreadableFile, match=f"{carrier}: it names '.*' as part of its .*{why}"):
        raise error


def test_a_trusted_file_reads_outside_files_but_no_urls_and_pipes(outside, server):
    url, asked = server
    asked.clear()
    folder = outside.parent / "data"
    path = carry(folder, "a.pattern", str(outside))
    np.testing.assert_array_equal(read(path, allow_outside=True)[0, 0, 0], IMAGE)
    for name in (f"{url}/x.tif", str(folder / "pipe.tif")):
        path = carry(folder, "a.pattern", name)
        error = soon(lambda path=path: read(path, allow_outside=True))
        assert isinstance(error, UnreadableFile)
    assert asked == []


def test_files_of_the_same_folder_and_below_are_read(tmp_path):
    (tmp_path / "below").mkdir()
    for name in ("a.tif", "below/a.tif"):
        tifffile.imwrite(tmp_path / name, IMAGE)
        path = carry(tmp_path, "a.pattern", str(tmp_path / name))
        np.testing.assert_array_equal(read(path)[0, 0, 0], IMAGE)


def test_a_pipe_that_nobody_names_is_passed_over(tmp_path):
    """DICOM files of one folder are looked through for those of the same series."""
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe.dcm")
    tifffile.imwrite(tmp_path / "a.tif", IMAGE)
    result = []
    assert soon(lambda: result.append(read(tmp_path / "a.tif"))) is None
    np.testing.assert_array_equal(result[0][0, 0, 0], IMAGE)


# ---- what decides


@pytest.fixture
def access(outside):
    """The limit of a data set in the inner folder."""
    with machine.attached():
        yield machine.type("bfbridge.Access")(str(outside.parent / "data" / "main.tif"), False)


def test_what_the_limit_says_of_names(access, outside):
    folder = outside.parent
    (folder / "data" / "in.tif").touch()
    (folder / "data" / "below").mkdir()
    (folder / "data" / "loop").symlink_to("loop")
    (folder / "data" / "inside.tif").symlink_to("in.tif")
    said = {
        str(folder / "data" / "in.tif"): None,
        str(folder / "data" / "below"): None,
        str(folder / "data" / "inside.tif"): None,
        str(folder / "data" / "." / "below" / ".." / "in.tif"): None,
        str(folder / "data" / "missing.tif"): None,
        str(folder / "data" / "loop"): None,
        str(folder / "data" / "link.tif"): "outside",
        str(folder / "data" / "pipe.tif"): "device",
        str(folder / "data" / ".." / "secret.tif"): "outside",
        str(outside): "outside",
        # The names in folders above the data are listed.
        str(folder): None,
        "/": None,
        "/etc": "outside",
        "/dev/zero": "outside",
        "http://example.org/a.tif": "url",
        "s3+https://example.org/a/b": "url",
        "FILE:///etc/passwd": "url",
        str(folder / "data" / "a.fake"): "synthetic",
    }
    assert {name: text(access.objection(name)) for name in said} == said


def test_a_trusted_data_set_is_told_of_pipes_and_urls_only(outside):
    with machine.attached():
        trusted = machine.type("bfbridge.Access")(str(outside.parent / "data" / "main.tif"), True)
        assert trusted.objection(str(outside)) is None
        assert text(trusted.objection("/dev/zero")) == "device"
        assert text(trusted.objection("ftp://example.org/x")) == "url"


def test_a_link_to_the_main_file_brings_the_folder_of_its_target(tmp_path):
    for name in ("stored", "work"):
        (tmp_path / name).mkdir()
    for name in ("main.tif", "other.tif"):
        (tmp_path / "stored" / name).touch()
    (tmp_path / "work" / "main.tif").symlink_to(tmp_path / "stored" / "main.tif")
    with machine.attached():
        access = machine.type("bfbridge.Access")(str(tmp_path / "work" / "main.tif"), False)
        assert access.objection(str(tmp_path / "stored" / "other.tif")) is None


def text(found):
    return None if found is None else str(found)


# ---- HDF5, whose library opens files by itself


def hdf5_file(path, make):
    """Write a CellH5 file; `make` writes the data set with its pixels."""
    writer = machine.type("ch.systemsx.cisd.hdf5.HDF5Factory").open(str(path))
    try:
        make(writer, "/sample/0/plate/P/experiment/A1/position/1/image/channel")
    finally:
        writer.close()


def five_axes(writer, path):
    sizes = jpype.JArray(jpype.JInt)([1, 1, 1, 7, 9])
    array = machine.type("ch.systemsx.cisd.base.mdarray.MDByteArray")(sizes)
    writer.uint8().writeMDArray(path, array)


def external_link(target):
    return lambda writer, path: writer.object().createExternalLink(target, "/x", path)


@pytest.mark.parametrize("way", ["absolute", "relative", "two links"])
def test_links_of_hdf5_files_do_not_lead_out(tmp_path, way):
    folder = tmp_path / "data"
    folder.mkdir()
    outside = tmp_path / "secret.h5"
    with machine.attached():
        hdf5_file(outside, lambda writer, path: five_axes(writer, "/x"))
        if way == "two links":
            hdf5_file(
                folder / "b.h5", lambda writer, path: external_link("../secret.h5")(writer, "/x")
            )
            hdf5_file(folder / "a.ch5", external_link("b.h5"))
        else:
            target = str(outside) if way == "absolute" else "../secret.h5"
            hdf5_file(folder / "a.ch5", external_link(target))
    with Opens(outside) as opens:
        with pytest.raises(UnreadableFile, match=r"secret\.h5' as part of its .*outside its own"):
            read(folder / "a.ch5")
        assert opens.count() == 0
