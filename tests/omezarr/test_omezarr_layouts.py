"""OME-Zarr stores laid out in ways that are seldom met: old ones, new ones, incomplete ones."""

from __future__ import annotations

import json
import logging
import shutil
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

zarr = pytest.importorskip("zarr")

from bfbridge.backend import OpenOptions, PixelSize, Quantity, Region  # noqa: E402
from bfbridge.errors import UnreadableFile  # noqa: E402
from bfbridge.storage.source import as_source  # noqa: E402
from bfbridge_omezarr import OmeZarrReader  # noqa: E402
from tests.support.webserver import serve  # noqa: E402

Array = np.ndarray[Any, Any]
VALUES: Array = (np.arange(23 * 29) * 7 + 3).reshape(23, 29).astype(np.uint16)


def open_reader(path: Any, **options: Any) -> OmeZarrReader:
    return OmeZarrReader.open(as_source(path), OpenOptions(**options))


def plane(reader: OmeZarrReader, image: int = 0) -> Array:
    """The first plane of an image's level 0."""
    _, _, _, y, x = reader.images[image].levels[0].shape
    out = np.empty((1, 1, 1, y, x), reader.images[image].dtype)
    reader.read(Region(image, 0, (0,) * 5, out.shape), out)
    return out[0, 0, 0]


def document(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def group(path: Path, attributes: dict[str, Any], zarr_format: int = 2) -> None:
    if zarr_format == 2:
        document(path / ".zgroup", {"zarr_format": 2})
        document(path / ".zattrs", attributes)
        return
    ome = {"ome": {"version": "0.5", **attributes}}
    document(path / "zarr.json", {"zarr_format": 3, "node_type": "group", "attributes": ome})


def multiscale(path: str = "0", **more: Any) -> dict[str, Any]:
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    return {"axes": axes, "datasets": [{"path": path}], **more}


def image(path: Path, zarr_format: int = 2, array: str = "0", add: int = 0, **more: Any) -> Path:
    """An image whose pixels are VALUES + `add`."""
    group(path, {"multiscales": [multiscale(array, **more)]}, zarr_format)
    made = zarr.create_array(
        zarr.storage.LocalStore(path / array),  # in a text, "?" begins a query
        shape=VALUES.shape,
        dtype=VALUES.dtype,
        chunks=(10, 12),
        zarr_format=zarr_format,
        chunk_key_encoding={"name": "v2", "separator": "/"} if zarr_format == 2 else None,
    )
    made[...] = VALUES + add
    return path


# ---- old and new


@pytest.mark.parametrize("told", ["not at all", "null"])
def test_nested_chunks_of_arrays_that_do_not_tell_of_them(tmp_path: Path, told: str) -> None:
    path = image(tmp_path / "a.zarr")
    stored = json.loads((path / "0/.zarray").read_text())
    del stored["dimension_separator"]
    document(
        path / "0/.zarray", stored if told != "null" else {**stored, "dimension_separator": None}
    )
    np.testing.assert_array_equal(plane(open_reader(path)), VALUES)
    # A missing chunk is the fill value; a name with dots takes precedence.
    (path / "0/1/1").unlink()
    (path / "0/0/0").rename(path / "0/0.0")
    expected = VALUES.copy()
    expected[10:20, 12:24] = 0
    np.testing.assert_array_equal(plane(open_reader(path)), expected)


def ends(path: str, system: Any) -> dict[str, Any]:
    return {"input": {"path": path}, "output": system}


@pytest.mark.parametrize("system", [{"name": "intrinsic"}, "intrinsic"])
def test_axes_of_the_system_that_the_levels_lead_to(tmp_path: Path, system: Any) -> None:
    path = image(tmp_path / "a.zarr", 3)
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "yx"]
    entry = {
        "coordinateSystems": [
            {"name": "turned", "axes": axes[::-1]},
            {"name": "intrinsic", "axes": axes},
        ],
        "datasets": [
            {
                "path": "0",
                "coordinateTransformations": [
                    {"type": "scale", "scale": [4.0, 3.0], **ends("0", system)}
                ],
            }
        ],
        "coordinateTransformations": [
            {
                "type": "mapAxis",
                "mapAxis": [1, 0],
                "input": {"name": "intrinsic"},
                "output": {"name": "turned"},
            }
        ],
    }
    group(path, {"version": "0.6rc0", "multiscales": [entry]}, 3)
    reader = open_reader(path)
    np.testing.assert_array_equal(plane(reader), VALUES)
    assert reader.images[0].pixel_size == PixelSize(Quantity(3, "nm"), Quantity(4, "nm"))


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ([{"type": "identity"}], 1.0),
        ([{"type": "identity"}, {"type": "scale", "scale": [2, 2]}], 2.0),
        ([{"type": "sequence", "transformations": [{"type": "identity"}]}], 1.0),
        ([{"type": "translation", "translation": [2, 2]}], None),
    ],
)
def test_identity_is_a_scale_of_one(tmp_path: Path, stored: Any, expected: float | None) -> None:
    path = image(tmp_path / "a.zarr", 3)
    entry = multiscale()
    entry["datasets"][0]["coordinateTransformations"] = stored
    group(path, {"multiscales": [entry]}, 3)
    size = open_reader(path).images[0].pixel_size.x
    assert size == (None if expected is None else Quantity(expected, "µm"))


def test_images_of_a_scene(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    world = {"name": "world"}
    tiles = [{"path": name, "name": "physical"} for name in ("row/tile 1", "tile 0")]
    scene = {
        "coordinateTransformations": [
            {"type": "translation", "translation": [0, 9], "input": tiles[0], "output": world},
            {"type": "translation", "translation": [0, 0], "input": tiles[1], "output": world},
            {"type": "translation", "translation": [0, 9], "input": tiles[0], "output": tiles[1]},
        ],
        "coordinateSystems": [{"name": "world", "axes": multiscale()["axes"]}],
    }
    group(path, {"version": "0.6rc0", "scene": scene}, 3)
    image(path / "tile 0", 3, add=5)
    image(path / "row/tile 1", 3, add=6, name="its own name")
    reader = open_reader(path)
    assert [record.name for record in reader.images] == ["row/tile 1", "tile 0"]
    np.testing.assert_array_equal(plane(reader, 0), VALUES + 6)
    np.testing.assert_array_equal(plane(reader, 1), VALUES + 5)


@pytest.mark.parametrize(
    ("dtype", "stored", "expected"),
    [
        ("complex64", ["0x3f800000", "NaN"], complex(1, np.nan)),
        ("complex128", [1, "-Infinity"], complex(1, -np.inf)),
        ("int8", -3.0, -3),
    ],
)
def test_fill_values(tmp_path: Path, dtype: str, stored: Any, expected: Any) -> None:
    path = tmp_path / "a.zarr"
    group(path, {"multiscales": [multiscale()]}, 3)
    zarr.create_array(str(path / "0"), shape=(4, 5), dtype=dtype, zarr_format=3)
    array = json.loads((path / "0/zarr.json").read_text())
    document(path / "0/zarr.json", {**array, "fill_value": stored})
    expected = np.full((4, 5), expected, dtype)
    np.testing.assert_array_equal(plane(open_reader(path)), expected)
    document(path / "0/zarr.json", {**array, "data_type": "int16", "fill_value": 1.5})
    with pytest.raises(UnreadableFile, match=r"fill value 1.5 is invalid"):
        open_reader(path)


# ---- several images


def test_several_multiscales_in_one_group(tmp_path: Path) -> None:
    path = image(tmp_path / "a.zarr")
    image(path, array="nested/other", add=4)
    entries = [multiscale("0", name="first"), multiscale("nested/other", name="second")]
    group(path, {"multiscales": entries})
    reader = open_reader(path)
    assert [record.name for record in reader.images] == ["first", "second"]
    np.testing.assert_array_equal(plane(reader, 0), VALUES)
    np.testing.assert_array_equal(plane(reader, 1), VALUES + 4)


def test_a_label_that_is_not_there_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = image(tmp_path / "a.zarr")
    group(path / "labels", {"labels": ["gone", "nested/deep/cells"]})
    colors = {"colors": [{"label-value": 1, "rgba": [255, 0, 0, 255]}]}
    image(path / "labels/nested/deep/cells", add=2)
    stored = json.loads((path / "labels/nested/deep/cells/.zattrs").read_text())
    document(path / "labels/nested/deep/cells/.zattrs", {**stored, "image-label": colors})
    with caplog.at_level(logging.WARNING, "bfbridge.omezarr"):
        reader = open_reader(path)
    assert "a.zarr/labels: the label labels/gone is listed, but is missing" in caplog.text
    assert [(record.name, record.role) for record in reader.images] == [
        (None, "image"),
        ("nested/deep/cells", "label"),
    ]
    np.testing.assert_array_equal(plane(reader, 1), VALUES + 2)


def plate(path: Path, zarr_format: int) -> Path:
    wells = [{"path": name, "rowIndex": 0, "columnIndex": 0} for name in ("A/1", "B/2")]
    acquisitions = [{"id": 1, "name": "first"}, {"id": 2}]
    group(path, {"plate": {"wells": wells, "acquisitions": acquisitions}}, zarr_format)
    for well, fields in (("A/1", 2), ("B/2", 1)):
        images = [{"path": str(i), "acquisition": i + 1} for i in range(fields)]
        group(path / well, {"well": {"images": images}}, zarr_format)
        for i in range(fields):
            image(path / well / str(i), zarr_format, add=10 * ord(well[0]) + i)
    return path


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_plates_with_acquisitions_and_unlike_wells(tmp_path: Path, zarr_format: int) -> None:
    path = plate(tmp_path / "a.zarr", zarr_format)
    reader = open_reader(path)
    assert [record.name for record in reader.images] == ["A1/0", "A1/1", "B2/0"]
    for number, add in enumerate((650, 651, 660)):
        np.testing.assert_array_equal(plane(reader, number), VALUES + add)


@pytest.mark.parametrize("missing", ["B/2", "A/1/1"])
def test_a_plate_with_a_part_missing_is_an_error_that_helps(tmp_path: Path, missing: str) -> None:
    path = plate(tmp_path / "a.zarr", 2)
    shutil.rmtree(path / missing)
    with pytest.raises(UnreadableFile, match=f"{missing}', which is missing.*separately"):
        open_reader(path)
    np.testing.assert_array_equal(plane(open_reader(path / "A/1/0")), VALUES + 650)


def test_ome_xml_of_more_images_than_there_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from ome_types import OME
    from ome_types.model import Image, Pixels

    path = tmp_path / "a.zarr"
    group(path, {"bioformats2raw.layout": 3})
    for number in (0, 1, 3):
        image(path / str(number), add=number)
    pixels = {"dimension_order": "XYZCT", "type": "uint16", "size_x": 29, "size_y": 23,
              "size_z": 1, "size_c": 1, "size_t": 1}  # fmt: skip
    xml = OME(images=[Image(name=f"im {i}", pixels=Pixels(**pixels)) for i in range(4)]).to_xml()
    (path / "OME").mkdir()
    (path / "OME/METADATA.ome.xml").write_text(xml)
    with caplog.at_level(logging.WARNING, "bfbridge.omezarr"):
        reader = open_reader(path)
    assert "describes 4 images where the store has 2" in caplog.text
    assert [record.name for record in reader.images] == [None, None]
    assert (reader.ome_xml() or "").count("<Image ") == 2


# ---- names and places


def test_names_that_xml_cannot_hold(tmp_path: Path) -> None:
    path = image(tmp_path / "a.zarr", name="a\0b\ud800c")
    stored = json.loads((path / ".zattrs").read_text())
    stored["omero"] = {"channels": [{"label": "GFP\x1b"}]}
    document(path / ".zattrs", stored)
    reader = open_reader(path)
    assert reader.images[0].name == "a\ufffdb\ufffdc"
    assert reader.images[0].channels[0].name == "GFP\ufffd"
    assert 'Name="a\ufffdb\ufffdc"' in (reader.ome_xml() or "")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_keys_with_spaces_and_signs(tmp_path: Path, zarr_format: int) -> None:
    name = "Bild ä 日本 #1 100%.zarr"
    path = image(tmp_path / name, zarr_format, array="s 0/ü#%?")
    np.testing.assert_array_equal(plane(open_reader(path)), VALUES)
    with serve(tmp_path) as web:
        remote = open_reader(f"{web.url}/{quote(name)}")
        np.testing.assert_array_equal(plane(remote), VALUES)


def packed(path: Path, target: Path, folders: list[str], beside: list[str]) -> Path:
    with zipfile.ZipFile(target, "w") as archive:
        for name in beside:
            archive.writestr(name, "what is no store")
        for folder in folders:
            for file in sorted(path.rglob("*")):
                if file.is_file():
                    archive.write(file, folder + file.relative_to(path).as_posix())
    return target


@pytest.mark.parametrize("folder", ["", "a.zarr/", "data/of today/a.zarr/"])
def test_zip_files_with_more_than_the_store(tmp_path: Path, folder: str) -> None:
    path = image(tmp_path / "a.zarr")
    beside = ["README.txt", ".DS_Store", "__MACOSX/a.zarr/._0", "data/notes.zarr.json"]
    reader = open_reader(packed(path, tmp_path / "a.zip", [folder], beside))
    np.testing.assert_array_equal(plane(reader), VALUES)


def test_zip_files_of_several_stores(tmp_path: Path) -> None:
    path = image(tmp_path / "a.zarr")
    target = packed(path, tmp_path / "two.zip", ["a.zarr/", "b.zarr/"], [])
    with pytest.raises(UnreadableFile, match=r"two.zip: .* 2 Zarr stores in it \(a.zarr/, b.zarr"):
        open_reader(target)
