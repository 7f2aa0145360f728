"""Kills and failing disks while a finished store is changed in place.

After every fault the store is what it was, or what it was to be: all of it, every level, never a
mixture. The next writer puts everything in order.
"""

from __future__ import annotations

import bisect
import errno
import json
import os
import random
import shutil
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader, BioWriter
from bfbridge.errors import BfbridgeError
from bfbridge.files.in_place import find_interrupted, recover
from tests.faults.zygote import pixels
from tests.support.faults import (
    Array,
    Zygote,
    all_levels,
    leftovers,
    read_by_peer,
    state_of_levels,
)

SHAPE = (90, 100, 1, 1, 2)
OLD, NEW = pixels(SHAPE, 1), pixels(SHAPE, 2)
# Values that are zeros, and so are not stored: chunks come into being, and are removed.
BLANK = (64, 64)
OLD[:64, 64:], NEW[BLANK[0] :, : BLANK[1]] = 0, 0
LAYOUTS: dict[str, dict[str, Any]] = {
    "0.4": {"version": "0.4"},
    "0.5": {},
    "sharded": {"shards": 128},
}
# In which way; what the store holds before, and after.
CHANGES = [("change", "0.4"), ("change", "0.5"), ("add", "0.4"), ("add", "0.5"), ("add", "sharded")]
changes = pytest.mark.parametrize(("way", "layout"), CHANGES)
KILLS = 25


class Case:
    """A store, and what it is before and after a change."""

    def __init__(self, folder: Path, way: str, layout: str) -> None:
        self.path = folder / "work/image.ome.zarr"
        self._sound = folder / "sound.ome.zarr"
        options = {"chunks": 64, "pyramid": 1, "downsample": "nearest", **LAYOUTS[layout]}
        old = OLD[..., :1] if way == "add" else OLD
        new = NEW if way == "change" else np.concatenate([old, NEW[..., 1:]], axis=4)
        self.known: dict[str, list[Array]] = {}
        for name, array in (("old", old), ("new", new)):
            path = self._sound if name == "old" else folder / "new.ome.zarr"
            with BioWriter(path, image=array, **options) as bw:
                bw[:] = array
            self.known[name] = all_levels(path)
        self.order = {
            "path": self.path, "shape": SHAPE, "seed": 2, "writer": "append", "way": way,
            "first_t": 1 if way == "add" else 0, "blank": BLANK,
        }  # fmt: skip
        self._moment = 0
        self.renew()

    def renew(self) -> None:
        """Put the store back as it was."""
        shutil.rmtree(self.path.parent, ignore_errors=True)
        shutil.copytree(self._sound, self.path)
        self._age = max(path.stat().st_mtime for path in self.path.rglob("*"))

    def state(self) -> str:
        """Return which of the two the store is, all levels of it."""
        return state_of_levels(self.path, self.known)

    def remains(self) -> list[str]:
        """Return what does not belong there, beside the store and in it."""
        inside = [path for path in self.path.rglob("*") if path.name.startswith(".bfbridge")]
        inside += self.path.rglob("*.partial")
        return [str(path) for path in (*leftovers(self.path), *inside)]

    def interrupt(self, zygote: Zygote, count: int) -> None:
        """Kill a writer of `count` calls while it moves the first files to their places."""
        if not self._moment:
            before = range(count // 2, count)
            number = bisect.bisect(before, False, key=lambda n: self._moved(zygote, n))
            assert number < len(before), "no call puts a file in place"
            self._moment = before[number]
        assert self._moved(zygote, self._moment)
        found = find_interrupted(self.path)
        assert found is not None
        assert found.committed

    def _moved(self, zygote: Zygote, n: int) -> bool:
        """Kill a writer at call `n`; return whether a chunk had been put in place."""
        self.renew()
        assert zygote.order(**self.order, workers=1, n=n)["status"] == "killed"
        found = find_interrupted(self.path)
        if found is not None and not found.committed:
            return False
        return self._age < max(p.stat().st_mtime for p in self.path.glob("[01]/**/[0-9]*"))

    def settle(self, zygote: Zygote, how: str) -> str:
        """Have the next writer put things in order; return what the store is then."""
        before = self.state()
        interrupted = find_interrupted(self.path)
        if interrupted is not None and interrupted.committed:
            assert before == "new"
        if how == "recover":
            recover(self.path)
        elif how == "append":
            BioWriter(self.path, append=True).close()
        else:
            answer = zygote.order(**self.order, count=False)
            assert answer["status"] == "written", answer
            before = "new"
        assert self.remains() == []
        assert find_interrupted(self.path) is None
        assert self.state() == before
        np.testing.assert_array_equal(read_by_peer(self.path), self.known[before][0])
        return before


def shares(count: int) -> list[Any]:
    """Shares of a test that is divided; CI runs the first one."""
    return [pytest.param(share, marks=pytest.mark.slow(ci=not share)) for share in range(count)]


@pytest.fixture
def case(tmp_path: Path, zygote: Zygote) -> Callable[[str, str], Case]:
    return lambda way, layout: Case(tmp_path, way, layout)


@changes
@pytest.mark.parametrize("share", shares(3))
def test_a_kill_at_every_call(
    case: Callable[[str, str], Case], zygote: Zygote, way: str, layout: str, share: int
) -> None:
    one = case(way, layout)
    count = len(zygote.order(**one.order, workers=1)["calls"])
    assert one.state() == "new"
    assert one.remains() == []
    seen = set()
    for n in range(1 + share, count + 1, 3):
        one.renew()
        assert zygote.order(**one.order, workers=1, n=n)["status"] == "killed"
        seen.add(one.state())
        how = ("recover", "append", "again")[n // 3 % 3]
        # Shards are added, and not changed.
        one.settle(zygote, "recover" if layout == "sharded" else how)
    assert seen == {"old", "new"}


@pytest.mark.slow(ci=True)
@changes
def test_a_kill_while_an_interrupted_change_is_finished(
    case: Callable[[str, str], Case], zygote: Zygote, way: str, layout: str
) -> None:
    one = case(way, layout)
    count = len(zygote.order(**one.order, workers=1)["calls"])
    for n in range(1, 12):
        one.interrupt(zygote, count)
        zygote.order(**one.order, workers=1, n=n)
        assert one.state() == "new"
        one.settle(zygote, "recover")


@pytest.mark.slow(ci=True)
@changes
def test_kills_at_random_moments(
    case: Callable[[str, str], Case], zygote: Zygote, way: str, layout: str
) -> None:
    one = case(way, layout)
    took = []
    for _ in range(3):
        one.renew()
        took.append(zygote.order(**one.order, count=False)["seconds"])
    chance = random.Random(f"{way} {layout}")
    killed = 0
    for _ in range(4 * KILLS):
        one.renew()
        delay = chance.uniform(0, 1.1 * min(took))
        killed += zygote.order(**one.order, count=False, delay=delay)["status"] == "killed"
        how = chance.choice(["recover", "append", "again"])
        one.settle(zygote, "recover" if layout == "sharded" else how)
        if killed == KILLS:
            break
    assert killed >= KILLS // 2


@changes
@pytest.mark.parametrize("share", shares(2))
def test_a_disk_that_fails_at_every_call(
    case: Callable[[str, str], Case], zygote: Zygote, way: str, layout: str, share: int
) -> None:
    one = case(way, layout)
    calls = zygote.order(**one.order, workers=1)["calls"]
    for n in range(1 + share, len(calls) + 1, 2):
        one.renew()
        number = (errno.ENOSPC, errno.EIO)[n // 2 % 2]
        answer = zygote.order(**one.order, workers=1, n=n, errno=number)
        where = f"call {n} of {len(calls)}, {calls[n - 1]}: {answer}"
        assert answer["status"] in {"raised", "written"}, where
        assert answer["descriptors"] <= 0, where
        now = one.state()
        if answer["status"] == "written":
            assert now == "new", where
        else:
            assert answer["ours"], where
            assert one.path.name in answer["message"], where
            assert ("It is not lost" in answer["message"]) <= (now == "new"), where
        one.settle(zygote, "recover")


@pytest.mark.slow(ci=True)
@changes
def test_an_interrupt_leaves_the_store_as_it_was(
    case: Callable[[str, str], Case], zygote: Zygote, way: str, layout: str
) -> None:
    one = case(way, layout)
    took = zygote.order(**one.order, count=False)["seconds"]
    chance = random.Random(f"{way} {layout}")
    for _ in range(5):
        one.renew()
        delay = chance.uniform(0, 0.8 * took)
        answer = zygote.order(**one.order, count=False, signal=int(signal.SIGINT), delay=delay)
        assert one.state() in {"old", "new"}
        if answer["status"] == "raised":
            assert answer["type"] == "KeyboardInterrupt", answer
        one.settle(zygote, "recover")


@pytest.fixture(scope="module")
def half(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("half")
    one = Case(folder, "change", "0.5")
    count = len(zygote.order(**one.order, workers=1)["calls"])
    one.interrupt(zygote, count)
    # Other programs see a mixture.
    seen = read_by_peer(one.path)
    assert not any(np.array_equal(seen, levels[0]) for levels in one.known.values())
    shutil.copytree(one.path, folder / "half.ome.zarr")
    return one


@pytest.mark.slow(ci=True)
class TestACommittedChange:
    """One whose chunks are partly in place."""

    @pytest.fixture
    def one(self, half: Case) -> Case:
        shutil.rmtree(half.path.parent)
        shutil.copytree(half.path.parents[1] / "half.ome.zarr", half.path)
        return half

    def test_readers_are_told(self, one: Case, caplog: pytest.LogCaptureFixture) -> None:
        assert one.state() == "new"
        assert "complete in its journal, but not yet in place" in caplog.text
        assert f"bfbridge.recover({str(one.path)!r}) finishes it" in caplog.text

    def test_info_tells(self, one: Case) -> None:
        from rich.console import Console

        from bfbridge.analysis.description import describe
        from bfbridge.cli.terminal.description import print_description

        console = Console(record=True, width=200)
        with BioReader(one.path) as br:
            told = describe(br)
        assert "not yet in place" in told["interrupted"]
        print_description(console, told)
        assert "not yet in place" in console.export_text()
        recover(one.path)
        with BioReader(one.path) as br:
            assert describe(br)["interrupted"] is None

    def test_a_reader_that_is_open_while_it_is_finished(self, one: Case) -> None:
        with BioReader(one.path, cache=0) as br:
            assert np.array_equal(br.read(keepdims=True), one.known["new"][0])
            found = recover(one.path)
            assert found is not None
            assert found.committed
            for level, expected in zip(br.levels, one.known["new"], strict=True):
                assert np.array_equal(level.read(keepdims=True), expected)
            assert not any(".bfbridge" in name for name in br.used_files)

    def test_a_copy_of_the_store_is_whole_as_well(self, one: Case, tmp_path: Path) -> None:
        copy = tmp_path / "copy.ome.zarr"
        shutil.copytree(one.path, copy)
        assert np.array_equal(all_levels(copy)[0], one.known["new"][0])

    @pytest.mark.parametrize("inside", ["", "image.ome.zarr/"])
    def test_a_zip_file_of_the_store_is_whole_as_well(
        self, one: Case, tmp_path: Path, inside: str
    ) -> None:
        path = tmp_path / "a.ozx"
        with zipfile.ZipFile(path, "w") as archive:
            for file in one.path.rglob("*"):
                if file.is_file():
                    archive.write(file, inside + file.relative_to(one.path).as_posix())
        with BioReader(path) as br:
            for level, expected in zip(br.levels, one.known["new"], strict=True):
                assert np.array_equal(level.read(keepdims=True), expected)

    def test_it_can_be_replaced(self, one: Case) -> None:
        with BioWriter(one.path, image=OLD, overwrite=True) as bw:
            bw[:] = OLD
        assert one.remains() == []
        np.testing.assert_array_equal(all_levels(one.path)[0], OLD)

    @pytest.mark.parametrize("text", ["", "{}", "[]", "[" * 99_999, '{"format": 9}',
                                      '{"format": 1, "removed": [3], "last": []}'])  # fmt: skip
    def test_a_damaged_record(self, one: Case, text: str) -> None:
        (one.path / ".bfbridge-journal/commit.json").write_text(text)
        for attempt in (all_levels, recover, lambda path: BioWriter(path, append=True)):
            with pytest.raises(BfbridgeError, match=r"commit\.json.*record of a change cannot be"):
                attempt(one.path)

    @pytest.mark.parametrize("key", ["../other", "/etc/x", "0/../../x", "a\\b", "", "0//c"])
    def test_a_record_that_leads_elsewhere(self, one: Case, key: str) -> None:
        victim = one.path.parent / "other"
        victim.write_text("precious")
        record = one.path / ".bfbridge-journal/commit.json"
        record.write_text(json.dumps({"format": 1, "removed": [key], "last": []}))
        with pytest.raises(BfbridgeError, match="leads out of the store"):
            recover(one.path)
        assert victim.read_text() == "precious"

    @pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs links")
    def test_a_link_that_leads_elsewhere(self, one: Case, tmp_path: Path) -> None:
        elsewhere = tmp_path / "elsewhere"
        (one.path / "0").rename(elsewhere)
        (one.path / "0").symlink_to(elsewhere)
        before = sorted(elsewhere.rglob("*"))
        with pytest.raises(BfbridgeError, match="leads out of the store"):
            recover(one.path)
        assert sorted(elsewhere.rglob("*")) == before


def test_nothing_changes_before_close(tmp_path: Path) -> None:
    one = Case(tmp_path, "change", "0.5")
    bw = BioWriter(one.path, append=True)
    bw[:] = NEW
    assert one.state() == "old"
    bw[:64, :64] = 7
    assert bw._file.is_complete()
    bw.abort()
    assert (one.state(), one.remains()) == ("old", [])

    def fail() -> None:
        with BioWriter(one.path, append=True) as bw:
            bw[:] = NEW
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (one.state(), one.remains()) == ("old", [])


def test_chunks_are_removed_and_come_back(tmp_path: Path) -> None:
    one = Case(tmp_path, "change", "0.5")
    chunk = one.path / "0/c/0/0/0/0/0"
    assert chunk.exists()
    for value in (0, 5, 0):
        with BioWriter(one.path, append=True) as bw:
            bw[:64, :64, 0, 0, 0] = 9
            bw[:64, :64, 0, 0, 0] = value
        assert chunk.exists() == (value != 0)
        assert (all_levels(one.path)[0][:64, :64, 0, 0, 0] == value).all()
