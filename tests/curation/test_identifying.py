"""What `check_deidentified` finds, place by place; and metadata in JPEG streams."""

from __future__ import annotations

import io
import json
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from bfbridge import imwrite
from bfbridge.curation import check_deidentified, deidentify
from bfbridge.tiff.jpeg_segments import metadata_of_jpeg, without_metadata
from tests.support.identifying import COLORS, MARKER, PIXELS, jpeg, planted

# ---- streams


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 40, "subsampling": 0}])
def test_jpeg_without_metadata_has_the_same_pixels(options: dict[str, Any]) -> None:
    rows = np.random.default_rng(1).integers(0, 255, (41, 67, 3), np.uint8)
    stream = jpeg(rows, **options)
    clean = without_metadata(stream)
    assert MARKER.encode() in stream
    assert MARKER.encode() not in clean
    assert b"Exif" not in clean
    assert b"ICC_PROFILE" not in clean
    found = metadata_of_jpeg(stream)
    assert [f.split(",")[0] for f in found] == [
        "APP1", "APP2", "comment", f"{len(MARKER)} bytes after the end of the image",
    ]  # fmt: skip
    assert metadata_of_jpeg(clean) == []
    assert without_metadata(clean) == clean
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
    assert not found.valid
    assert MARKER not in str(found.as_dict()).replace(str(path.parent), "")
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
        lambda xml: xml.replace("<Image ", f"<OME><Group Name='{MARKER}'/></OME><Image ",
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
        entry = page.tags["XResolution"].offset  # type: ignore[union-attr]
    # A tag of an unknown field type; more values than a number has; a field of text.
    for where, data in ((entry + 2, b"\x63\0"), (entry + 4, b"\2"), (entry + 2, b"\2\0")):
        whole = bytearray((clean / "plain.ome.tif").read_bytes())
        whole[where : where + len(data)] = data
        path.write_bytes(whole)
        assert "identifying-tag" in codes(path)


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
        ("0.5", "zarr.json", ["attributes", "note"]),
        ("0.5", "zarr.json", ["attributes", "ome", "n"]),
        ("0.5", "zarr.json", ["attributes", "ome", "multiscales", 0, "metadata", "method"]),
        ("0.5", "zarr.json", ["consolidated_metadata"]),
        ("0.5", "0/zarr.json", ["attributes", "a"]),
        ("0.5", "1/zarr.json", ["dimension_names", 0]),
        ("0.5", "OME/zarr.json", ["attributes", "a"]),
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

    def link(store: Path) -> None:
        (store / "OME/METADATA.ome.xml").rename(tmp_path / "a.xml")
        (store / "OME/METADATA.ome.xml").symlink_to(tmp_path / "a.xml")

    def outside(store: Path) -> None:
        shutil.copy(store / "0/c/0/0/0/0/0", store / "0/c/0/0/0/0/9")

    changes: list[tuple[Callable[[Path], Any], str]] = [
        (lambda store: (store / f"{MARKER}.txt").write_text("a"), "identifying-file"),
        (lambda store: (store / "0/.hidden").write_text(MARKER), "identifying-file"),
        (lambda store: (store / f"0/{MARKER}").mkdir(), "identifying-file"),
        (lambda store: (store / "7").symlink_to(f"/{MARKER}"), "identifying-file"),
        (link, "identifying-file"),
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
