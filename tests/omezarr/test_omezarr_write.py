"""Writing OME-Zarr: zarr-python, tensorstore and yaozarrs judge what is written."""

from __future__ import annotations

import itertools
import json
import math
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

zarr = pytest.importorskip("zarr")

from bfbridge.backend import (  # noqa: E402
    Channel,
    Extras,
    Image,
    ImageSpec,
    Level,
    OpenOptions,
    PixelSize,
    Quantity,
    Region,
    Shape5,
)
from bfbridge.errors import (  # noqa: E402
    BadArgument,
    BadDtype,
    BfbridgeError,
    Closed,
    WriteFailed,
)
from bfbridge.storage.source import as_source  # noqa: E402
from bfbridge_omezarr import OmeZarrReader, OmeZarrWriter  # noqa: E402
from bfbridge_omezarr.attributes.ome import make_ome  # noqa: E402

Array = np.ndarray[Any, Any]
IMAGE_FIELDS = ("name", "role", "samples", "channels", "pixel_size")
SIZE = PixelSize(Quantity(0.25, "µm"), Quantity(0.5, "µm"), Quantity(2, "µm"))
LAYOUTS: list[dict[str, Any]] = [
    {"version": "0.4"},
    {"version": "0.5"},
    {"version": "0.5", "shards": (64, 48)},
    {"version": "0.5", "shards": (2, 2, 3, 32, 48)},
]
DTYPES = ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "c8", "c16", "?")
LAYOUT_IDS = ["0.4", "0.5", "sharded", "sharded over all axes"]


def counting(shape: Sequence[int], dtype: str = "uint16") -> Array:
    values = np.arange(math.prod(shape)) * 7 + 3
    return values.reshape(shape).astype(dtype)


def spec_of(levels: Sequence[Array], options: Mapping[str, Any], **more: Any) -> ImageSpec:
    """What the face would plan for arrays that are the levels of an image."""
    first = levels[0]
    image_fields = {k: more.pop(k) for k in IMAGE_FIELDS if k in more}
    channels = tuple(Channel(f"ch{i}", (255, i, 0, 255)) for i in range(first.shape[1]))
    fields: dict[str, Any] = {
        "name": "cells",
        "pixel_size": SIZE,
        "channels": channels,
        **image_fields,
    }
    flat = Image(levels=(Level(first.shape, first.shape),), dtype=first.dtype, **fields)
    chunk = OmeZarrWriter.default_chunk(flat, options)
    # Lower levels get the chunk of level 0, though they may be smaller.
    records = tuple(Level(level.shape, chunk) for level in levels)
    return ImageSpec(Image(levels=records, dtype=first.dtype, **fields), **more)


def begin(path: Path, specs: Sequence[ImageSpec], options: Mapping[str, Any]) -> OmeZarrWriter:
    OmeZarrWriter.check(options)
    ome = make_ome([spec.image for spec in specs], None, [None] * len(specs))
    return OmeZarrWriter.prepare(path, specs, ome, options)


def grid(level: Level) -> Iterator[tuple[Shape5, tuple[slice, ...]]]:
    """Position and place of every block of a level."""
    counts = [-(-size // chunk) for size, chunk in zip(level.shape, level.chunk, strict=True)]
    for index in itertools.product(*map(range, counts)):
        place = tuple(
            slice(i * chunk, min((i + 1) * chunk, size))
            for i, chunk, size in zip(index, level.chunk, level.shape, strict=True)
        )
        yield index, place  # type: ignore[misc]


def fill(writer: OmeZarrWriter, spec: ImageSpec, levels: Sequence[Array], image: int = 0) -> None:
    for number, level in enumerate(spec.image.levels):
        for index, place in grid(level):
            writer.write_block(image, number, index, levels[number][place])


def save(path: Path, levels: Sequence[Array], options: Mapping[str, Any], **more: Any) -> ImageSpec:
    spec = spec_of(levels, options, **more)
    writer = begin(path, [spec], options)
    fill(writer, spec, levels)
    writer.finish()
    return spec


def halves(first: Array, count: int) -> list[Array]:
    levels = [first]
    for _ in range(count):
        levels.append(levels[-1][..., ::2, ::2])
    return levels


def open_reader(path: Path) -> OmeZarrReader:
    return OmeZarrReader.open(as_source(path), OpenOptions())


def whole(reader: OmeZarrReader, image: int = 0, level: int = 0) -> Array:
    record = reader.images[image]
    shape = record.levels[level].shape
    out = np.empty(shape, record.dtype)
    reader.read(Region(image, level, (0,) * 5, shape), out)
    return out


def attributes(path: Path) -> dict[str, Any]:
    """NGFF attributes of a group, of either version."""
    if (path / ".zattrs").exists():
        found: dict[str, Any] = json.loads((path / ".zattrs").read_bytes())
        return found
    inner: dict[str, Any] = json.loads((path / "zarr.json").read_bytes())["attributes"]["ome"]
    return inner


def referees(path: Path, version: str) -> Iterator[Any]:
    """The array at a path, as zarr-python and as tensorstore read it."""
    yield zarr.open_array(str(path), mode="r")[...]
    tensorstore = pytest.importorskip("tensorstore")
    spec = {
        "driver": "zarr" if version == "0.4" else "zarr3",
        "kvstore": {"driver": "file", "path": str(path)},
    }
    yield tensorstore.open(spec).result().read().result()


def valid(path: Path) -> None:
    yaozarrs = pytest.importorskip("yaozarrs")
    yaozarrs.validate_zarr_store(str(path))


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize(
    "compression", ["blosc-zstd", "blosc-lz4", "zstd", "none", "gzip", ("zstd", 5)]
)
@pytest.mark.parametrize("layout", LAYOUTS, ids=LAYOUT_IDS)
def test_pixels_agree_with_the_referees(
    tmp_path: Path, layout: dict[str, Any], compression: Any
) -> None:
    levels = halves(counting((2, 3, 4, 101, 77)), 2)
    options = {"chunks": (32, 48), "compression": compression, **layout}
    if layout.get("shards") == (64, 48):
        options["chunks"] = (32, 24)
    path = tmp_path / "a.zarr"
    save(path, levels, options)
    valid(path)
    for number, level in enumerate(levels):
        for seen in referees(path / str(number), layout["version"]):
            np.testing.assert_array_equal(seen, level)
        np.testing.assert_array_equal(whole(open_reader(path), 0, number), level)


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS[:3], ids=LAYOUT_IDS[:3])
def test_every_dtype(tmp_path: Path, layout: dict[str, Any], dtype: str) -> None:
    values = (np.arange(31 * 19).reshape(1, 1, 1, 31, 19) * 5 % 251).astype(dtype)
    if dtype in ("u8", "i8"):
        values += np.iinfo(dtype).max - 400
    path = tmp_path / "a.zarr"
    save(
        path,
        [values],
        {"chunks": (16, 8), **layout, **({"shards": 16} if "shards" in layout else {})},
    )
    for seen in referees(path / "0", layout["version"]):
        assert seen.dtype == values.dtype
        np.testing.assert_array_equal(seen, values)
    expected = values.view(np.uint8) if dtype == "?" else values
    np.testing.assert_array_equal(whole(open_reader(path)), expected)


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("layout", LAYOUTS, ids=LAYOUT_IDS)
def test_any_order_many_threads_and_reading_back(tmp_path: Path, layout: dict[str, Any]) -> None:
    values = counting((2, 3, 4, 101, 77))
    options = {"chunks": (1, 2, 1, 16, 24), **layout}
    if layout.get("shards") == (64, 48):
        options["shards"] = (1, 2, 1, 64, 48)
    spec = spec_of([values], options)
    writer = begin(tmp_path / "a.zarr", [spec], options)
    blocks = list(grid(spec.image.levels[0]))
    random.Random(3).shuffle(blocks)
    assert writer.read_block(0, 0, blocks[0][0]) is None

    def put(job: tuple[Shape5, tuple[slice, ...]]) -> None:
        index, place = job
        # Any strides are allowed, and other data first: the last write counts.
        writer.write_block(0, 0, index, np.zeros_like(values[place]))
        block = np.asfortranarray(values[place])
        writer.write_block(0, 0, index, block)
        np.testing.assert_array_equal(writer.read_block(0, 0, index), values[place])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, blocks))
    writer.finish()
    for seen in referees(tmp_path / "a.zarr/0", layout["version"]):
        np.testing.assert_array_equal(seen, values)
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize("layout", LAYOUTS[:3], ids=LAYOUT_IDS[:3])
def test_blocks_written_again_replace_the_old(tmp_path: Path, layout: dict[str, Any]) -> None:
    values = counting((1, 1, 1, 64, 96))
    options = {"chunks": (32, 48), **layout}
    options.update({"shards": (64, 96)} if "shards" in layout else {})
    spec = spec_of([values], options)
    writer = begin(tmp_path / "a.zarr", [spec], options)
    fill(writer, spec, [values])
    values[..., :32, :48] = 9
    values[..., 32:, 48:] = 0
    writer.write_block(0, 0, (0, 0, 0, 0, 0), values[..., :32, :48])
    # Only fill values: the chunk is not stored, and the previous one is removed.
    writer.write_block(0, 0, (0, 0, 0, 1, 1), values[..., 32:, 48:])
    np.testing.assert_array_equal(writer.read_block(0, 0, (0, 0, 0, 1, 1)), values[..., 32:, 48:])
    writer.finish()
    for seen in referees(tmp_path / "a.zarr/0", layout["version"]):
        np.testing.assert_array_equal(seen, values)


@pytest.mark.parametrize("layout", LAYOUTS[:3], ids=LAYOUT_IDS[:3])
@pytest.mark.parametrize(("dtype", "value"), [("uint8", 7), ("float32", math.nan), ("int16", -3)])
def test_fill_value_of_what_was_never_written(
    tmp_path: Path, layout: dict[str, Any], dtype: str, value: float
) -> None:
    values = counting((1, 2, 1, 100, 70), dtype)
    options = {"chunks": (32, 32), **layout, **({"shards": 64} if "shards" in layout else {})}
    spec = spec_of([values], options, fill_value=value)
    writer = begin(tmp_path / "a.zarr", [spec], options)
    writer.write_block(0, 0, (0, 1, 0, 3, 2), values[:, 1:, :, 96:, 64:])
    expected = np.full_like(values, value)
    expected[:, 1:, :, 96:, 64:] = values[:, 1:, :, 96:, 64:]
    writer.write_block(0, 0, (0, 0, 0, 0, 0), np.full((1, 1, 1, 32, 32), value, dtype))
    writer.finish()
    for seen in referees(tmp_path / "a.zarr/0", layout["version"]):
        np.testing.assert_array_equal(seen, expected)
    np.testing.assert_array_equal(whole(open_reader(tmp_path / "a.zarr")), expected)
    # A block that is all fill value takes no file.
    files = [p for p in (tmp_path / "a.zarr/0").rglob("*") if p.is_file()]
    assert len(files) == 2, files


def test_negative_zero_is_no_fill_value(tmp_path: Path) -> None:
    values = np.full((1, 1, 1, 8, 8), -0.0, np.float32)
    save(tmp_path / "a.zarr", [values], {})
    assert np.signbit(whole(open_reader(tmp_path / "a.zarr"))).all()


def test_edge_chunks_are_padded_with_the_fill_value(tmp_path: Path) -> None:
    values = counting((1, 1, 1, 40, 40))
    save(tmp_path / "a.zarr", [values], {"chunks": 32, "compression": "none"}, fill_value=9)
    raw = np.fromfile(tmp_path / "a.zarr/0/c/0/0/0/1/1", "<u2").reshape(32, 32)
    np.testing.assert_array_equal(raw[:8, :8], values[0, 0, 0, 32:, 32:])
    assert (raw[8:] == 9).all()
    assert (raw[:, 8:] == 9).all()


# ---- metadata


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(("method", "shift"), [("mean", True), ("mode", True), ("nearest", False)])
def test_transformations_of_every_level(
    tmp_path: Path, version: str, method: str, shift: bool
) -> None:
    levels = [counting((1, 1, 3, n, m)) for n, m in ((101, 80), (51, 40), (26, 20), (9, 7))]
    save(tmp_path / "a.zarr", levels, {"version": version, "chunks": 64}, downsample=method)
    found = attributes(tmp_path / "a.zarr")["multiscales"][0]
    assert [(a["name"], a.get("unit")) for a in found["axes"]] == [
        ("t", None),
        ("c", None),
        ("z", "micrometer"),
        ("y", "micrometer"),
        ("x", "micrometer"),
    ]
    # Each level is the one before by 2, 2 and 3, whatever the rounding of odd sizes.
    for dataset, factor in zip(found["datasets"], (1, 2, 4, 12), strict=True):
        scale, *rest = dataset["coordinateTransformations"]
        assert scale == {"type": "scale", "scale": [1, 1, 2, 0.5 * factor, 0.25 * factor]}
        if shift and factor > 1:
            # The middle of a block of `factor` pixels lies (factor - 1) / 2 pixels from its first.
            half = (factor - 1) / 2
            assert rest == [
                {"type": "translation", "translation": [0, 0, 0, 0.5 * half, 0.25 * half]}
            ]
        else:
            assert rest == []
    assert found["type"] == method
    assert found["metadata"]["method"] == f"bfbridge.{method}"
    assert open_reader(tmp_path / "a.zarr").images[0].pixel_size == SIZE
    valid(tmp_path / "a.zarr")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_omero_block(tmp_path: Path, version: str) -> None:
    values = counting((1, 3, 1, 40, 40))
    channels = (
        Channel("DAPI", (0, 0, 255, 255)),
        Channel(None, None),
        Channel("Cy5", (255, 0, 0, 255)),
    )
    save(tmp_path / "a.zarr", [values], {"version": version}, channels=channels)
    omero = attributes(tmp_path / "a.zarr")["omero"]
    first, second, third = omero["channels"]
    assert (first["label"], first["color"]) == ("DAPI", "0000FF")
    assert "label" not in second
    assert (third["label"], third["color"]) == ("Cy5", "FF0000")
    for i, channel in enumerate(omero["channels"]):
        window = channel["window"]
        assert (window["min"], window["max"]) == (0, 65535)
        assert window["start"] == values[0, i].min()
        assert values[0, i].min() < window["end"] <= values[0, i].max()
    names = [channel.name for channel in open_reader(tmp_path / "a.zarr").images[0].channels]
    assert names == ["DAPI", None, "Cy5"]
    valid(tmp_path / "a.zarr")


def test_windows_of_floats_leave_out_what_is_not_finite(tmp_path: Path) -> None:
    values = counting((1, 1, 1, 64, 64), "float32")
    values[..., 0, 0] = np.nan
    values[..., 8, 8] = np.inf
    save(tmp_path / "a.zarr", [values], {"chunks": 32})
    window = attributes(tmp_path / "a.zarr")["omero"]["channels"][0]["window"]
    assert all(math.isfinite(v) for v in window.values())
    assert window["min"] < window["max"]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_several_images_are_laid_out_as_bioformats2raw_does(tmp_path: Path, version: str) -> None:
    images = [halves(counting((1, c, 1, 50 + 10 * c, 70)), 1) for c in (1, 2, 3)]
    options = {"version": version, "chunks": 32}
    specs = [spec_of(levels, options, name=f"image {i}") for i, levels in enumerate(images)]
    path = tmp_path / "a.zarr"
    writer = begin(path, specs, options)
    for i, (spec, levels) in enumerate(zip(specs, images, strict=True)):
        fill(writer, spec, levels, i)
    writer.finish()
    valid(path)
    assert attributes(path)["bioformats2raw.layout"] == 3
    assert attributes(path / "OME")["series"] == ["0", "1", "2"]
    reader = open_reader(path)
    assert [image.name for image in reader.images] == ["image 0", "image 1", "image 2"]
    for i, levels in enumerate(images):
        for number, level in enumerate(levels):
            np.testing.assert_array_equal(whole(reader, i, number), level)
    from ome_types import from_xml

    stored = from_xml((path / "OME/METADATA.ome.xml").read_text("utf-8"))
    assert [image.name for image in stored.images] == ["image 0", "image 1", "image 2"]
    assert [image.pixels.size_c for image in stored.images] == [1, 2, 3]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_labels(tmp_path: Path, version: str) -> None:
    values, nuclei = counting((1, 1, 1, 50, 70)), counting((1, 1, 1, 50, 70), "int32")
    options = {"version": version, "chunks": 32}
    specs = [
        spec_of([values], options),
        spec_of([nuclei], options, name="cell nuclei", role="label"),
    ]
    path = tmp_path / "a.zarr"
    writer = begin(path, specs, options)
    fill(writer, specs[0], [values], 0)
    fill(writer, specs[1], [nuclei], 1)
    writer.finish()
    valid(path)
    assert attributes(path / "labels")["labels"] == ["cell_nuclei"]
    label = attributes(path / "labels/cell_nuclei")
    assert label["image-label"]["source"] == {"image": "../../"}
    assert "omero" not in label
    reader = open_reader(path)
    assert [image.role for image in reader.images] == ["image", "label"]
    np.testing.assert_array_equal(whole(reader, 1), nuclei)


def plate_ome(specs: Sequence[ImageSpec], wells: Sequence[tuple[int, int]]) -> Any:
    from ome_types.model import ImageRef, Plate, Well, WellSample

    ome = make_ome([spec.image for spec in specs], None, [None] * len(specs))
    samples: dict[tuple[int, int], list[Any]] = {}
    for i, well in enumerate(wells):
        sample = WellSample(id=f"WellSample:{i}", index=i, image_ref=ImageRef(id=ome.images[i].id))
        samples.setdefault(well, []).append(sample)
    ome.plates = [
        Plate(
            id="Plate:0", name="P1", row_naming_convention="letter",
            column_naming_convention="number",
            wells=[
                Well(id=f"Well:{r}:{c}", row=r, column=c, well_samples=members)
                for (r, c), members in samples.items()
            ],
        )
    ]  # fmt: skip
    return ome


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("told", ["by OME metadata", "by option"])
def test_plates(tmp_path: Path, version: str, told: str) -> None:
    images = [counting((1, 1, 1, 30, 20)) + 1000 * i for i in range(4)]
    options: dict[str, Any] = {"version": version, "chunks": 16}
    if told == "by option":
        options["wells"] = ["B3", "AA/12", "B/3", "A1"]
    specs = [spec_of([values], options, name=f"field {i}") for i, values in enumerate(images)]
    wells = [(1, 2), (26, 11), (1, 2), (0, 0)]
    ome = make_ome([spec.image for spec in specs], None, [None] * 4)
    if told == "by OME metadata":
        ome = plate_ome(specs, wells)
    path = tmp_path / "a.zarr"
    writer = OmeZarrWriter.prepare(path, specs, ome, options)
    for i, (spec, values) in enumerate(zip(specs, images, strict=True)):
        fill(writer, spec, [values], i)
    writer.finish()
    valid(path)
    plate = attributes(path)["plate"]
    assert [row["name"] for row in plate["rows"]] == ["A", "B", "AA"]
    assert [column["name"] for column in plate["columns"]] == ["1", "3", "12"]
    assert [(w["path"], w["rowIndex"], w["columnIndex"]) for w in plate["wells"]] == [
        ("B/3", 1, 1), ("AA/12", 2, 2), ("A/1", 0, 0)
    ]  # fmt: skip
    reader = open_reader(path)
    assert [image.name for image in reader.images] == ["B3/0", "B3/1", "AA12/0", "A1/0"]
    # The document lists images in the order in which they are read.
    names = [image.name for image in reader.ome().images]
    assert names == ["field 0", "field 2", "field 1", "field 3"]
    for place, i in enumerate((0, 2, 1, 3)):
        np.testing.assert_array_equal(whole(reader, place), images[i])


def test_plate_that_names_not_all_images_is_a_collection(tmp_path: Path) -> None:
    options = {"chunks": 16}
    specs = [spec_of([counting((1, 1, 1, 30, 20))], options) for _ in range(2)]
    ome = plate_ome(specs, [(0, 0), (0, 1)])
    ome.plates[0].wells.pop()
    writer = OmeZarrWriter.prepare(tmp_path / "a.zarr", specs, ome, options)
    writer.finish()
    assert attributes(tmp_path / "a.zarr/OME")["series"] == ["0", "1"]
    for wells in (["B3"], ["B3", "third"], ["B3", "../x"], "AB"):
        with pytest.raises(BadArgument, match="wells"):
            OmeZarrWriter.prepare(tmp_path / "b.zarr", specs, ome, {"wells": wells})


def test_units_that_ngff_does_not_name_become_metres(tmp_path: Path) -> None:
    size = PixelSize(Quantity(3, "thou"), Quantity(2, "pixel"), Quantity(4, "Å"))
    save(tmp_path / "a.zarr", [counting((1, 1, 1, 30, 20))], {}, pixel_size=size)
    found = attributes(tmp_path / "a.zarr")["multiscales"][0]
    assert [axis.get("unit") for axis in found["axes"][2:]] == ["angstrom", None, "meter"]
    scale = found["datasets"][0]["coordinateTransformations"][0]["scale"]
    np.testing.assert_allclose(scale[2:], [4, 2, 7.62e-5])


def test_rgb_samples_become_channels(tmp_path: Path) -> None:
    values = counting((1, 3, 1, 50, 70), "uint8")
    options = {"chunks": 32}
    spec = spec_of([values], options, samples=3, channels=(Channel(None, samples=3),))
    assert spec.image.levels[0].chunk == (1, 3, 1, 32, 32)
    ome = make_ome([spec.image], None, [None])
    ome.images[0].pixels.channels[0].samples_per_pixel = 3
    writer = OmeZarrWriter.prepare(tmp_path / "a.zarr", [spec], ome, options)
    fill(writer, spec, [values])
    writer.finish()
    reader = open_reader(tmp_path / "a.zarr")
    assert reader.images[0].samples == 1
    assert len(reader.images[0].channels) == 3
    np.testing.assert_array_equal(whole(reader), values)
    colors = [c["color"] for c in attributes(tmp_path / "a.zarr")["omero"]["channels"]]
    assert colors == ["FF0000", "00FF00", "0000FF"]


def test_without_ome_document(tmp_path: Path) -> None:
    values = counting((1, 2, 1, 20, 30), "int64")
    spec = spec_of([values], {})
    writer = OmeZarrWriter.prepare(tmp_path / "a.zarr", [spec], None, {})
    fill(writer, spec, [values])
    writer.finish()
    assert not (tmp_path / "a.zarr/OME/METADATA.ome.xml").exists()
    reader = open_reader(tmp_path / "a.zarr")
    assert reader.images[0].name == "cells"
    np.testing.assert_array_equal(whole(reader), values)


# ---- grids


def test_chunks_default_to_1024_and_are_cut_to_the_image() -> None:
    def chunk(shape: Shape5, options: Mapping[str, Any]) -> Shape5:
        image = Image(None, (Level(shape, shape),), np.dtype("u2"))
        return OmeZarrWriter.default_chunk(image, options)

    assert chunk((2, 3, 4, 5000, 6000), {}) == (1, 1, 1, 1024, 1024)
    assert chunk((2, 3, 4, 500, 6000), {}) == (1, 1, 1, 500, 1024)
    assert chunk((2, 3, 4, 5000, 6000), {"chunks": 256}) == (1, 1, 1, 256, 256)
    assert chunk((2, 3, 4, 5000, 6000), {"chunks": (8, 64, 32)}) == (1, 1, 4, 64, 32)
    assert chunk((2, 3, 4, 5000, 6000), {"chunks": (9, 2, 2, 64, 32)}) == (2, 2, 2, 64, 32)


def test_shards_are_cut_to_the_level(tmp_path: Path) -> None:
    levels = halves(counting((1, 1, 1, 300, 200)), 2)
    save(tmp_path / "a.zarr", levels, {"chunks": 64, "shards": 256})
    for number, (shard, inner) in enumerate((((256, 256), 64), ((192, 128), 64), ((128, 50), 0))):
        document = json.loads((tmp_path / f"a.zarr/{number}/zarr.json").read_bytes())
        outer = document["chunk_grid"]["configuration"]["chunk_shape"]
        assert tuple(outer[3:]) == shard
        chunk = document["codecs"][0]["configuration"]["chunk_shape"]
        assert tuple(chunk[3:]) == ((inner, inner) if inner else (64, 50))
    for number, level in enumerate(levels):
        for seen in referees(tmp_path / f"a.zarr/{number}", "0.5"):
            np.testing.assert_array_equal(seen, level)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_few_shards_are_open_at_once(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("bfbridge_omezarr.chunked.shards._OPEN_FILES", 3)
    values = counting((1, 1, 1, 256, 256))
    options = {"chunks": 32, "shards": 64}
    spec = spec_of([values], options)
    writer = begin(tmp_path / "a.zarr", [spec], options)
    before = len(os.listdir("/proc/self/fd"))
    most = 0
    # The same corner of every shard, then the next: all 16 are unfinished until the end.
    for index, place in sorted(
        grid(spec.image.levels[0]), key=lambda found: (found[0][3] % 2, found[0][4] % 2)
    ):
        writer.write_block(0, 0, index, values[place])
        most = max(most, len(os.listdir("/proc/self/fd")) - before)
    assert 1 <= most <= 3
    writer.finish()
    assert len(os.listdir("/proc/self/fd")) <= before
    np.testing.assert_array_equal(whole(open_reader(tmp_path / "a.zarr")), values)


def test_one_chunk_of_a_shard_is_read_alone(tmp_path: Path, monkeypatch: Any) -> None:
    values = np.random.default_rng(1).integers(0, 60000, (1, 1, 1, 512, 512), np.uint16)
    save(tmp_path / "a.zarr", [values], {"chunks": 64, "shards": 512, "compression": "none"})
    reader = open_reader(tmp_path / "a.zarr")
    read: list[int] = []
    real, into = os.read, os.readv

    def counted(fd: int, length: int) -> bytes:
        data = real(fd, length)
        read.append(len(data))
        return data

    def counted_into(fd: int, buffers: list[Any]) -> int:
        read.append(into(fd, buffers))
        return read[-1]

    monkeypatch.setattr(os, "read", counted)
    monkeypatch.setattr(os, "readv", counted_into)
    out = np.empty((1, 1, 1, 64, 64), np.uint16)
    reader.read(Region(0, 0, (0, 0, 0, 128, 64), (1, 1, 1, 192, 128)), out)
    np.testing.assert_array_equal(out, values[..., 128:192, 64:128])
    index = 64 * 16 + 4
    assert sum(read) == index + out.nbytes
    reader.read(Region(0, 0, (0, 0, 0, 0, 0), (1, 1, 1, 64, 64)), out)
    # The index is known by now.
    assert sum(read) == index + 2 * out.nbytes


# ---- interruptions and refusals


@pytest.mark.parametrize("layout", LAYOUTS[:3], ids=LAYOUT_IDS[:3])
def test_unfinished_store_does_not_open(tmp_path: Path, layout: dict[str, Any]) -> None:
    values = counting((1, 1, 1, 100, 70))
    options = {"chunks": (32, 48), **layout}
    options.update({"shards": (64, 48)} if "shards" in layout else {})
    spec = spec_of([values], options)
    path = tmp_path / "a.zarr"
    writer = begin(path, [spec], options)
    fill(writer, spec, [values])
    with pytest.raises(BfbridgeError):
        open_reader(path)
    writer.abort()
    writer.abort()
    with pytest.raises(BfbridgeError):
        open_reader(path)
    with pytest.raises(Closed):
        writer.write_block(0, 0, (0,) * 5, values[..., :32, :48])


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_metadata_that_makes_it_an_image_comes_last(
    tmp_path: Path, version: str, monkeypatch: Any
) -> None:
    from bfbridge_omezarr.hierarchy.files import FileTree

    values = counting((1, 1, 1, 40, 40))
    options = {"version": version, "chunks": 32}
    specs = [spec_of([values], options), spec_of([values], options)]
    path = tmp_path / "a.zarr"
    written: list[str] = []
    real = FileTree.write

    def watched(self: FileTree, key: str, data: Any) -> None:
        if written and not key.endswith(("/0", "/1")):
            with pytest.raises(BfbridgeError):
                open_reader(path)
        written.append(key)
        real(self, key, data)

    monkeypatch.setattr(FileTree, "write", watched)
    writer = begin(path, specs, options)
    for i, spec in enumerate(specs):
        fill(writer, spec, [values], i)
    writer.finish()
    assert written[-1] == (".zattrs" if version == "0.4" else "zarr.json")
    assert len(open_reader(path).images) == 2


@pytest.mark.parametrize("layout", LAYOUTS[:3], ids=LAYOUT_IDS[:3])
@pytest.mark.parametrize("call", ["write", "pwrite", "replace", "open", "makedirs"])
def test_every_failing_call_is_a_write_failed(
    tmp_path: Path, layout: dict[str, Any], call: str, monkeypatch: Any
) -> None:
    values = counting((1, 1, 1, 64, 64))
    options = {"chunks": 32, **layout, **({"shards": 64} if "shards" in layout else {})}

    def attempt(failing: int) -> int:
        """Write with the n-th call failing; return how many calls there were."""
        path = tmp_path / f"{call}{failing}.zarr"
        spec = spec_of([values], options)
        writer = begin(path, [spec], options)
        count = itertools.count(1)
        calls = 0
        failure: WriteFailed | None = None
        with monkeypatch.context() as patch:
            real = getattr(os, call)

            def faulty(*args: Any, **kwargs: Any) -> Any:
                nonlocal calls
                calls = next(count)
                if calls == failing:
                    raise OSError(28, "No space left on device")
                return real(*args, **kwargs)

            patch.setattr(os, call, faulty)
            try:
                fill(writer, spec, [values])
                writer.finish()
            except WriteFailed as error:
                failure = error
                writer.abort()
        assert (failure is not None) == (0 < failing <= calls)
        assert failure is None or failure.errno == 28
        if failing and failing <= calls:
            with pytest.raises(BfbridgeError):
                open_reader(path)
        return calls

    for failing in range(1, attempt(0) + 1):
        attempt(failing)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": 5}, "tile: there is no such option"),
        ({"version": "0.3"}, "'0.4' or '0.5'"),
        ({"version": "0.4", "shards": 2048}, "no shards"),
        ({"shards": 1000}, "no multiple"),
        ({"chunks": 0}, "1 or more"),
        ({"chunks": (1, 2, 3, 4, 5, 6)}, "1 or more"),
        ({"chunks": 2.5}, "chunks="),
        ({"chunks": "big"}, "chunks="),
        ({"compression": "lzw"}, "one of 'zstd'"),
        ({"compression": ("zstd", 99)}, "levels of zstd"),
        ({"compression": ("zstd", "high")}, "not a whole number"),
        ({"compression": ()}, "one of 'zstd'"),
        ({"compression": 5}, "compression=5"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadArgument, match=message):
        OmeZarrWriter.check(options)


def test_blocks_that_do_not_fit(tmp_path: Path) -> None:
    values = counting((1, 1, 1, 40, 50))
    spec = spec_of([values], {"chunks": 32})
    writer = begin(tmp_path / "a.zarr", [spec], {"chunks": 32})
    with pytest.raises(BadDtype, match="float32.*uint16"):
        writer.write_block(0, 0, (0,) * 5, values[..., :32, :32].astype("f4"))
    with pytest.raises(BadArgument, match=r"\(1, 1, 1, 32, 18\)"):
        writer.write_block(0, 0, (0, 0, 0, 0, 1), values[..., :32, :32])
    with pytest.raises(BadArgument, match="there are"):
        writer.write_block(0, 0, (0, 0, 0, 2, 0), values[..., :32, :32])
    with pytest.raises(BadArgument, match="cannot hold"):
        begin(tmp_path / "b.zarr", [spec_of([values], {}, fill_value=-1)], {})
    with pytest.raises(BadArgument, match="cannot hold"):
        begin(tmp_path / "b.zarr", [spec_of([values], {}, fill_value=math.nan)], {})


def test_chunk_larger_than_blosc_takes(tmp_path: Path) -> None:
    shape = (1, 1, 1, 1 << 16, 1 << 16)
    image = Image(None, (Level(shape, shape),), np.dtype("u1"), channels=(Channel(),))
    with pytest.raises(BadArgument, match="4,294,967,296"):
        OmeZarrWriter.prepare(tmp_path / "a.zarr", [ImageSpec(image)], None, {"chunks": 1 << 16})


def test_nothing_is_made_outside_the_target(tmp_path: Path) -> None:
    save(tmp_path / "work/a.zarr", [counting((1, 1, 1, 40, 50))], {"chunks": 32})
    assert [p.name for p in tmp_path.iterdir()] == ["work"]
    assert [p.name for p in (tmp_path / "work").iterdir()] == ["a.zarr"]


def test_a_window_always_has_a_width(tmp_path: Path) -> None:
    # Pixels of one value would make it empty, and viewers divide by its width.
    for name, value, dtype, expected in (
        ("dark", 0, "uint16", (0, 65535)),
        ("flat", 7, "uint8", (0, 255)),
        ("float", 2.5, "float32", (2.5, 3.5)),
    ):
        values = np.full((1, 1, 1, 20, 30), value, dtype)
        path = tmp_path / f"{name}.zarr"
        save(path, [values], {})
        window = attributes(path)["omero"]["channels"][0]["window"]
        assert (window["start"], window["end"]) == expected
        assert window["min"] <= window["start"] < window["end"] <= window["max"]


def test_windows_show_the_objects_of_small_and_sparse_images(tmp_path: Path) -> None:
    # No object lies on the pixels that are sampled of large blocks.
    for name, side, dtype in (
        ("small", 20, "uint16"), ("sparse", 400, "uint16"), ("holes", 400, "float32"),
    ):  # fmt: skip
        values = np.zeros((1, 1, 1, side, side), dtype)
        values[..., 3, 5] = 40
        values[..., 11, 13] = 90
        if dtype == "float32":
            values[..., 1, 1] = np.nan
        path = tmp_path / f"{name}.zarr"
        save(path, [values], {"chunks": 512})
        window = attributes(path)["omero"]["channels"][0]["window"]
        assert (window["start"], window["end"]) == (0, 90)


def test_a_stored_window_without_width_is_not_kept(tmp_path: Path) -> None:
    values = counting((1, 1, 1, 40, 50))
    extras = Extras(channels=({"window": {"min": 0, "max": 9, "start": 7, "end": 7}},))
    spec = spec_of([values], {}, extras=extras)
    writer = OmeZarrWriter.prepare(tmp_path / "a.zarr", [spec], None, {})
    fill(writer, spec, [values])
    writer.finish()
    window = attributes(tmp_path / "a.zarr")["omero"]["channels"][0]["window"]
    sampled = values[..., ::8, ::8]
    assert (window["start"], window["end"]) == (sampled.min(), sampled.max())


def test_windows_of_rgb_are_those_of_the_type(tmp_path: Path) -> None:
    values = counting((1, 3, 1, 64, 64), "uint8") // 2 + 9
    spec = spec_of([values], {}, samples=3)
    writer = OmeZarrWriter.prepare(tmp_path / "a.zarr", [spec], None, {})
    fill(writer, spec, [values])
    writer.finish()
    for channel in attributes(tmp_path / "a.zarr")["omero"]["channels"]:
        assert (channel["window"]["start"], channel["window"]["end"]) == (0, 255)
