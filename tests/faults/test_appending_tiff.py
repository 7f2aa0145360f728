"""Kills and failing disks while time points are added to an OME-TIFF.

After every fault the file is what it was, or what it was to be: all of it, every level. A further
attempt succeeds.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioWriter
from tests.faults.zygote import pixels
from tests.support.faults import (
    Array,
    Zygote,
    all_levels,
    leftovers,
    read_by_peer,
    state_of_levels,
)

SHAPE = (90, 100, 1, 1, 3)
OLD_T = 2
BLANK = (64, 64)
ALL = pixels(SHAPE, 2)
ALL[BLANK[0] :, : BLANK[1]] = 0
LAYOUTS: dict[str, dict[str, Any]] = {
    "classic": {"bigtiff": False, "compression": "none"},
    "big": {"bigtiff": True, "pyramid": 1},
}
layouts = pytest.mark.parametrize("layout", LAYOUTS)


class Case:
    """A file, and what it is before and after time points are added."""

    def __init__(self, folder: Path, layout: str) -> None:
        self.path = folder / "work/image.ome.tif"
        self._sound = folder / "sound.ome.tif"
        self.known: dict[str, list[Array]] = {}
        for name, count in (("new", SHAPE[4]), ("old", OLD_T)):
            array = ALL[..., :count]
            with BioWriter(
                self._sound, image=array, tile=64, overwrite=True, **LAYOUTS[layout]
            ) as bw:
                bw[:] = array
            self.known[name] = all_levels(self._sound)
        self.order = {
            "path": self.path, "shape": SHAPE, "seed": 2, "writer": "append", "first_t": OLD_T,
            "blank": BLANK, "workers": 1,
        }  # fmt: skip
        self.renew()

    def renew(self) -> None:
        """Put the file back as it was."""
        shutil.rmtree(self.path.parent, ignore_errors=True)
        self.path.parent.mkdir()
        shutil.copy(self._sound, self.path)

    @property
    def restored(self) -> bool:
        """Whether the file has its old bytes."""
        return self.path.read_bytes() == self._sound.read_bytes()

    def state(self) -> str:
        """Return which of the two the file is, all levels of it."""
        found = state_of_levels(self.path, self.known)
        np.testing.assert_array_equal(read_by_peer(self.path), self.known[found][0])
        return found

    def try_again(self, zygote: Zygote) -> None:
        """Add the time points, unless they are there; nothing else may remain."""
        if self.state() == "old":
            answer = zygote.order(**self.order, count=False)
            assert answer["status"] == "written", answer
        else:
            BioWriter(self.path, append=True, T=SHAPE[4] + 1)._file.abort()
        assert self.state() == "new"
        assert leftovers(self.path) == []


@pytest.fixture
def case(tmp_path: Path) -> Callable[[str], Case]:
    return lambda layout: Case(tmp_path, layout)


@pytest.mark.slow(ci=True)
@layouts
def test_a_kill_at_every_call(case: Callable[[str], Case], zygote: Zygote, layout: str) -> None:
    one = case(layout)
    calls = zygote.order(**one.order)["calls"]
    assert one.state() == "new"
    seen = []
    for n in range(1, len(calls) + 1):
        one.renew()
        assert zygote.order(**one.order, n=n)["status"] == "killed"
        seen.append(one.state())
        one.try_again(zygote)
    # The link and the header are each followed by a flush; the header commits.
    flushes = [n for n, name in enumerate(calls) if name == "fsync"]
    assert len(flushes) == 3
    assert seen == ["old"] * flushes[-1] + ["new"] * (len(calls) - flushes[-1])


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize(("layout", "lasting"), [("classic", True), ("big", False)])
def test_a_disk_that_fails_at_every_call(
    case: Callable[[str], Case], zygote: Zygote, layout: str, lasting: bool
) -> None:
    one = case(layout)
    calls = zygote.order(**one.order)["calls"]
    for n in range(1, len(calls) + 1):
        one.renew()
        number = (errno.ENOSPC, errno.EIO)[n % 2]
        answer = zygote.order(**one.order, n=n, errno=number, lasting=lasting)
        where = f"call {n} of {len(calls)}, {calls[n - 1]}: {answer}"
        assert answer["status"] in {"raised", "written"}, where
        assert answer["descriptors"] <= 0, where
        now = one.state()
        if answer["status"] == "written":
            assert now == "new", where
        else:
            assert answer["ours"], where
            assert one.path.name in answer["message"], where
            assert ("are complete" in answer["message"]) == (now == "new"), where
            assert lasting or now == "new" or one.restored, where
        one.try_again(zygote)
