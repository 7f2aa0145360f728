"""Kills and failing disks while an image is written: promises W1, W2 and W3.

After every fault the target's name holds the old image whole, the new one whole, or nothing, by
our reader and by tifffile or zarr; what is left beside it opens as nothing; and the next writer
clears it.
"""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.faults.zygote import pixels
from tests.support.faults import Zygote, assert_harmless, leftovers, state

SHAPE = (520, 310, 1, 2, 2)
OLD_SHAPE = (130, 210, 1, 1, 1)
NEW = pixels(SHAPE, 1)
OLD = pixels(OLD_SHAPE, 2)
# Few chunks, for tests that try each call of a whole write in turn.
SMALL_SHAPE = (150, 130, 1, 1, 2)
SMALL = pixels(SMALL_SHAPE, 4)
KNOWN = {"new": NEW, "old": OLD, "small": SMALL}
FORMATS = {
    "ome-tiff": (".ome.tif", {"tile": 128}),
    "ome-zarr": (".ome.zarr", {"chunks": 128}),
}
KILLS = 40
formats = pytest.mark.parametrize("kind", FORMATS)


def make_old(zygote: Zygote, path: Path) -> None:
    answer = zygote.order(path=path, shape=OLD_SHAPE, seed=2, count=False)
    assert answer["status"] == "written", answer
    assert state(path, KNOWN) == "old"


def new_order(path: Path, kind: str, **more: object) -> dict[str, object]:
    options = FORMATS[kind][1]
    return {"path": path, "shape": SHAPE, "seed": 1, "options": options, **more}


def small_order(path: Path, kind: str, **more: object) -> dict[str, object]:
    order = {"shape": SMALL_SHAPE, "seed": 4, "durable": True, "workers": 1, **more}
    return new_order(path, kind, **order)


def target(folder: Path, kind: str) -> Path:
    folder.mkdir(exist_ok=True)
    return folder / f"image{FORMATS[kind][0]}"


def remove(path: Path) -> None:
    for entry in [path, *leftovers(path)]:
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)


class TestTheHarnessItself:
    """A writer that writes in place is caught by every check used below."""

    @pytest.mark.java
    def test_a_naive_writer_leaves_half_a_file(self, zygote, tmp_path):
        path = tmp_path / "raw"
        order = {"path": path, "shape": SHAPE, "seed": 1, "writer": "naive"}
        whole = zygote.order(**order)
        assert whole["status"] == "written"
        assert whole["calls"].count("write") > 10
        size = path.stat().st_size
        answer = zygote.order(**order, n=6)
        assert answer["status"] == "killed"
        assert 0 < path.stat().st_size < size
        answer = zygote.order(**order, n=7, errno=errno.ENOSPC)
        assert answer["status"] == "raised"
        assert not answer["ours"]
        with pytest.raises(AssertionError, match="cannot be read"):
            state(path, KNOWN)

    def test_a_delayed_kill_strikes(self, zygote, tmp_path):
        order = new_order(target(tmp_path, "ome-tiff"), "ome-tiff", delay=0.0)
        assert zygote.order(**order)["status"] == "killed"


@formats
class TestKill:
    @pytest.mark.parametrize(
        "old", [pytest.param(old, marks=pytest.mark.slow(ci=not old)) for old in (False, True)]
    )
    def test_at_random_moments(self, zygote, tmp_path, kind, old):
        path = target(tmp_path, kind)
        took = []
        for _ in range(3):
            whole = zygote.order(**new_order(path, kind, count=False, overwrite=True))
            assert whole["status"] == "written", whole
            took.append(whole["seconds"])
        assert state(path, KNOWN) == "new"
        chance = random.Random(f"{kind} {old}")
        before, present, seen = "old" if old else "absent", "new", []
        for _ in range(4 * KILLS):
            if present == "new":
                remove(path)
                if old:
                    make_old(zygote, path)
            delay = chance.uniform(0, 1.1 * min(took))
            answer = zygote.order(**new_order(path, kind, count=False, delay=delay, overwrite=old))
            present = state(path, KNOWN)
            assert present in {"new", before}
            assert_harmless(path, NEW, OLD)
            if answer["status"] == "killed":
                seen.append(present)
            if len(seen) == KILLS // 2:
                break
        assert seen.count(before) >= KILLS // 4
        # The last may have been killed when all was done.
        answer = zygote.order(**new_order(path, kind, count=False, overwrite=old or path.exists()))
        assert answer["status"] == "written"
        assert state(path, KNOWN) == "new"
        assert leftovers(path) == []

    @pytest.mark.parametrize(
        "old", [pytest.param(old, marks=pytest.mark.slow(ci=old)) for old in (False, True)]
    )
    def test_at_every_call_that_finishes(self, zygote, tmp_path, kind, old):
        """The last calls of a writer are those that put the image in place."""
        path = target(tmp_path, kind)
        if old:
            make_old(zygote, path)
        order = small_order(path, kind, overwrite=old)
        count = len(zygote.order(**order)["calls"])
        assert state(path, KNOWN) == "small"
        seen = set()
        for n in range(max(1, count - 25), count + 1):
            remove(path)
            if old:
                make_old(zygote, path)
            assert zygote.order(**order, n=n)["status"] == "killed"
            now = state(path, KNOWN, peer=False)
            seen.add(now)
            assert now in {"small", "old" if old else "absent"}
            follower = zygote.order(**{**order, "overwrite": True}, count=False)
            assert follower["status"] == "written", follower
            assert state(path, KNOWN, peer=False) == "small"
            assert leftovers(path) == []
        assert "small" in seen
        assert seen & {"old", "absent"}

    @pytest.mark.slow(ci=True)
    def test_an_interrupt_cleans_up(self, zygote, tmp_path, kind):
        path = target(tmp_path, kind)
        whole = zygote.order(**new_order(path, kind, count=False))
        chance = random.Random(kind)
        for _ in range(5):
            remove(path)
            make_old(zygote, path)
            answer = zygote.order(
                **new_order(path, kind, count=False, overwrite=True),
                signal=int(signal.SIGINT),
                delay=chance.uniform(0, 0.8 * whole["seconds"]),
            )
            now = state(path, KNOWN)
            if answer["status"] == "raised":
                assert answer["type"] == "KeyboardInterrupt"
                # It may come after the new image was put in place, but before the call returns.
                assert now in {"old", "new"}
            else:
                assert now == "new"
            assert leftovers(path) == []


@formats
class TestFailingCalls:
    @pytest.mark.slow(ci=True)
    @pytest.mark.parametrize(
        ("number", "old"),
        [(errno.ENOSPC, True), (errno.EIO, False), (errno.EIO, True)],
        ids=["ENOSPC over an old image", "EIO", "EIO over an old image"],
    )
    def test_every_call_in_turn(self, zygote, tmp_path, kind, number, old):
        path = target(tmp_path, kind)
        before = "old" if old else "absent"
        if old:
            make_old(zygote, path)
        order = small_order(path, kind, overwrite=old)
        calls = zygote.order(**order)["calls"]
        present = state(path, KNOWN)
        assert present == "small"
        assert {"write", "fsync", "mkdir"} <= {call.removeprefix("p") for call in calls}
        assert not {"replace", "renameat2"}.isdisjoint(calls)
        for n in range(1, len(calls) + 1):
            if present == "small":
                remove(path)
                if old:
                    make_old(zygote, path)
            answer = zygote.order(**order, n=n, errno=number)
            present = state(path, KNOWN, peer=False)
            where = f"call {n} of {len(calls)}, {calls[n - 1]}: {answer}"
            assert answer["status"] in {"raised", "written"}, where
            if answer["status"] == "written":
                assert present == "small", where
            else:
                assert answer["ours"], where
                assert path.name in answer["message"], where
                if "complete, but may not survive" not in answer["message"]:
                    assert present == before, where
            assert answer["descriptors"] <= 0, where
            for entry in leftovers(path):
                assert entry.name.startswith(f".{path.name}.bfbridge-"), where
                shutil.rmtree(entry)

    @pytest.mark.slow(ci=True)
    def test_disk_that_stays_full(self, zygote, tmp_path, kind):
        path = target(tmp_path, kind)
        make_old(zygote, path)
        order = new_order(path, kind, overwrite=True)
        count = len(zygote.order(**order)["calls"])
        remove(path)
        make_old(zygote, path)
        for n in range(3, count, max(1, count // 12)):
            answer = zygote.order(**order, n=n, errno=errno.ENOSPC, lasting=True)
            if answer["status"] == "written":
                # The last bytes had been stored before the disk was full.
                assert state(path, KNOWN, peer=False) == "new"
                assert n > 0.8 * count
                break
            assert answer["ours"], answer
            assert state(path, KNOWN, peer=False) == "old"
            for entry in leftovers(path):
                assert entry.name.startswith(f".{path.name}.bfbridge-")
                shutil.rmtree(entry)


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = (
        os.name == "posix"
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1536k", "tmpfs", str(disk)],
            check=False,
            capture_output=True,
        ).returncode
    )
    if not mounted:
        pytest.skip("mounting a small file system is not permitted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow(ci=True)
@formats
def test_a_disk_that_is_really_full(zygote, small_disk, kind):
    path = target(small_disk, kind)
    make_old(zygote, path)
    ballast = small_disk / "ballast"
    for free in (0, 64, 256, 512):
        size = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        ballast.write_bytes(bytes(max(0, size - free * 1024)))
        answer = zygote.order(**new_order(path, kind, overwrite=True, count=False))
        assert answer["status"] == "raised", (free, answer)
        assert answer["type"] == "WriteFailed", (free, answer)
        assert re.search("space|disk is full", answer["message"]), (free, answer)
        ballast.unlink()
        assert state(path, KNOWN) == "old"
        assert leftovers(path) == []
    answer = zygote.order(path=path, shape=(300, 310, 1, 1, 1), seed=3, overwrite=True, count=False)
    assert answer["status"] == "written", answer
    assert state(path, {"third": pixels((300, 310, 1, 1, 1), 3)}) == "third"
