"""Views of images and levels: light, without state, the same face everywhere."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge.backend import (
    Channel,
    Image,
    Level,
    OpenOptions,
    PixelSize,
    Quantity,
    ReaderBackend,
    Region,
)
from bfbridge.errors import (
    BadArgument,
    BadSelection,
    BfbridgeError,
    Closed,
    OutOfMemory,
    ReadFailed,
    UnreadableFile,
)
from bfbridge.files.open_file import OpenFile
from bfbridge.storage.source import Source
from bfbridge.views import ImageView, SeriesViews
from tests.support.dropped import settle_all
from tests.support.engine import face, smaller
from tests.support.memory import MemoryReader, distinct, view_of

FULL = distinct((2, 3, 4, 45, 71))
LEVELS = [FULL, smaller(FULL, 2, "nearest"), smaller(smaller(FULL, 2, "nearest"), 2, "nearest")]
RGB = distinct((1, 3, 1, 20, 30), np.uint8)


class SlideReader(MemoryReader):
    """Two images of one name, one of them RGB, and three associated ones."""

    def __init__(self) -> None:
        chunk = (1, 1, 1, 16, 16)
        size = PixelSize(Quantity(0.25, "µm"), Quantity(500.0, "nm"), None)
        channels = tuple(Channel(n) for n in ("DAPI", None, "GFP"))
        levels = tuple(Level(a.shape, chunk) for a in LEVELS)
        rgb = (Level(RGB.shape, (1, 3, 1, 20, 30)),)
        one = (Channel("rgb", samples=3),)
        self.arrays = [LEVELS, [RGB], [RGB], [RGB], [RGB]]
        self._images = (
            Image("cells", levels, FULL.dtype, pixel_size=size, channels=channels),
            Image("tissue", rgb, RGB.dtype, samples=3, interleaved=True, channels=one),
            Image("x", rgb, RGB.dtype, samples=3, channels=one, role="label"),
            Image("x", rgb, RGB.dtype, samples=3, channels=one, role="macro"),
            Image(None, rgb, RGB.dtype, samples=3, channels=one, role="macro"),
        )
        self.closed = 0

    def read(self, region: Region, out: np.ndarray[Any, Any]) -> None:
        box = tuple(slice(a, b) for a, b in zip(region.start, region.stop, strict=True))
        self.last = out
        out[...] = self.arrays[region.image][region.level][box]

    def close(self) -> None:
        self.closed += 1


def opened(name: str = "slide.mem") -> tuple[ImageView, SlideReader]:
    file = OpenFile(Source(name, data=b""), OpenOptions(max_workers=2))
    backend = SlideReader()
    file._state.backend = backend
    return ImageView(file, 0), backend


def test_what_a_view_tells() -> None:
    view, _ = opened()
    assert view.shape == (45, 71, 4, 3, 2)
    assert view.ndim == 5
    assert view.sizes == {"Y": 45, "X": 71, "Z": 4, "C": 3, "T": 2}
    assert view.dtype == np.uint16
    assert view.chunks == (16, 16, 1, 1, 1)
    assert (view.name, view.role, view.index, view.level) == ("cells", "image", 0, 0)
    assert view.channel_names == ["DAPI", None, "GFP"]
    assert view.samples_per_pixel == 1
    assert view.backend == "memory"
    assert view.used_files == []
    assert view.max_workers == 2
    assert repr(view).splitlines() == [
        "<ImageView 'slide.mem', image 0 of 5 'cells', level 0 of 3>",
        "  axes:       Y=45, X=71, Z=4, C=3, T=2",
        "  dtype:      uint16, 149.8 KiB",
        "  pixel size: x 0.25 µm, y 500 nm",
        "  channels:   DAPI, -, GFP",
        "  backend:    memory ()",
    ]


def test_levels_have_the_same_face_and_larger_pixels() -> None:
    view, _ = opened()
    assert len(view.levels) == 3
    assert [level.level for level in view.levels] == [0, 1, 2]
    for number, level in enumerate(view.levels):
        np.testing.assert_array_equal(level[...], face(LEVELS[number]))
        np.testing.assert_array_equal(
            level[3:9, ::-1, 1, [2, 0], 1], face(LEVELS[number])[3:9, ::-1, 1:2, [2, 0], 1]
        )
    size = view.levels[1].physical_pixel_size
    assert size.x == (0.25 * 71 / 36, "µm")
    assert size.y == (500.0 * 45 / 23, "nm")
    assert size.z is None
    assert view.levels[-1].level == 2
    assert [v.level for v in view.levels[1:]] == [1, 2]
    assert view.levels[1].levels[0].shape == view.shape


@pytest.mark.parametrize("unit", ["µm", "um", "micron", "nm", "mm", "m", "Å", "in"])
def test_pixel_size_in_any_unit(unit: str) -> None:
    view, _ = opened()
    metres = {"nm": 1e-9, "mm": 1e-3, "m": 1.0, "Å": 1e-10, "in": 0.0254}.get(unit, 1e-6)
    size = view.pixel_size(unit)
    assert size["X"] == pytest.approx(0.25e-6 / metres, rel=1e-12)
    assert size["Y"] == pytest.approx(0.5e-6 / metres, rel=1e-12)
    assert size["Z"] is None


def test_pixel_size_in_what_is_no_length() -> None:
    view, _ = opened()
    for unit in ("second", "pixel", ""):
        with pytest.raises(BadArgument):
            view.pixel_size(unit)


def test_series_by_number_and_name() -> None:
    view, _ = opened()
    assert isinstance(view.series, SeriesViews)
    assert len(view.series) == len(view.scenes) == 5
    assert view.series.names == ["cells", "tissue", "x", "x", None]
    assert view.series["tissue"].index == 1
    assert view.series[-1].index == 4
    assert [v.index for v in view.series] == [0, 1, 2, 3, 4]
    assert [v.index for v in view.series[1:4:2]] == [1, 3]
    assert repr(view.series) == "<5 series of 'slide.mem'>"
    assert view.series[1].series[0].name == "cells"
    np.testing.assert_array_equal(view.series[1][:], RGB[0, :, 0].transpose(1, 2, 0)[:, :, None])


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (5, "no series 5; it has 5"),
        (-6, "no series -6"),
        ("nothing", "no image has this name. Choose by number, or one of"),
        ("x", "several images have this name"),
        (1.5, "1.5 is not a valid series"),
        (None, "None is not a valid series"),
    ],
)
def test_series_that_are_not_there(key: Any, words: str) -> None:
    view, _ = opened()
    with pytest.raises(BadSelection, match=words) as caught:
        view.series[key]
    assert "slide.mem" in str(caught.value)


def test_levels_that_are_not_there() -> None:
    view, _ = opened()
    with pytest.raises(BadSelection, match="no level 3; it has 3"):
        view.levels[3]
    with pytest.raises(BadSelection, match="by number"):
        view.levels["small"]


def test_associated_images_by_role() -> None:
    view, _ = opened()
    assert {name: v.index for name, v in view.associated.items()} == {
        "label": 2, "macro": 3, "macro2": 4
    }  # fmt: skip


def test_interleaved_samples_keep_their_order_in_memory() -> None:
    view, backend = opened()
    rgb = view.series["tissue"]
    got = rgb.read(keepdims=True)[:, :, 0, :, 0]
    assert got.flags.c_contiguous
    assert np.shares_memory(got, backend.last)
    np.testing.assert_array_equal(got, RGB[0, :, 0].transpose(1, 2, 0))
    np.testing.assert_array_equal(rgb[:, :, 0, 1], RGB[0, 1, 0])


def test_keepdims_and_arrays() -> None:
    view, _ = opened()
    assert view.read(X=(0, 5), Y=3, Z=0, C=0, T=0).shape == (1, 5)
    assert view.read(X=(0, 5), Y=3, Z=0, C=0, T=0, keepdims=True).shape == (1, 5, 1, 1, 1)
    np.testing.assert_array_equal(np.asarray(view), face(FULL))
    assert np.asarray(view, dtype=np.float32).dtype == np.float32
    assert np.mean(view.levels[2]) == LEVELS[2].mean()
    with pytest.raises(ValueError, match="copy=False is not possible"):
        np.asarray(view, copy=False)


@pytest.mark.parametrize(
    "key", [np.s_[5:5], np.s_[:, 80:], np.s_[..., []], np.s_[[], [], 0], np.s_[3:1]]
)
def test_empty_selections_read_nothing(key: Any) -> None:
    view = view_of(FULL, (1, 1, 1, 16, 16))
    got = view[key]
    assert got.size == 0
    assert got.dtype == np.uint16
    assert isinstance(view._file.backend, MemoryReader)
    assert view._file.backend.calls == []


def test_too_large_a_region_says_what_it_needs() -> None:
    view, backend = opened()
    huge = Level((1, 1, 1, 2**31 - 1, 2**31 - 1), (1, 1, 1, 1024, 1024))
    backend._images = (Image("huge", (huge,), np.dtype(np.float64), channels=(Channel(),)),)
    with pytest.raises(OutOfMemory, match=r"34,359,738,336\.0 GiB are needed.*slide|slide.*GiB"):
        view[:]
    assert issubclass(OutOfMemory, MemoryError)


@pytest.mark.parametrize("workers", [1, 4])
def test_a_failing_chunk_fails_the_read(workers: int) -> None:
    view = view_of(FULL, (1, 1, 1, 16, 16), workers=workers)
    backend = view._file.backend
    read = backend.read

    def fail(region: Region, out: np.ndarray[Any, Any]) -> None:
        if region.start[3] == 32:
            raise ReadFailed(f"{region}: broken")
        read(region, out)

    backend.read = fail  # type: ignore[method-assign]
    with pytest.raises(ReadFailed, match=r"image 0, level 0, .*y 32:45.*broken"):
        view[...]
    np.testing.assert_array_equal(view[:32], face(FULL)[:32])


def test_memory_that_runs_out_while_reading_is_ours_to_report() -> None:
    view = view_of(FULL, (1, 1, 1, 16, 16))

    def fail(region: Region, out: np.ndarray[Any, Any]) -> None:
        raise MemoryError

    view._file.backend.read = fail  # type: ignore[method-assign]
    with pytest.raises(OutOfMemory, match="memory: memory ran out"):
        view[...]


def test_views_end_with_their_file() -> None:
    view, backend = opened()
    level = view.levels[1]
    view._file.close()
    view._file.close()
    assert backend.closed == 1
    assert view._file.closed
    for use in (lambda: view[0], lambda: level.shape, lambda: len(view.series)):
        assert repr(view) == "<ImageView 'slide.mem', closed>"
        with pytest.raises(Closed, match=r"slide\.mem: the reader is closed"):
            use()


def test_views_of_an_open_file_cannot_be_pickled(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with (tmp_path / "a").open("rb") as stream:
        file = OpenFile(Source("a", file=stream), OpenOptions())
        with pytest.raises(BadArgument, match="open the image by path"):
            pickle.dumps(ImageView(file, 0))


@pytest.mark.slow(ci=True)
def test_pickled_views_share_one_file(tmp_path: Path, monkeypatch: Any) -> None:
    from bfbridge import registry

    made: list[SlideReader] = []

    def open_reader(*_: Any) -> tuple[ReaderBackend, str]:
        made.append(SlideReader())
        return made[-1], "a test"

    monkeypatch.setattr(registry, "open_reader", open_reader)
    (tmp_path / "a.mem").write_bytes(b"x")
    file = OpenFile(Source("a.mem", path=tmp_path / "a.mem"), OpenOptions(max_workers=2))
    view = ImageView(file, 1)
    one, two = pickle.loads(pickle.dumps([view, ImageView(file, 1)]))
    three = pickle.loads(pickle.dumps(view))
    assert made == []  # opened on first use
    for again in (one, two, three):
        np.testing.assert_array_equal(again[:], view[:])
        assert (again.index, again.backend_reason) == (1, "a test")
    assert len(made) == 2  # the original, and one for all copies
    assert one._file is two._file is three._file
    del one, two, three, again
    settle_all()
    # The copies' file was opened first; it is closed when no view uses it.
    assert [reader.closed for reader in made] == [1, 0]


def test_a_file_that_does_not_open_is_tried_again(monkeypatch: Any) -> None:
    from bfbridge import registry

    results: list[Any] = [BfbridgeError("not yet"), (SlideReader(), "now")]

    def open_reader(*_: Any) -> Any:
        result = results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(registry, "open_reader", open_reader)
    file = OpenFile(Source("a", data=b""), OpenOptions())
    with pytest.raises(BfbridgeError, match="not yet"):
        _ = file.backend
    assert file.reason == "now"


@pytest.mark.parametrize(
    ("method", "ask"),
    [
        ("ome", lambda view: view.ome),
        ("ome", lambda view: view.metadata),
        ("ome_xml", lambda view: view.ome_xml),
        ("original_metadata", lambda view: view.original_metadata),
        ("modulo", lambda view: view.modulo),
        ("lookup_table", lambda view: view.lookup_table()),
        ("stored_as", lambda view: view.stored_as),
    ],
)
@pytest.mark.parametrize(
    ("error", "wanted", "words"),
    [
        (MemoryError(), OutOfMemory, "memory ran out while its"),
        (RecursionError("deep"), UnreadableFile, "failed with RecursionError: deep. Please report"),
        (SyntaxError("xml"), UnreadableFile, "failed with SyntaxError: xml"),
        (BadArgument("ours"), BadArgument, "^ours$"),
    ],
)
def test_what_a_backend_is_asked_for_fails_as_ours(
    method: str, ask: Any, error: Exception, wanted: type[BfbridgeError], words: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    view = view_of(RGB, (1, 3, 1, 20, 30))
    made = fail if method != "original_metadata" else property(fail)
    kind = type("Failing", (type(view._file.backend),), {method: made})
    view._file.backend.__class__ = kind
    with pytest.raises(wanted, match=words):
        ask(view)
