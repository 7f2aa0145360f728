"""How many Python frames lie between ``br[...]`` and the code that decodes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import imagecodecs
import numpy as np
import pytest

from bfbridge import BioReader, imwrite
from bfbridge_ometiff import codecs
from tests.support.memory import distinct

MOST = 9
KEYS = {"crop": np.s_[3:50, 70:90, 0, 0, 0], "all": np.s_[...]}
# Frames of the interpreter's own threads.
THREADS = ("threading.py", "concurrent/futures/thread.py")


class Depths:
    """Counts frames at each call of a function."""

    def __init__(self) -> None:
        self.found: list[int] = []

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.found.append(_depth(sys._getframe(1)))
            return function(*args, **kwargs)

        return counted


def _depth(frame: FrameType | None) -> int:
    """Count frames up to and including ``ImageView.__getitem__``, or the start of a thread."""
    count = 0
    while frame is not None:
        name = frame.f_code.co_filename.replace("\\", "/")
        if name.endswith(THREADS):
            return count
        count += 1
        if frame.f_code.co_qualname == "ImageView.__getitem__":
            return count
        frame = frame.f_back
    raise AssertionError("the codec was not called by br[...]")


@pytest.fixture
def depths(monkeypatch: pytest.MonkeyPatch) -> Depths:
    found = Depths()
    for name in dir(imagecodecs):
        if name.endswith("_decode"):
            monkeypatch.setattr(imagecodecs, name, found.wrap(getattr(imagecodecs, name)))
    # The TIFF backend has a table of decoders, of which only LZW is a function of its own.
    for name, decode in codecs._STREAM_DECODERS.items():
        if decode is not codecs._lzw:
            monkeypatch.setitem(codecs._STREAM_DECODERS, name, found.wrap(decode))
    return found


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("cache", [0, None], ids=["uncached", "cached"])
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.ome.tif", {"compression": "deflate"}),
        ("a.ome.tif", {"compression": "zstd"}),
        ("a.ome.tif", {"compression": "lzw"}),
        ("a.ome.zarr", {}),
        ("a.ome.zarr", {"compression": "zstd"}),
        ("a.ome.zarr", {"compression": "blosc-lz4"}),
        ("a.ome.zarr", {"shards": 256}),
    ],
)  # fmt: skip
def test_frames_to_the_codec(
    tmp_path: Path, depths: Depths, name: str, options: dict[str, Any], key: str, workers: int,
    cache: int | None,
) -> None:  # fmt: skip
    stored = distinct((2, 200, 300)).clip(0, 500)
    size = {"chunks": 128} if name.endswith(".zarr") else {"tile": 128}
    imwrite(tmp_path / name, stored, axes="CYX", **size, **options)
    depths.found.clear()
    with BioReader(tmp_path / name, max_workers=workers, cache=cache) as br:
        got = br[KEYS[key]]
    whole = stored.transpose(1, 2, 0)[:, :, None, :, None]
    wanted = whole[KEYS[key]] if key == "crop" else whole[..., 0]
    np.testing.assert_array_equal(got, wanted)
    assert depths.found
    assert max(depths.found) <= MOST


@pytest.mark.java
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("key", KEYS)
def test_frames_to_java(monkeypatch: pytest.MonkeyPatch, key: str, workers: int) -> None:
    from bfbridge_bioformats.readers.pool import JavaReader
    from bfbridge_bioformats.runtime import calls

    # Java is called on a thread of its own: its frames are added to those of the caller.
    waiting: dict[int, int] = {}
    found: list[int] = []
    real_call, real_open = calls.Call.__init__, JavaReader.open_bytes

    def noted(self: Any, action: Any) -> None:
        real_call(self, action)
        frame: FrameType | None = sys._getframe(1)
        names = []
        while frame is not None:
            names.append(frame.f_code.co_qualname)
            frame = frame.f_back
        if "ImageView.__getitem__" in names:
            waiting[id(self)] = names.index("ImageView.__getitem__") + 1
        elif "_SharedJobs.work" in names:
            waiting[id(self)] = names.index("_SharedJobs.work") + 1

    def counted(self: Any, *args: Any) -> Any:
        own = _frames_of_thread(sys._getframe(1)) + 1  # with open_bytes itself
        found.append(waiting[id(calls.current_call())] + own)
        return real_open(self, *args)

    monkeypatch.setattr(calls.Call, "__init__", noted)
    monkeypatch.setattr(JavaReader, "open_bytes", counted)
    with BioReader("a&sizeX=300&sizeY=200&sizeC=3.fake", max_workers=workers, cache=0) as br:
        assert br[KEYS[key]].shape == ((47, 20) if key == "crop" else (200, 300, 1, 3))
    assert found
    assert max(found) <= MOST


def _frames_of_thread(frame: FrameType | None) -> int:
    """Count the frames of a thread of Java calls, without those that wait for work."""
    count = 0
    while frame is not None and frame.f_code.co_qualname != "_Threads._serve":
        count += 1
        frame = frame.f_back
    return count


def test_frames_outside_a_read_are_an_error() -> None:
    with pytest.raises(AssertionError, match="not called"):
        _depth(sys._getframe())
