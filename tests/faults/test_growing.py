"""Kills and failing disks at every call that changes the disk, while an image grows."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from tests.faults.zygote import pixels
from tests.support.faults import Zygote, assert_harmless, leftovers, state

SHAPE, OLD_SHAPE = (150, 130, 1, 1, 2), (40, 50, 1, 1, 1)
NEW, OLD = pixels(SHAPE, 4), pixels(OLD_SHAPE, 2)
KNOWN = {"new": NEW, "old": OLD}
FORMATS = {
    "ome-tiff": (".ome.tif", {"tile": 128}),
    # Chunks that are moved, as both grids are equal, and chunks that are divided again.
    "ome-zarr": (".ome.zarr", {"chunks": 128}),
    "shards": (".ome.zarr", {"chunks": 64, "shards": 128}),
}


def grow(zygote: Zygote, path: Path, kind: str, **more: Any) -> dict[str, Any]:
    return zygote.order(
        path=path, shape=SHAPE, seed=4, writer="grow", workers=1, overwrite=True, step=50,
        options=FORMATS[kind][1], **more,
    )  # fmt: skip


@pytest.mark.parametrize("fault", ["kill", "full disk"])
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow(ci=kind == "ome-zarr")) for kind in FORMATS]
)
def test_at_every_call(zygote: Zygote, tmp_path: Path, kind: str, fault: str) -> None:
    path = tmp_path / f"image{FORMATS[kind][0]}"
    whole = grow(zygote, path, kind)
    assert whole["status"] == "written", whole
    assert state(path, KNOWN) == "new"
    assert leftovers(path) == []
    count = len(whole["calls"])
    assert count > 30
    given = {} if fault == "kill" else {"errno": errno.ENOSPC, "lasting": True}
    seen = set()
    for n in range(1, count + 1, 1 if count < 150 else 2):
        if state(path, KNOWN, peer=False) == "new":
            made = zygote.order(path=path, shape=OLD_SHAPE, seed=2, count=False, overwrite=True)
            assert made["status"] == "written", made
        answer = grow(zygote, path, kind, n=n, **given)
        after = state(path, KNOWN)
        if fault == "kill":
            assert answer["status"] == "killed"
            if n % 5 == 0:
                assert_harmless(path, NEW, OLD)
        elif answer["status"] == "raised":
            assert answer["ours"], answer["trace"]
            assert after == "old"
            assert_harmless(path, NEW, OLD)
        else:
            # Only what was to be removed is left.
            assert after == "new"
        seen.add(after)
    assert "old" in seen
    assert grow(zygote, path, kind)["status"] == "written"
    assert state(path, KNOWN) == "new"
    assert leftovers(path) == []
