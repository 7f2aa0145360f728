"""One OME-Zarr store written by several processes."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import signal
import subprocess
import sys
import time
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
    Placement,
    Quantity,
    Region,
    StoredAs,
)
from bfbridge.errors import (  # noqa: E402
    BfbridgeError,
    Closed,
    FileMissing,
    UnreadableFile,
    WriteFailed,
)
from bfbridge.storage.source import as_source  # noqa: E402
from bfbridge_omezarr import OmeZarrReader, OmeZarrWriter  # noqa: E402
from bfbridge_omezarr.attributes.ome import make_ome  # noqa: E402
from bfbridge_omezarr.chunked.plain import from_plain, to_plain  # noqa: E402
from bfbridge_omezarr.hierarchy.files import tree_of  # noqa: E402
from bfbridge_omezarr.shared import load_plan  # noqa: E402

SHAPE = (2, 3, 1, 200, 150)
VALUES = (np.arange(math.prod(SHAPE)) * 7 % 65_000 + 1).reshape(SHAPE).astype(np.uint16)
LAYOUTS: dict[str, dict[str, Any]] = {
    "0.4": {"version": "0.4", "chunks": 32},
    "0.5": {"chunks": 32},
    "sharded": {"chunks": 32, "shards": 64},
}
layouts = pytest.mark.parametrize("options", LAYOUTS.values(), ids=LAYOUTS)

WORKER = """
import sys
import numpy as np
from pathlib import Path
sys.path.insert(0, sys.argv[4])
from test_omezarr_shared import VALUES, boxes, put
from bfbridge_omezarr import OmeZarrWriter
path, number, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
writer = OmeZarrWriter.open_existing(path)
for place, box in enumerate(boxes(writer)):
    if place % count == number:
        put(writer, box)
writer.release()
"""


def spec_for(options: dict[str, Any], **more: Any) -> ImageSpec:
    image = Image(
        "cells",
        (Level(SHAPE, SHAPE),),
        np.dtype(np.uint16),
        pixel_size=PixelSize(Quantity(0.5, "µm"), None, Quantity(2, "nm")),
        channels=(
            Channel("DAPI", (0, 0, 255, 255), Quantity(460, "nm")),
            Channel(),
            Channel("Cy5", excitation=Quantity(650, "nm")),
        ),
        significant_bits=12,
    )
    chunk = OmeZarrWriter.default_chunk(image, options)
    levels = (Level(SHAPE, chunk),)
    fields = {name: getattr(image, name) for name in image.__slots__ if name != "levels"}
    return ImageSpec(Image(levels=levels, **fields), **more)


def create(path: Path, options: dict[str, Any], **more: Any) -> OmeZarrWriter:
    spec = spec_for(options, **more)
    ome = make_ome([spec.image], None, [None])
    return OmeZarrWriter.create(path, [spec], ome, options)


def boxes(writer: OmeZarrWriter) -> list[tuple[slice, ...]]:
    """The image cut into units, which one process writes alone."""
    ranges = [
        [slice(low, min(low + step, size)) for low in range(0, size, step)]
        for size, step in zip(SHAPE, writer.unit(0), strict=True)
    ]
    return list(itertools.product(*ranges))


def put(writer: OmeZarrWriter, box: tuple[slice, ...]) -> None:
    """Write all blocks of a box."""
    chunk = writer.images[0].image.levels[0].chunk
    ranges = [range(s.start // n, -(-s.stop // n)) for s, n in zip(box, chunk, strict=True)]
    for index in itertools.product(*ranges):
        place = tuple(slice(i * n, (i + 1) * n) for i, n in zip(index, chunk, strict=True))
        writer.write_block(0, 0, index, VALUES[place])  # type: ignore[arg-type]


def start(path: Path, number: int, count: int) -> subprocess.Popen[bytes]:
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", WORKER, str(path), str(number), str(count), here]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


def whole(path: Path) -> np.ndarray[Any, Any]:
    reader = OmeZarrReader.open(as_source(path), OpenOptions())
    out = np.empty(SHAPE, np.uint16)
    reader.read(Region(0, 0, (0,) * 5, SHAPE), out)
    return out


@pytest.mark.slow(ci=True)
@layouts
def test_processes_write_disjoint_units(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "a.zarr"
    create(path, options).release()
    workers = [start(path, number, 3) for number in range(3)]
    for worker in workers:
        _, errors = worker.communicate(timeout=100)
        assert worker.returncode == 0, errors.decode()
    with pytest.raises(BfbridgeError):
        whole(path)
    OmeZarrWriter.open_existing(path).finish()
    np.testing.assert_array_equal(whole(path), VALUES)
    np.testing.assert_array_equal(zarr.open_array(str(path / "0"), mode="r")[...], VALUES)
    pytest.importorskip("yaozarrs").validate_zarr_store(str(path))
    assert not list(path.rglob(".bfbridge*"))
    with pytest.raises(FileMissing, match="finished"):
        OmeZarrWriter.open_existing(path)
    image = OmeZarrReader.open(as_source(path), OpenOptions()).images[0]
    assert [channel.name for channel in image.channels] == ["DAPI", None, "Cy5"]
    assert image.pixel_size.x == Quantity(0.5, "µm")


@layouts
def test_display_window_is_of_what_all_saw(tmp_path: Path, options: dict[str, Any]) -> None:
    import json

    path = tmp_path / "a.zarr"
    create(path, options).release()
    for number in range(2):
        writer = OmeZarrWriter.open_existing(path)
        for place, box in enumerate(boxes(writer)):
            if place % 2 == number:
                put(writer, box)
        writer.release()
        writer.release()
        with pytest.raises(Closed):
            put(writer, box)
    OmeZarrWriter.open_existing(path).finish()
    document = path / (".zattrs" if options.get("version") else "zarr.json")
    found = json.loads(document.read_bytes())
    found = found if "omero" in found else found["attributes"]["ome"]
    for i, channel in enumerate(found["omero"]["channels"]):
        assert channel["window"]["start"] == max(0, VALUES[:, i, :, ::8, ::8].min())
        # 12 bits of each value carry information.
        assert channel["window"]["end"] == channel["window"]["max"] == 4095


def test_a_shard_written_in_part_is_refused_and_harms_nobody(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    create(path, LAYOUTS["sharded"]).release()
    first, second = (OmeZarrWriter.open_existing(path) for _ in range(2))
    assert first.unit(0) == (1, 1, 1, 64, 64)
    for box in boxes(first)[1:]:
        put(first, box)
    # Two processes with half a shard each: both get an error, and neither overwrites the other.
    first.write_block(0, 0, (0, 0, 0, 0, 0), VALUES[:1, :1, :, :32, :32])
    second.write_block(0, 0, (0, 0, 0, 0, 1), VALUES[:1, :1, :, :32, 32:64])
    for writer in (first, second):
        with pytest.raises(WriteFailed, match="only 1 of its 4 chunks"):
            writer.release()
    third = OmeZarrWriter.open_existing(path)
    put(third, boxes(third)[0])
    third.finish()
    np.testing.assert_array_equal(whole(path), VALUES)


@pytest.mark.slow(ci=True)
@layouts
def test_a_killed_process_leaves_a_store_that_can_be_completed(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    path = tmp_path / "a.zarr"
    create(path, options).release()
    worker = start(path, 0, 1)
    deadline = time.monotonic() + 60
    while not list(path.glob("0/**/[0-9]*")) and worker.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    worker.send_signal(signal.SIGKILL)
    worker.communicate(timeout=20)
    with pytest.raises(BfbridgeError):
        whole(path)
    again = OmeZarrWriter.open_existing(path)
    for box in boxes(again):
        put(again, box)
    again.release()
    OmeZarrWriter.open_existing(path).finish()
    np.testing.assert_array_equal(whole(path), VALUES)
    assert not list(path.rglob("*.partial"))


def test_plan_keeps_everything(tmp_path: Path) -> None:
    for dtype, fill in (("uint16", 7), ("float32", math.nan), ("float64", -2.5), ("complex64", 3)):
        spec = spec_for({"chunks": 32}, fill_value=fill, downsample="mode")
        fields = {name: getattr(spec.image, name) for name in spec.image.__slots__}
        spec = ImageSpec(Image(**{**fields, "dtype": np.dtype(dtype)}), fill, "mode")
        options = {"chunks": 32, "compression": ("zstd", 3)}
        path = tmp_path / f"{dtype}.zarr"
        OmeZarrWriter.create(path, [spec], None, options)
        plan = load_plan(tree_of(path))
        (found,) = plan.specs
        assert found.image == spec.image
        assert found.fill_value == fill or math.isnan(fill)
        assert found.downsample == "mode"
        assert plan.options["compression"] == ["zstd", 3]
        assert plan.ome_xml is None


# A value of each field that is not its default. A new field of a record is missing here, and the
# test below says so.
FULL: dict[type, dict[str, Any]] = {
    Quantity: {"value": 0.25, "unit": "nm"},
    PixelSize: {axis: Quantity(i + 0.5, "µm") for i, axis in enumerate("xyz")},
    Channel: {
        "name": "DAPI \N{GREEK SMALL LETTER ALPHA}",
        "color": (1, 2, 3, 4),
        "emission": Quantity(460, "nm"),
        "excitation": Quantity(0.4, "µm"),
        "samples": 3,
        "window": (0.5, 9.0),
        "active": False,
    },
    Level: {"shape": SHAPE, "chunk": (1, 3, 1, 32, 16), "shard": (1, 1, 1, 64, 64)},
    Image: {
        "name": "cells",
        "levels": (Level(SHAPE, SHAPE), Level((2, 3, 1, 100, 75), (1, 1, 1, 8, 8))),
        "dtype": np.dtype(np.int16),
        "byteorder": ">",
        "samples": 3,
        "interleaved": True,
        "pixel_size": PixelSize(None, Quantity(2, "mm"), None),
        "channels": (Channel("a"), Channel(None, (0, 0, 0, 0))),
        "role": "label",
        "label_of": 2,
        "photo": True,
        "significant_bits": 12,
        "time_step": Quantity(4, "s"),
        "placement": Placement(1, -3, 7),
    },
    Placement: {"scene": 1, "y": -3, "x": 7},
    StoredAs: {"container": "tiff", "details": (("tables", b"\0\xff"), ("predictor", 2))},
    Extras: {
        "channels": ({"window": {"start": 0.5, "end": [1, None]}}, {}),
        "origin": {"x": Quantity(-3.5, "µm")},
        "other": {"rdefs": {"dict": [1, 2]}, "n": math.inf},
    },
    ImageSpec: {
        "image": Image("x", (Level(SHAPE, SHAPE),), np.dtype(np.uint8)),
        "fill_value": -7,
        "downsample": "mode",
        "stored_as": (None, StoredAs("zarr", (("compression", ("zstd", 3)),))),
        "extras": Extras(({"active": False},)),
        "steps": ((1, 2, 2), (3, 2, 1)),
    },
}


@pytest.mark.parametrize("kind", FULL, ids=lambda kind: kind.__name__)
def test_every_field_of_a_record_is_kept(kind: type) -> None:
    given = FULL[kind]
    fields = (
        {field.name: field.default for field in dataclasses.fields(kind)}
        if dataclasses.is_dataclass(kind)
        else dict.fromkeys(kind._fields)  # type: ignore[attr-defined]
    )
    assert given.keys() == fields.keys()
    assert all(given[name] != default for name, default in fields.items())
    record = kind(**given)
    again = from_plain(json.loads(json.dumps(to_plain(record), allow_nan=False)))
    assert type(again) is kind
    for name in fields:
        assert getattr(again, name) == given[name]
        assert type(getattr(again, name)) is type(given[name])
    assert again == record


def test_what_is_no_record_is_refused() -> None:
    for value in (object(), {1, 2}, np.zeros(3), {"a": object()}):
        with pytest.raises(TypeError, match="not a value of a record"):
            to_plain((value,))
    for plain in ({"Image": {"no": 1}}, {"os": []}, {"tuple": 3}, {}, {"a": 1, "b": 2}):
        with pytest.raises((TypeError, ValueError, KeyError)):
            from_plain(plain)


def test_byte_order_and_layout_reach_every_process(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    spec = spec_for({"chunks": 32})
    image = dataclasses.replace(
        spec.image, byteorder=">", interleaved=True, time_step=Quantity(4, "s")
    )
    extras = Extras(channels=({"window": {"start": 5, "end": 9, "min": 0, "max": 99}}, {}, {}))
    OmeZarrWriter.create(path, [dataclasses.replace(spec, image=image, extras=extras)], None, {})
    (found,) = OmeZarrWriter.open_existing(path).images
    assert (found.image, found.extras) == (image, extras)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 99}', '{"format": 2}'])
def test_damaged_plan(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.zarr"
    create(path, {"chunks": 32})
    (path / ".bfbridge-shared/plan.json").write_text(text)
    with pytest.raises(UnreadableFile, match=r"plan\.json"):
        OmeZarrWriter.open_existing(path)
    with pytest.raises(FileMissing, match="not created"):
        OmeZarrWriter.open_existing(tmp_path / "none.zarr")
