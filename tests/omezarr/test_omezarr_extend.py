"""Time points added to finished OME-Zarr stores."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

zarr = pytest.importorskip("zarr")

from bfbridge.backend import Channel, Image, ImageSpec, Level, OpenOptions, Region  # noqa: E402
from bfbridge.errors import (  # noqa: E402
    BadArgument,
    BfbridgeError,
    Closed,
    ReadFailed,
    Unsupported,
    WriteFailed,
)
from bfbridge.storage.source import as_source  # noqa: E402
from bfbridge_omezarr import OmeZarrReader, OmeZarrWriter  # noqa: E402
from bfbridge_omezarr.attributes.ome import make_ome  # noqa: E402

ALL = (np.arange(5 * 2 * 1 * 70 * 90) * 11 % 64_000 + 1).reshape(5, 2, 1, 70, 90).astype("u2")
LAYOUTS: dict[str, dict[str, Any]] = {
    "0.4": {"version": "0.4", "chunks": 32, "compression": "zstd"},
    "0.5": {"chunks": 32, "compression": ("blosc-lz4", 3)},
    "none": {"chunks": (1, 2, 1, 32, 32), "compression": "none"},
    "sharded": {"chunks": 32, "shards": (1, 2, 1, 64, 64)},
}
layouts = pytest.mark.parametrize("options", LAYOUTS.values(), ids=LAYOUTS)


def levels_of(values: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    return [values, values[..., ::2, ::2], values[..., ::4, ::4]]


def fill(writer: OmeZarrWriter, levels: list[np.ndarray[Any, Any]]) -> None:
    for number, values in enumerate(levels):
        chunk = writer.images[0].image.levels[number].chunk
        counts = [range(-(-n // size)) for n, size in zip(values.shape, chunk, strict=True)]
        for index in itertools.product(*counts):
            box = tuple(slice(i * n, (i + 1) * n) for i, n in zip(index, chunk, strict=True))
            writer.write_block(0, number, index, values[box])  # type: ignore[arg-type]
            np.testing.assert_array_equal(
                writer.read_block(0, number, index),
                values[box],  # type: ignore[arg-type]
            )


def make(path: Path, options: dict[str, Any], count: int = 2, **more: Any) -> None:
    levels = levels_of(ALL[:count])
    flat = Image(
        "film", (Level(levels[0].shape, levels[0].shape),), np.dtype("u2"),
        channels=(Channel("a"), Channel("b")), **more,
    )  # fmt: skip
    chunk = OmeZarrWriter.default_chunk(flat, options)
    records = tuple(Level(values.shape, chunk) for values in levels)
    fields = {name: getattr(flat, name) for name in flat.__slots__ if name != "levels"}
    spec = ImageSpec(Image(levels=records, **fields), 0, "nearest")
    writer = OmeZarrWriter.prepare(path, [spec], make_ome([spec.image], None, [None]), options)
    fill(writer, levels)
    writer.finish()


def check(path: Path, count: int) -> None:
    """The store holds the first `count` time points, as it and zarr-python see them."""
    reader = OmeZarrReader.open(as_source(path), OpenOptions())
    for number, values in enumerate(levels_of(ALL[:count])):
        out = np.empty(reader.images[0].levels[number].shape, "u2")
        reader.read(Region(0, number, (0,) * 5, out.shape), out)
        np.testing.assert_array_equal(out, values)
        seen = zarr.open_array(str(path / str(number)), mode="r")[...]
        np.testing.assert_array_equal(seen, values)
    assert reader.ome().images[0].pixels.size_t == count
    assert reader.images[0].name == "film"
    pytest.importorskip("yaozarrs").validate_zarr_store(str(path))


@pytest.mark.slow(ci=True)
@layouts
def test_time_points_are_added(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "a.zarr"
    make(path, options)
    writer = OmeZarrWriter.extend(path, 2)
    assert writer.images[0].image.levels[0].shape == (2, 2, 1, 70, 90)
    assert writer.images[0].downsample == "nearest"
    fill(writer, levels_of(ALL[2:4]))
    # Until it is finished, the image is what it was.
    check(path, 2)
    writer.finish()
    check(path, 4)
    with pytest.raises(Closed):
        writer.finish()
    writer = OmeZarrWriter.extend(path, 1)
    fill(writer, levels_of(ALL[4:5]))
    writer.finish()
    check(path, 5)


@pytest.mark.slow(ci=True)
@layouts
def test_given_up_and_killed_extensions_leave_nothing(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    path = tmp_path / "a.zarr"
    make(path, options)
    before = sorted(path.rglob("*"))
    writer = OmeZarrWriter.extend(path, 2)
    fill(writer, levels_of(ALL[2:4]))
    writer.abort()
    writer.abort()
    assert sorted(path.rglob("*")) == before
    check(path, 2)
    fill(OmeZarrWriter.extend(path, 2), levels_of(ALL[3:5]))
    # That one was never finished. What it wrote must not show where the next writes nothing.
    again = OmeZarrWriter.extend(path, 2)
    index = (0, 0, 0, 0, 0)
    chunk = again.images[0].image.levels[0].chunk
    box = tuple(slice(n) for n in chunk)
    again.write_block(0, 0, index, ALL[2:4][box])
    again.finish()
    expected = np.zeros((2, 2, 1, 70, 90), "u2")
    expected[box] = ALL[2:4][box]
    seen = zarr.open_array(str(path / "0"), mode="r")[2:]
    np.testing.assert_array_equal(seen, expected)


def test_what_cannot_be_extended(tmp_path: Path) -> None:
    make(tmp_path / "several.zarr", {"chunks": (2, 1, 1, 32, 32)})
    with pytest.raises(Unsupported, match="other time points"):
        OmeZarrWriter.extend(tmp_path / "several.zarr", 1)
    for count in (0, -1, 1.5, True):
        with pytest.raises(BadArgument, match="1 or more"):
            OmeZarrWriter.extend(tmp_path / "several.zarr", count)  # type: ignore[arg-type]
    group = zarr.open_group(str(tmp_path / "other.zarr"), mode="w", zarr_format=3)
    group.create_array("0", shape=(4, 20, 30), dtype="u2", chunks=(1, 20, 30))
    axes = [{"name": n, "type": t} for n, t in (("t", "time"), ("y", "space"), ("x", "space"))]
    entry = {"axes": axes, "datasets": [{"path": "0"}]}
    group.attrs.put({"ome": {"version": "0.5", "multiscales": [entry]}})
    with pytest.raises(Unsupported, match="axes t, c, z, y, x"):
        OmeZarrWriter.extend(tmp_path / "other.zarr", 1)
    with pytest.raises(BfbridgeError):
        OmeZarrWriter.extend(tmp_path / "none.zarr", 1)


def inner(document: dict[str, Any]) -> list[dict[str, Any]]:
    first = document["codecs"][0]
    return first["configuration"]["codecs"] if "shard" in first["name"] else document["codecs"]  # type: ignore[no-any-return]


def sharding(document: dict[str, Any], **changes: Any) -> None:
    document["codecs"][0]["configuration"] |= changes


def without_shards(document: dict[str, Any]) -> None:
    chunk = document["codecs"][0]["configuration"]["chunk_shape"]
    document["chunk_grid"]["configuration"]["chunk_shape"] = chunk
    document["codecs"] = inner(document)


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize(
    ("layout", "change", "message"),
    [
        (
            "sharded", lambda d: sharding(d, index_location="start"),
            r"location and checksum of shard indexes .* \('start', 'crc32c'\)",
        ),
        (
            "sharded", lambda d: sharding(d, index_codecs=inner(d)[:1]),
            r"location and checksum of shard indexes .* \('end', 'none'\)",
        ),
        ("none", lambda d: d.update(fill_value=9), r"fill value of this array is (9|0) \(0[09]00"),
        (
            "none",
            lambda d: d.update(
                chunk_key_encoding={"name": "v2", "configuration": {"separator": "/"}}
            ),
            r"key of the first chunk of this array is ./0/0/0/0/0,",
        ),
        (
            "none", lambda d: inner(d).append({"name": "zstd", "configuration": {"level": 1}}),
            "compression of this array is (zstd|no codec), and chunks for (zstd|no codec)",
        ),
        ("sharded", without_shards, r"shape of shards of this array is (None|\(1, 2, 1, 64, 64\))"),
    ],
)  # fmt: skip
def test_arrays_of_another_layout_than_the_new_chunks_are_refused(
    tmp_path: Path, level: int, layout: str, change: Any, message: str
) -> None:
    """New chunks would be read as other pixels, or not at all: the documents are kept."""
    path = tmp_path / "a.zarr"
    make(path, LAYOUTS[layout], count=1)
    file = path / str(level) / "zarr.json"
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))
    before = {each: each.stat().st_mtime_ns for each in path.rglob("*")}
    with pytest.raises(Unsupported, match=message):
        OmeZarrWriter.extend(path, 1)
    if layout != "sharded":
        with pytest.raises(Unsupported, match=message):
            OmeZarrWriter.update(path)
    assert {each: each.stat().st_mtime_ns for each in path.rglob("*")} == before


@pytest.mark.parametrize("damage", ["truncated", "changed"])
def test_a_shard_that_is_damaged_after_it_was_complete(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.zarr"
    make(path, LAYOUTS["sharded"], count=1)
    writer = OmeZarrWriter.extend(path, 1)
    fill(writer, levels_of(ALL[1:2]))
    (shard,) = path.rglob("new/0/c/1/0/0/0/0")
    data = shard.read_bytes()
    shard.write_bytes(data[:50] if damage == "truncated" else data[:-30] + bytes(10) + data[-20:])
    block = ALL[1:2, :1, :, :32, :32]
    with pytest.raises(ReadFailed, match=r"0/c/1/0/0/0/0.*index of this shard.*is damaged"):
        writer.read_block(0, 0, (0, 0, 0, 0, 0))
    with pytest.raises(WriteFailed, match=r"0/c/1/0/0/0/0.*index of this shard.*is damaged"):
        writer.write_block(0, 0, (0, 0, 0, 0, 0), block)
    writer.abort()
    check(path, 1)


@pytest.mark.slow(ci=True)
@pytest.mark.filterwarnings("ignore:Consolidated metadata:UserWarning")
@pytest.mark.filterwarnings("ignore:Object at METADATA:UserWarning")
@layouts
def test_copies_of_the_documents_do_not_tell_the_old_size(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    path = tmp_path / "a.zarr"
    make(path, options)
    zarr.consolidate_metadata(str(path))
    writer = OmeZarrWriter.extend(path, 2)
    fill(writer, levels_of(ALL[2:4]))
    writer.finish()
    assert zarr.open_group(str(path), mode="r")["0"].shape[0] == 4
    check(path, 4)
