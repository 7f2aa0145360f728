"""`deidentify`: a marker planted in every place of metadata is nowhere in the new file."""

from __future__ import annotations

import io
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from bfbridge import BioReader, BioWriter, imwrite
from bfbridge.curation import check_deidentified, deidentify, deidentify_many
from bfbridge.errors import (
    BadArgument,
    BadSelection,
    FileMissing,
    TargetExists,
    Unsupported,
    WriteFailed,
)
from bfbridge.tiff.jpeg_segments import metadata_of_jpeg, without_metadata
from tests.support.commands import Run
from tests.support.samples import distinct

MARKER = "Zaphod4711"
PIXELS = distinct((2, 3, 2, 40, 50))
COLORS = distinct((1, 3, 1, 32, 48)).astype(np.uint8)
XML = f"""<?xml version="1.0" encoding="UTF-8"?><!-- {MARKER} -->
<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" Creator="{MARKER}">
<Experimenter ID="Experimenter:{MARKER}" FirstName="{MARKER}" Email="{MARKER}@example.org"/>
<Instrument ID="Instrument:{MARKER}"><Microscope SerialNumber="{MARKER}"/>
<Objective ID="Objective:{MARKER}" SerialNumber="{MARKER}" Model="{MARKER}" LensNA="0.8"
 NominalMagnification="20" Immersion="Oil"/></Instrument>
<Image ID="Image:{MARKER}" Name="{MARKER}"><AcquisitionDate>2011-11-11T11:11:11</AcquisitionDate>
<Description>{MARKER}</Description><ExperimenterRef ID="Experimenter:{MARKER}"/>
<InstrumentRef ID="Instrument:{MARKER}"/><ObjectiveSettings ID="Objective:{MARKER}"/>

<StageLabel Name="{MARKER}"/><Pixels ID="Pixels:{MARKER}" DimensionOrder="XYCZT" Type="uint8" SizeX="48" SizeY="32" SizeZ="1"
 SizeC="3" SizeT="1" PhysicalSizeX="0.5" PhysicalSizeY="0.25" PhysicalSizeYUnit="nm">
<Channel ID="Channel:{MARKER}" Name="{{channel}}" Fluor="{MARKER}" SamplesPerPixel="3"/>
<TiffData/><Plane TheZ="0" TheC="0" TheT="0" DeltaT="5" PositionX="7.5" PositionXUnit="mm"/>
</Pixels><ROIRef ID="ROI:0"/><AnnotationRef ID="Annotation:0"/></Image>
<StructuredAnnotations><CommentAnnotation ID="Annotation:0" Namespace="{MARKER}">
<Value>{MARKER}</Value></CommentAnnotation></StructuredAnnotations>
<ROI ID="ROI:0"><Union><Label ID="Shape:0" X="1" Y="2" Text="{MARKER}"/></Union></ROI></OME>"""


def jpeg(pixels: np.ndarray, **options: Any) -> bytes:
    """One JPEG stream with the marker in a comment, in Exif, and after its end."""
    exif = Image.Exif()
    exif[0x010E] = MARKER
    data = io.BytesIO()
    Image.fromarray(pixels).save(
        data, "JPEG", comment=MARKER, exif=exif, icc_profile=MARKER.encode(), **options
    )
    return data.getvalue() + MARKER.encode()


def planted(path: Path, channel: str = "Bright field") -> Path:
    """A colour OME-TIFF with the marker in every place of metadata."""
    rows = np.moveaxis(COLORS[0, :, 0], 0, -1)
    tiles = [jpeg(np.pad(rows[:, x : x + 32], ((0, 0), (0, -rows[:, x : x + 32].shape[1] % 32),
             (0, 0)))) for x in (0, 32)]  # fmt: skip
    tifffile.imwrite(
        path, iter(tiles), shape=rows.shape, dtype="u1", tile=(32, 32), compression="jpeg",
        photometric="ycbcr", subsampling=(2, 2), metadata=None, software=MARKER,
        description=XML.replace("{channel}", channel).encode(),
        datetime="2011:11:11 11:11:11",
        extratags=[
            (tag, "s", 0, MARKER, True) for tag in (269, 271, 272, 285, 315, 316, 33432, 65000)
        ] + [(700, "B", len(MARKER), MARKER.encode(), True)],
    )  # fmt: skip
    with open(path, "ab") as file:
        file.write(MARKER.encode())
    return path


def contents(path: Path) -> Iterator[bytes]:
    """All bytes of a file or store: stored, decompressed, and names."""
    paths = [path] if path.is_file() else sorted(path.rglob("*"))
    for one in paths:
        yield str(one.relative_to(path.parent)).encode()
        if one.is_file():
            yield one.read_bytes()
    if path.is_file():
        with tifffile.TiffFile(path) as tiff:
            for page in tiff.pages:
                assert isinstance(page, tifffile.TiffPage)
                yield str([(tag.name, tag.value) for tag in page.tags]).encode()
                yield page.asarray().tobytes()
    else:
        with BioReader(path) as br:
            yield from (np.asarray(image[:]).tobytes() for image in br.series)


def holds(path: Path, text: str) -> bool:
    forms = [text.encode(), text.encode("utf-16-le"), text.encode("utf-16-be")]
    return any(form in data for data in contents(path) for form in forms)


# ---- streams


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 40, "subsampling": 0}])
def test_jpeg_without_metadata_has_the_same_pixels(options: dict[str, Any]) -> None:
    rows = np.random.default_rng(1).integers(0, 255, (41, 67, 3), np.uint8)
    stream = jpeg(rows, **options)
    clean = without_metadata(stream)
    assert MARKER.encode() in stream and MARKER.encode() not in clean
    assert b"Exif" not in clean and b"ICC_PROFILE" not in clean
    found = metadata_of_jpeg(stream)
    assert [f.split(",")[0] for f in found] == [
        "APP1", "APP2", "comment", f"{len(MARKER)} bytes after the end of the image",
    ]  # fmt: skip
    assert metadata_of_jpeg(clean) == [] and without_metadata(clean) == clean
    before, after = (np.asarray(Image.open(io.BytesIO(s))) for s in (stream, clean))
    np.testing.assert_array_equal(before, after)


def test_jpeg_thumbnail_of_jfif_is_removed() -> None:
    thumbnail = b"JFIF\0\1\2\0\0\1\0\1\1\1" + b"abc"
    stream = b"\xff\xd8\xff\xe0" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail + b"\xff\xd9"
    assert metadata_of_jpeg(stream) == ["APP0, 17 bytes"]
    assert without_metadata(stream) == b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\2\0\0\1\0\1\0\0\xff\xd9"


@pytest.mark.parametrize(
    ("stream", "why"),
    [
        (b"\x89PNG", "does not begin"), (b"\xff\xd8\xff\xf0\0\2\xff\xd9", "0xF0 .* not known"),
        (b"\xff\xd8\xff\xfe\0\x09ab", "cut off"), (b"\xff\xd8ab", "no marker"),
        (b"\xff\xd8\xff\xda\0\2abc", "end is missing"), (b"\xff\xd8", "no marker"),
    ],
)  # fmt: skip
def test_jpeg_that_is_not_understood_is_refused(stream: bytes, why: str) -> None:
    for function in (metadata_of_jpeg, without_metadata):
        with pytest.raises(ValueError, match=why):
            function(stream)


# ---- the marker is nowhere


@pytest.mark.parametrize("name", ["clean.ome.tif", "clean.ome.zarr"])
@pytest.mark.parametrize("recompress", [False, True])
def test_marker_in_every_place_is_removed(tmp_path: Path, name: str, recompress: bool) -> None:
    source = planted(tmp_path / "source.ome.tif")
    assert holds(source, MARKER) and not check_deidentified(source).valid
    target = tmp_path / name
    done = deidentify(source, target, recompress=recompress)
    assert not holds(target, MARKER) and not holds(target, "2011")
    found = check_deidentified(target)
    assert found.valid and [f.message for f in found.findings] == [
        "names of channels: Bright field"
    ]
    assert done.findings == ("names of channels: Bright field",)
    with BioReader(source) as old, BioReader(target) as new:
        np.testing.assert_array_equal(old[:], new[:])
        assert (new.name, new.magnification, new.channel_names[0]) == (
            "Image 0", 20.0, "Bright field",
        )  # fmt: skip
        assert new.physical_pixel_size == old.physical_pixel_size
        lens = new.ome.instruments[0].objectives[0]
        assert (lens.lens_na, lens.immersion.value) == (0.8, "Oil")  # type: ignore[union-attr]
        assert not new.ome.images[0].pixels.planes and not new.ome.experimenters
    text = "\n".join(done.removed)
    for place in ("Experimenter", "Image/AcquisitionDate", "Image/Description", "ROI", "Plane",
                  "StructuredAnnotations", "Microscope", "Fluor"):  # fmt: skip
        assert place in text
    assert MARKER not in str(done.as_dict()).replace(str(tmp_path), "")
    assert "Image/Pixels/Channel@Name: Bright field" in done.kept


def test_jpeg_tiles_are_copied(tmp_path: Path) -> None:
    deidentify(planted(tmp_path / "a.ome.tif"), tmp_path / "b.ome.tif")
    with (
        tifffile.TiffFile(tmp_path / "a.ome.tif") as a,
        tifffile.TiffFile(tmp_path / "b.ome.tif") as b,
    ):
        old, new = a.pages[0], b.pages[0]
        assert new.tags["Compression"].value == 7
        for i in range(2):
            a.filehandle.seek(old.dataoffsets[i])  # type: ignore[union-attr]
            b.filehandle.seek(new.dataoffsets[i])  # type: ignore[union-attr]
            stored = a.filehandle.read(old.databytecounts[i])  # type: ignore[union-attr]
            kept = b.filehandle.read(new.databytecounts[i])  # type: ignore[union-attr]
            assert without_metadata(stored) == kept


@pytest.mark.parametrize(
    "channel", [MARKER, "Doe, Jane", "/home/x", "12.03.1965", "a@b.org", "1234567", "x" * 65]
)
def test_channel_names(tmp_path: Path, channel: str) -> None:
    source = planted(tmp_path / "a.ome.tif", channel)
    deidentify(source, tmp_path / "b.ome.tif", channel_names=False)
    deidentify(source, tmp_path / "c.ome.tif")
    assert not holds(tmp_path / "b.ome.tif", channel)
    # A name that could be a channel's is kept, and listed for a person to look at.
    assert holds(tmp_path / "c.ome.tif", channel) == (channel == MARKER)


@pytest.mark.parametrize("name", ["b.ome.tif", "b.ome.zarr"])
def test_stack_keeps_its_pixels_and_axes(tmp_path: Path, name: str) -> None:
    source = tmp_path / "a.ome.zarr"
    imwrite(source, PIXELS, axes="TCZYX", pixel_size=0.5, pyramid=1, chunks=16,
            channel_names=["DAPI", "GFP", "c"])  # fmt: skip
    root = zarr.open_group(source, mode="a")
    root.attrs["patient"] = MARKER
    root["0"].attrs["patient"] = MARKER
    (source / "notes.txt").write_text(MARKER)
    done = deidentify(source, tmp_path / name, positions=True)
    assert not holds(tmp_path / name, MARKER) and check_deidentified(tmp_path / name).valid
    with BioReader(source) as old, BioReader(tmp_path / name) as new:
        np.testing.assert_array_equal(old[:], new[:])
        assert new.channel_names == ["DAPI", "GFP", "c"]
        assert new.physical_pixel_size == old.physical_pixel_size
    assert "names of channels: DAPI, GFP, c" in done.findings


def test_positions_are_kept_on_request(tmp_path: Path) -> None:
    source = planted(tmp_path / "a.ome.tif")
    for positions in (False, True):
        deidentify(source, tmp_path / "b.ome.tif", positions=positions, overwrite=True)
        with BioReader(tmp_path / "b.ome.tif") as br:
            planes = br.ome.images[0].pixels.planes
            assert [(p.position_x, p.delta_t) for p in planes] == [(7.5, None)] * positions
        assert check_deidentified(tmp_path / "b.ome.tif").valid


# ---- photographs


def slide(path: Path, *, named: bool = True) -> Path:
    """A slide with a photograph of its label; unless it is `named`, of unknown role."""
    from ome_types import OME, model

    names, sides = ("scan", "label image" if named else "scan 2", "detail"), (96, 20, 16)
    images = [
        model.Image(
            id=f"Image:{i}", name=names[i],
            pixels=model.Pixels(
                id=f"Pixels:{i}", dimension_order="XYCZT", type="uint8", size_x=sides[i],
                size_y=sides[i], size_z=1, size_c=3, size_t=1,
                physical_size_x=None if i == 1 else 0.5,
                channels=[model.Channel(id=f"Channel:{i}:0", samples_per_pixel=3)],
            ),
        )
        for i in range(3)
    ]  # fmt: skip
    with BioWriter(path, metadata=OME(images=images), series="all") as bw:
        for number, image in enumerate(bw.series):
            image[:] = np.full((sides[number], sides[number], 1, 3), 50 + number, np.uint8)
    return path


def test_labels_are_dropped_or_blanked(tmp_path: Path) -> None:
    source = slide(tmp_path / "a.ome.tif")
    done = deidentify(source, tmp_path / "b.ome.tif")
    with BioReader(tmp_path / "b.ome.tif") as br:
        assert [(s.name, int(s[:].max())) for s in br.series] == [("Image 0", 50), ("Image 1", 52)]
    assert done.removed[0].startswith("image 1: ") and "20 x 20" in done.removed[0]
    done = deidentify(source, tmp_path / "c.ome.zarr", label_image="blank")
    assert done.removed[0].startswith("pixels of image 1: ")
    assert check_deidentified(tmp_path / "c.ome.zarr").valid
    with BioReader(tmp_path / "c.ome.zarr") as br:
        assert sorted(int(s[:].max()) for s in br.series) == [0, 50, 52]
    deidentify(source, tmp_path / "d.ome.tif", series=[1, 0])
    with BioReader(tmp_path / "d.ome.tif") as br:
        assert sorted(int(s[:].max()) for s in br.series) == [50, 51]


def test_image_that_may_be_a_photograph_is_refused(tmp_path: Path) -> None:
    source = slide(tmp_path / "a.ome.tif", named=False)
    with pytest.raises(Unsupported, match=r"image 1, 20 x 20 .* photograph .* series="):
        deidentify(source, tmp_path / "b.ome.tif")
    assert os.listdir(tmp_path) == ["a.ome.tif"]
    deidentify(source, tmp_path / "b.ome.tif", series=[0])
    assert check_deidentified(tmp_path / "b.ome.tif").valid


def test_masks_of_an_image_are_kept(tmp_path: Path) -> None:
    source = tmp_path / "a.ome.zarr"
    imwrite(source, PIXELS, axes="TCZYX")
    with BioWriter(source, labels=MARKER, Z=2, T=2, dtype="uint8") as bw:
        bw[:] = np.moveaxis(PIXELS[:, :1] % 7, (0, 1, 2), (4, 3, 2))
    for name in ("b.ome.zarr", "b.ome.tif"):
        deidentify(source, tmp_path / name)
        assert not holds(tmp_path / name, MARKER) and check_deidentified(tmp_path / name).valid
        with BioReader(source) as old, BioReader(tmp_path / name) as new:
            assert [(s.role, s.is_mask) for s in new.series] == [("image", False), ("label", True)]
            np.testing.assert_array_equal(old.series[1][:], new.series[1][:])


# ---- refused


def test_never_in_place(tmp_path: Path) -> None:
    source = planted(tmp_path / "a.ome.tif")
    (tmp_path / "link.ome.tif").symlink_to(source)
    os.link(source, tmp_path / "hard.ome.tif")
    before = source.read_bytes()
    for name in ("a.ome.tif", "link.ome.tif", "hard.ome.tif"):
        with pytest.raises(TargetExists, match="the source itself"):
            deidentify(source, tmp_path / name, overwrite=True)
    imwrite(tmp_path / "s.ome.zarr", PIXELS, axes="TCZYX")
    (tmp_path / "link").symlink_to(tmp_path / "s.ome.zarr")
    for inside in ("s.ome.zarr/x.ome.tif", "link/x.ome.zarr"):
        with pytest.raises(TargetExists, match="inside the source"):
            deidentify(tmp_path / "s.ome.zarr", tmp_path / inside)
    assert source.read_bytes() == before and (tmp_path / "link.ome.tif").is_symlink()


def test_what_cannot_be_cleaned_or_checked_is_refused(tmp_path: Path) -> None:
    source = planted(tmp_path / "a.ome.tif")
    for name in ("b.png", "b.ome.zarr.zip", "memory://b.ome.zarr"):
        with pytest.raises(Unsupported, match=r"cannot be checked|give a path"):
            deidentify(source, tmp_path / name if ":" not in name else name)
    with pytest.raises(BadArgument, match="drop, blank"):
        deidentify(source, tmp_path / "b.ome.tif", label_image="black")
    with pytest.raises(BadSelection, match="has 1 images"):
        deidentify(source, tmp_path / "b.ome.tif", series=[3])
    with pytest.raises(FileMissing):
        check_deidentified(tmp_path / "missing.tif")
    with pytest.raises(FileMissing):
        deidentify(tmp_path / "missing.tif", tmp_path / "b.ome.tif")
    Image.new("RGB", (3, 4)).save(tmp_path / "p.png")
    with pytest.raises(Unsupported, match="cannot be checked"):
        check_deidentified(tmp_path / "p.png")
    with pytest.raises(TargetExists, match="exists"):
        deidentify(tmp_path / "p.png", source)
    assert sorted(os.listdir(tmp_path)) == ["a.ome.tif", "p.png"]


def test_interruption_and_failed_check_leave_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = planted(tmp_path / "a.ome.tif"), tmp_path / "b.ome.tif"
    target.write_bytes(b"before")

    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deidentify(source, target, overwrite=True, progress=stop)

    from bfbridge.curation import cleaned_reader

    monkeypatch.setattr(cleaned_reader, "cleaned_document", lambda ome, *_, **__: ome)
    with pytest.raises(WriteFailed, match=r"b\.ome\.tif: not written, .* check"):
        deidentify(source, target, overwrite=True)
    assert target.read_bytes() == b"before"
    assert sorted(os.listdir(tmp_path)) == ["a.ome.tif", "b.ome.tif"]


# ---- the check finds what is planted


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with clean files: JPEG, deflate, uncompressed and two stores."""
    folder = tmp_path_factory.mktemp("clean")
    deidentify(planted(folder / "planted.ome.tif"), folder / "jpeg.ome.tif")
    imwrite(folder / "x.ome.tif", PIXELS, axes="TCZYX", pyramid=1, tile=16)
    deidentify(folder / "x.ome.tif", folder / "deflate.ome.tif")
    for version in ("0.4", "0.5"):
        imwrite(folder / f"{version}.ome.zarr", PIXELS, axes="TCZYX", pyramid=1, version=version)
        assert check_deidentified(folder / f"{version}.ome.zarr").valid
    imwrite(folder / "plain.ome.tif", PIXELS, axes="TCZYX", compression="none")
    assert check_deidentified(folder / "plain.ome.tif").valid
    return folder


def codes(path: Path) -> set[str]:
    found = check_deidentified(path)
    assert not found.valid and MARKER not in str(found.as_dict()).replace(str(path.parent), "")
    return {finding.code for finding in found.errors}


def replaced(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert data.count(old) >= 1
    path.write_bytes(data.replace(old, new, 1))


def test_check_finds_bytes_in_tiffs(clean: Path, tmp_path: Path) -> None:
    for name in ("jpeg", "deflate", "plain"):
        path = tmp_path / f"{name}.ome.tif"
        shutil.copy(clean / path.name, path)
        with open(path, "ab") as file:
            file.write(MARKER.encode())
        assert codes(path) == {"identifying-bytes"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'Name="Image 0"', b'Name="Zaphod0"'), (b'Creator="bfbridge"', b'Creator="Zaphod47"'),
        (b"<TiffData ", b"<Zaphod4/ "), (b"</Image>", b"<!--Z-->"),
        (b'ID="Image:0"', b'ID="Zaphod7"'), (b'="Image 0">', b'="Image 0"/'),
    ],
)  # fmt: skip
def test_check_finds_texts_in_ome_xml(clean: Path, tmp_path: Path, old: bytes, new: bytes) -> None:
    path = tmp_path / "a.ome.tif"
    shutil.copy(clean / "deflate.ome.tif", path)
    replaced(path, old, new)
    assert codes(path) == {"identifying-xml"}


@pytest.mark.parametrize(
    "change",
    [
        lambda xml: xml.replace("<Image ", f"<!-- {MARKER} --><Image ", 1),
        lambda xml: xml.replace("<Image ", f"<?{MARKER}?><Image ", 1),
        lambda xml: xml.replace("<Image ", f"{MARKER}<Image ", 1),
        lambda xml: xml.replace("<Image ", f"<{MARKER}/><Image ", 1),
        lambda xml: xml.replace("<Image ", f'<Image xmlns:a="{MARKER}" ', 1),
        lambda xml: xml.replace("</OME>", f"<Plate ID='Plate:0' Name='{MARKER}'/></OME>"),
        lambda xml: f"<!DOCTYPE a [<!ENTITY b '{MARKER}'>]>" + xml[xml.index("<OME") :],
        lambda xml: xml + MARKER,
        lambda xml: xml.replace("<OME ", f"<{MARKER} ").replace("</OME>", f"</{MARKER}>"),
        lambda xml: xml.replace('ome.xsd"', f'ome.xsd {MARKER}"'),
        lambda xml: xml.replace("<Image ", f"<OME><Experimenter FirstName='{MARKER}'/></OME><Image ",
                                1),
    ],
)  # fmt: skip
def test_check_finds_nodes_in_ome_xml(
    clean: Path, tmp_path: Path, change: Callable[[str], str]
) -> None:
    store = tmp_path / "a.ome.zarr"
    shutil.copytree(clean / "0.5.ome.zarr", store)
    path = store / "OME/METADATA.ome.xml"
    path.write_text(change(path.read_text()))
    assert codes(store) == {"identifying-xml"}


@pytest.mark.parametrize("tag", [269, 270, 305, 306, 315, 316, 700, 33432, 34675, 65000])
def test_check_finds_tags(tmp_path: Path, tag: int) -> None:
    """Also in the last directory and in a directory of SubIFDs."""
    data = MARKER.encode()
    extra = [(tag, "B" if tag in (700, 34675) else "s", 0, data, True)]
    pixels = PIXELS[0, 0, 0]
    for place in range(2):
        path = tmp_path / f"{place}.tif"
        with tifffile.TiffWriter(path) as writer:
            options = [{}, {}]
            options[place] = {"extratags": extra}
            writer.write(pixels, subifds=1, metadata=None, software=False, **options[0])
            writer.write(pixels[::2, ::2], metadata=None, software=False, subfiletype=1,
                         **options[1])  # fmt: skip
        assert codes(path) == {"identifying-tag"}


def test_check_finds_what_readers_of_tiff_ignore(clean: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffFile(clean / "plain.ome.tif") as tiff:
        page = tiff.pages[0]
        entry, at = page.tags["XResolution"].offset, page.dataoffsets[0]  # type: ignore[union-attr]
    # A tag of an unknown field type; more values than a number has; a field of text.
    for where, data in ((entry + 2, b"\x63\0"), (entry + 4, b"\2"), (entry + 2, b"\2\0")):
        whole = bytearray((clean / "plain.ome.tif").read_bytes())
        whole[where : where + len(data)] = data
        path.write_bytes(whole)
        assert "identifying-tag" in codes(path)
    assert at


def test_check_finds_metadata_in_segments(clean: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    rows = np.moveaxis(COLORS[0, :, 0], 0, -1)[:, :32]
    for stream, code in (
        (jpeg(rows), "identifying-jpeg"),
        (jpeg(rows)[:-9], "identifying-jpeg"),
        (b"no stream", "identifying-jpeg"),
    ):
        tifffile.imwrite(
            path, iter([stream]), shape=rows.shape, dtype="u1", tile=(32, 32), compression="jpeg",
            photometric="ycbcr", metadata=None, software=False,
        )  # fmt: skip
        assert codes(path) == {code}
    stored = zlib.compress(rows.tobytes())
    for stream in (stored + MARKER.encode(), zlib.compress(rows.tobytes() + MARKER.encode())):
        tifffile.imwrite(
            path, iter([stream]), shape=rows.shape, dtype="u1", tile=(32, 32),
            compression="adobe_deflate", photometric="rgb", metadata=None, software=False,
        )  # fmt: skip
        assert codes(path) == {"identifying-segment"}
    tifffile.imwrite(path, rows, compression="zstd", metadata=None, software=False)
    assert codes(path) == {"identifying-compression"}


def add_json(path: Path, keys: list[Any], value: Any) -> None:
    document = json.loads(path.read_text())
    inner = document
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("version", "name", "keys"),
    [
        ("0.4", ".zattrs", [MARKER]), ("0.4", ".zattrs", ["multiscales", 0, "name"]),
        ("0.4", ".zattrs", ["omero", "channels", 0, "note"]), ("0.4", ".zgroup", ["note"]),
        ("0.4", ".zattrs", ["omero", "channels", 0, "family"]), ("0.4", "0/.zarray", ["note"]),
        ("0.4", ".zattrs", ["multiscales", 0, "axes", 0, "unit"]),
        ("0.4", "OME/.zgroup", ["note"]), ("0.4", "0/.zarray", ["fill_value"]),
        ("0.5", "zarr.json", ["attributes", "note"]), ("0.5", "zarr.json", ["attributes", "ome", "n"]),
        ("0.5", "zarr.json", ["attributes", "ome", "multiscales", 0, "metadata", "method"]),
        ("0.5", "zarr.json", ["consolidated_metadata"]), ("0.5", "0/zarr.json", ["attributes", "a"]),
        ("0.5", "1/zarr.json", ["dimension_names", 0]), ("0.5", "OME/zarr.json", ["attributes", "a"]),
        ("0.5", "0/zarr.json", ["storage_transformers"]),
    ],
)  # fmt: skip
def test_check_finds_attributes(
    clean: Path, tmp_path: Path, version: str, name: str, keys: list[Any]
) -> None:
    store = tmp_path / "a.ome.zarr"
    shutil.copytree(clean / f"{version}.ome.zarr", store)
    add_json(store / name, keys, MARKER)
    assert "identifying-attribute" in codes(store)


def test_check_finds_files_in_stores(clean: Path, tmp_path: Path) -> None:
    def attributes(store: Path) -> None:
        (store / "0/.zattrs").write_text(json.dumps({"patient": MARKER}))

    def twice(store: Path) -> None:
        text = (store / "zarr.json").read_text()
        (store / "zarr.json").write_text(text.replace("{", f'{{"zarr_format": "{MARKER}",', 1))

    def chunk(store: Path) -> None:
        with open(store / "0/c/0/0/0/0/0", "ab") as file:
            file.write(MARKER.encode())

    def outside(store: Path) -> None:
        shutil.copy(store / "0/c/0/0/0/0/0", store / "0/c/0/0/0/0/9")

    changes: list[tuple[Callable[[Path], Any], str]] = [
        (lambda store: (store / f"{MARKER}.txt").write_text("a"), "identifying-file"),
        (lambda store: (store / "0/.hidden").write_text(MARKER), "identifying-file"),
        (lambda store: (store / f"0/{MARKER}").mkdir(), "identifying-file"),
        (lambda store: (store / "7").symlink_to(f"/{MARKER}"), "identifying-file"),
        (lambda store: (store / "0/c/0/0/0/0/0").rename(store / "0/c/0/0/0/0/00"),
         "identifying-file"),
        (lambda store: (store / "0/zarr.json").write_text(MARKER), "identifying-file"),
        (attributes, "identifying-attribute"), (twice, "identifying-attribute"),
        (chunk, "identifying-chunk"), (outside, "identifying-file"),
    ]  # fmt: skip
    for number, (change, code) in enumerate(changes):
        store = tmp_path / f"{number}.ome.zarr"
        shutil.copytree(clean / "0.5.ome.zarr", store)
        change(store)
        assert code in codes(store)
    imwrite(tmp_path / "z.ome.zarr", PIXELS, axes="TCZYX", compression="gzip")
    imwrite(tmp_path / "s.ome.zarr", PIXELS, axes="TCZYX", chunks=16, shards=64)
    for name in "zs":
        assert "identifying-compression" in codes(tmp_path / f"{name}.ome.zarr")


# ---- many files, and the command


@pytest.mark.java  # which files belong together
def test_many_files_get_neutral_names(tmp_path: Path, run: Run) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    planted(folder / f"{MARKER}.ome.tif")
    imwrite(folder / "b.ome.zarr", PIXELS, axes="TCZYX")
    (folder / "c.ome.zarr").mkdir()
    (folder / "c.ome.zarr/zarr.json").write_text("{")
    results = deidentify_many(folder, tmp_path / "out", suffix=".ome.zarr")
    errors = {Path(result.source).name: result.error is not None for result in results}
    assert errors == {f"{MARKER}.ome.tif": False, "b.ome.zarr": False, "c.ome.zarr": True}
    made = sorted(os.listdir(tmp_path / "out"))
    assert len(made) == 2 and all(name.startswith("image_000") for name in made)
    assert not any(holds(tmp_path / "out" / name, MARKER) for name in made)
    done = run("deidentify", folder, tmp_path / "out2", "--json")
    assert done.code == 1 and "c.ome.zarr" in done.err
    assert len(json.loads(done.out)) == 3


def test_command(tmp_path: Path, run: Run) -> None:
    source, target = planted(tmp_path / "a.ome.tif"), tmp_path / "b.ome.tif"
    assert run("deidentify", "--check", source).code == 1
    done = run("deidentify", source, target)
    assert done.code == 0, done.err
    assert "removed:" in done.out and "Image/Description: 1 of 1 values" in done.out
    assert "look at: names of channels: Bright field" in done.out
    done = run("deidentify", "--check", target)
    assert (done.code, done.out.splitlines()[-1]) == (0, f"{target}: nothing found")
    done = run("deidentify", "--check", "--json", source)
    assert done.code == 1 and json.loads(done.out)["valid"] is False and MARKER not in done.out
    done = run("deidentify", source, target)
    assert done.code == 1 and "exists" in done.err
    done = run("deidentify", source, target, "--overwrite", "--json", "--no-channel-names")
    assert done.code == 0 and json.loads(done.out)["findings"] == []
    assert run("deidentify", source).code == 2
