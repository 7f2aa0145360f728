"""What is dropped without `close`: finalizers never wait, whatever thread runs them."""

from __future__ import annotations

import gc
import inspect
import os
import subprocess
import sys
import threading
import warnings
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader, BioWriter
from bfbridge.errors import FileMissing
from bfbridge.files.writing.new_file import NewFile
from bfbridge.runtime import finalizers
from tests.support.dropped import settle_all
from tests.support.memory import distinct

PIXELS = distinct((300, 420), np.uint16)
SUFFIXES = [".ome.tif", ".ome.zarr"]

pytestmark = pytest.mark.filterwarnings("ignore:.*BioWriter was not closed:ResourceWarning")


@pytest.fixture(params=SUFFIXES)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"a{request.param}"


def same(path: Path) -> bool:
    with BioReader(path) as br:
        return np.array_equal(br[:], PIXELS)


# ---- views keep their writer


@pytest.mark.slow(ci=True)
def test_views_keep_their_writer_alive(path: Path) -> None:
    series = BioWriter(path, shape=PIXELS.shape, dtype="uint16").series
    gc.collect()
    series[0][:] = PIXELS
    gc.collect()
    series[0].write(PIXELS[:5])
    assert series[0].shape == PIXELS.shape
    del series
    settle_all()
    assert same(path)


@pytest.mark.slow(ci=True)
def test_a_writer_is_dropped_with_its_last_view(path: Path) -> None:
    writer = BioWriter(path, shape=PIXELS.shape, dtype="uint16")
    alive, view = weakref.ref(writer), writer.series[0]
    del writer
    gc.collect()
    assert alive() is not None
    view[:5] = 1
    with pytest.warns(ResourceWarning, match="was not closed"):
        del view
    assert alive() is None
    settle_all()
    assert list(path.parent.iterdir()) == []


# ---- finalizers


@pytest.mark.slow(ci=True)
def test_a_cycle_collected_on_the_thread_that_encodes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bfbridge_ometiff.writer import TiffWriter
    from bfbridge_omezarr.writer import StoreWriter

    dropped = threading.Event()
    collected = threading.Event()
    for kind in (TiffWriter, StoreWriter):
        encode = kind.write_block

        def write_block(self: Any, *arguments: Any, encode: Any = encode) -> None:
            assert dropped.wait(30)
            encode(self, *arguments)
            gc.collect()
            collected.set()

        monkeypatch.setattr(kind, "write_block", write_block)
    # Otherwise the caller encodes the only chunk of such a small image.
    monkeypatch.setattr("bfbridge.engine.assembler.SMALL_LEVEL", 0)
    gc.disable()
    try:
        writer = BioWriter(path, shape=PIXELS.shape, dtype="uint16")
        writer[:] = PIXELS  # one chunk, encoded by another thread
        writer.itself = writer  # type: ignore[attr-defined]
        del writer
        dropped.set()
        assert collected.wait(30), "the thread that encodes waits for itself"
    finally:
        gc.enable()
    settle_all()
    assert same(path)


@pytest.mark.slow(ci=True)
def test_finalizers_wait_for_no_thread(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of a writer nor of a reader, also while their locks are held."""
    with BioWriter(path) as bw:
        bw[:] = PIXELS
    release = threading.Event()
    hold = threading.Event()

    def block() -> None:
        hold.set()
        release.wait(30)

    finalizers.hand_over(block)
    assert hold.wait(30)  # whatever is handed over now is not done before `release`
    reader = BioReader(path)
    reader[:5]
    file = reader._file
    writer = BioWriter(path.with_name("b.ome.tif"), shape=(5, 5))
    writer[:] = 1
    new = writer._file
    with new._lock, file._state.lock:
        del reader, file, writer
        gc.collect()
    assert not new.closed
    release.set()
    settle_all()
    assert new.closed
    assert (BioReader(path.with_name("b.ome.tif"))[:] == 1).all()


def test_readers_and_writers_of_the_same_path_wait_for_what_was_dropped(path: Path) -> None:
    release = threading.Event()
    finalizers.hand_over(lambda: release.wait(30))
    writer = BioWriter(path, shape=PIXELS.shape, dtype="uint16")
    writer[:] = PIXELS
    del writer
    with pytest.raises(FileMissing):
        BioReader(path.with_name("other.ome.tif"))
    threading.Timer(0.2, release.set).start()
    assert same(path)
    release.clear()
    finalizers.hand_over(lambda: release.wait(30))
    writer = BioWriter(path, shape=PIXELS.shape, dtype="uint16", overwrite=True)
    writer[:3] = PIXELS[:3]
    del writer
    threading.Timer(0.2, release.set).start()
    with BioWriter(path, overwrite=True) as bw:  # not TargetBusy
        bw[:] = PIXELS
    assert same(path)


def test_an_interrupt_in_a_finalizer_loses_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(BioWriter, "__del__", interrupted)
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    writer = BioWriter(path, shape=PIXELS.shape, dtype="uint16")
    writer[:] = PIXELS
    del writer
    monkeypatch.undo()
    assert same(path)
    monkeypatch.setattr(BioWriter, "__del__", interrupted)
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    writer = BioWriter(path, shape=PIXELS.shape, dtype="uint16", overwrite=True)
    writer[:3] = 0
    del writer
    monkeypatch.undo()
    with BioWriter(path, shape=PIXELS.shape, dtype="uint16", overwrite=True) as bw:
        bw[:] = PIXELS
    assert same(path)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.slow(ci=True)
def test_a_failing_end_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    writer = BioWriter(tmp_path / "a.ome.tif", shape=PIXELS.shape, dtype="uint16")
    writer[:] = PIXELS
    (tmp_path / "a.ome.tif").write_bytes(b"somebody else's")
    del writer
    settle_all()
    assert "could not be released" in caplog.text
    assert "was made by another program" in caplog.text
    assert (tmp_path / "a.ome.tif").read_bytes() == b"somebody else's"


@pytest.mark.slow(ci=True)
def test_what_is_dropped_at_the_end_is_finished(path: Path) -> None:
    script = f"""
import gc, numpy as np
from bfbridge import BioWriter
def write(path):
    bw = BioWriter(path, shape=(300, 420), dtype="uint16", pyramid=1)
    bw[:] = (np.arange(300 * 420) % 65_521).reshape(300, 420)
    return bw
kept = write({str(path)!r})                 # dropped when the module ends
cycle = write({str(path.with_name("b" + path.name))!r})
cycle.itself = cycle
write({str(path.with_name("c" + path.name))!r})  # dropped at once
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    wanted = (np.arange(300 * 420) % 65_521).reshape(300, 420)
    names = sorted(entry.name for entry in path.parent.iterdir())
    assert path.name in names
    assert f"c{path.name}" in names
    for name in names:
        with BioReader(path.parent / name) as br:
            np.testing.assert_array_equal(br[:], wanted)


@pytest.mark.slow(ci=True)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_leaves_its_parents_work_alone(path: Path) -> None:
    release = threading.Event()
    finalizers.hand_over(lambda: release.wait(30))
    writer = BioWriter(path, shape=PIXELS.shape, dtype="uint16")
    writer[:] = PIXELS
    del writer
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads, in Python 3.12
        child = os.fork()
    if child == 0:
        finalizers.settle(path)  # nothing to wait for here
        finalizers.hand_over(lambda: os._exit(7))
        threading.Event().wait(30)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    release.set()
    assert same(path)


def test_every_finalizer_hands_over() -> None:
    """No `__del__` and no `weakref.finalize` of ours does more than closing a descriptor."""
    root = Path(__file__).parents[2]
    found = []
    for source in sorted([*root.glob("bfbridge/**/*.py"), *root.glob("backends/**/*.py")]):
        text = source.read_text(encoding="utf-8")
        if "weakref.finalize(" in text and source.name != "finalizers.py":
            found.append(f"{source.relative_to(root)}: weakref.finalize")
        if "def __del__" in text:
            found.append(f"{source.relative_to(root)}: __del__")
    # Datasets are closed with their pool, which hands over; the finalizer is for the exit. The next
    # two close a file descriptor, under a lock of their own, whose holders never wait.
    assert found == [
        "backends/bfbridge_geotiff/datasets.py: weakref.finalize",
        "backends/bfbridge_omezarr/hierarchy/store.py: __del__",
        "bfbridge/storage/source.py: __del__",
        "bfbridge/writer.py: __del__",
    ]
    assert "file.drop()" in inspect.getsource(BioWriter.__del__)
    assert "hand_over()" in inspect.getsource(NewFile.drop)
