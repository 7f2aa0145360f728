"""Opening a file asks nothing of the network, reads nothing else, and does not explode."""

from __future__ import annotations

import contextlib
import time

import numpy as np
import pytest
import tifffile

import bfbridge_bioformats
from bfbridge.backend import OpenOptions
from bfbridge.errors import BfbridgeError
from bfbridge.storage.source import as_source
from bfbridge_bioformats.runtime.machine import machine
from tests.support.webserver import listen

pytestmark = pytest.mark.java

BODY = """<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/{version}">
<Image ID="Image:0" Name="{name}"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8"
 SizeX="9" SizeY="7" SizeZ="1" SizeC="1" SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>
<TiffData/></Pixels></Image></OME>"""

PAYLOADS = {
    "external document type": '<!DOCTYPE OME SYSTEM "{url}/a.dtd">',
    "external entity": '<!DOCTYPE OME [<!ENTITY x SYSTEM "{url}/entity">]>',
    "file entity": '<!DOCTYPE OME [<!ENTITY x SYSTEM "file://{secret}">]>',
    "parameter entity": '<!DOCTYPE OME [<!ENTITY % p SYSTEM "{url}/p"> %p;]>',
    "entity bomb": "<!DOCTYPE OME [<!ENTITY a '0123456789'>"
    + "".join(
        f"<!ENTITY {new} '{f'&{old};' * 10}'>"
        for old, new in zip("abcdefgh", "bcdefghx", strict=True)
    )
    + "]>",
}
LEICA = (
    '<LMSDataContainerHeader Version="2"><Element Name="{name}"></Element></LMSDataContainerHeader>'
)
CARRIERS = {
    "a.ome.tif": BODY,
    "old.ome.tif": BODY.replace("{version}", "2003-FC"),
    "a.ome": BODY,
    "a.ome.xml": BODY,
    "a.companion.ome": BODY,
    "a.xlef": LEICA,
    "a.lof": LEICA,
    "Index.idx.xml": "<EvaluationInputData><User>{name}</User></EvaluationInputData>",
    "a.xml": '<PVScan version="4"><SystemConfiguration>{name}</SystemConfiguration></PVScan>',
    "a.wpi": '<bts:WellPlate xmlns:bts="x" bts:Name="{name}"></bts:WellPlate>',
}


@pytest.fixture(scope="module")
def canary():
    """A web server that notes every request."""
    with listen() as heard:
        yield heard


@pytest.fixture(scope="module")
def heap_before():
    """Bytes of Java's heap in use before the tests of this module."""
    return used_memory(collected=True)


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("carrier", CARRIERS)
def test_xml_reaches_nothing(tmp_path, canary, heap_before, carrier, payload):
    url, asked = canary
    secret = tmp_path / "secret.txt"
    secret.write_text("SECRETCONTENT")
    doctype = (
        PAYLOADS[payload].format(url=url, secret=secret)
        if "{" in PAYLOADS[payload]
        else (PAYLOADS[payload])
    )
    name = "plain" if "document type" in payload or "parameter" in payload else "&x;"
    body = CARRIERS[carrier].format(name=name, version="2016-06")
    xml = f'<?xml version="1.0" encoding="UTF-8"?>\n{doctype}{body}'
    path = tmp_path / carrier
    if carrier.endswith(".tif"):
        image = np.zeros((7, 9), np.uint8)
        tifffile.imwrite(path, image, description=xml, metadata=None)
    else:
        path.write_text(xml)
    begun = time.monotonic()
    with contextlib.suppress(BfbridgeError):
        reader = bfbridge_bioformats.READER.open(as_source(path), OpenOptions())
        assert "SECRETCONTENT" not in (reader.ome_xml() or "")
        assert "SECRETCONTENT" not in str(reader.original_metadata)
        assert (reader.images[0].name or "") in ("", "plain", "&x;", carrier)
        reader.close()
    assert asked == []
    assert time.monotonic() - begun < 10
    # A full collection takes long: it is made only if there is doubt.
    limit = heap_before + (200 << 20)
    assert used_memory() < limit or used_memory(collected=True) < limit


def used_memory(*, collected=False):
    with machine.attached():
        runtime = machine.type("java.lang.Runtime").getRuntime()
        if collected:
            machine.type("java.lang.System").gc()
        return int(runtime.totalMemory() - runtime.freeMemory())


def test_no_memo_file_is_read_or_written(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((7, 9), np.uint8))
    (tmp_path / ".a.tif.bfmemo").write_bytes(b"not a memo")
    reader = bfbridge_bioformats.READER.open(as_source(tmp_path / "a.tif"), OpenOptions())
    assert reader.images[0].levels[0].shape == (1, 1, 1, 7, 9)
    reader.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == [".a.tif.bfmemo", "a.tif"]


def test_damaged_files_end_in_errors_of_ours(tmp_path):
    """Bytes changed at random: whether pixels are right is not asked here, only manners."""
    path = tmp_path / "a.tif"
    image = np.arange(4 * 40 * 30, dtype=np.uint16).reshape(4, 40, 30)
    tifffile.imwrite(path, image, compression="lzw", photometric="minisblack")
    whole = path.read_bytes()
    rng = np.random.default_rng(11)
    messages = []
    for _ in range(150):
        data = bytearray(whole)
        for at in rng.integers(0, len(data), 6):
            data[at] = int(rng.integers(256))
        path.write_bytes(data)
        begun = time.monotonic()
        try:
            reader = bfbridge_bioformats.READER.open(as_source(path), OpenOptions())
            reader.ome()
            reader.close()
        except BfbridgeError as error:
            messages.append(str(error))
        assert time.monotonic() - begun < 10
    assert messages
    assert all("a.tif" in message for message in messages)
