"""Kills and failing disks at every call that changes the disk, while an image grows."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from tests.faults.zygote import pixels
from tests.support.faults import Zygote, leftovers, refused_by_us, state

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


def assert_hidden(path: Path) -> None:
    """What is left beside the target has our name, and bfbridge opens none of it."""
    for entry in leftovers(path):
        assert entry.name == f".{path.name}.bfbridge-partial"
        assert all(refused_by_us(inner) for inner in (entry, *entry.iterdir()))


@pytest.mark.parametrize("fault", ["kill", "full disk"])
@pytest.mark.parametrize(
    ("kind", "stride"),
    [
        pytest.param("ome-zarr", 7, marks=pytest.mark.slow(ci=True)),
        *(pytest.param(kind, 1, marks=pytest.mark.slow) for kind in FORMATS),
    ],
)
def test_at_every_call(zygote: Zygote, tmp_path: Path, kind: str, stride: int, fault: str) -> None:
    path = tmp_path / f"image{FORMATS[kind][0]}"
    whole = grow(zygote, path, kind)
    assert whole["status"] == "written", whole
    assert state(path, KNOWN) == "new"
    assert leftovers(path) == []
    count = len(whole["calls"])
    assert count > 30
    given = {} if fault == "kill" else {"errno": errno.ENOSPC, "lasting": True}
    seen = set()
    for n in range(count, 0, -stride):
        if state(path, KNOWN, peer=False) == "new":
            made = zygote.order(path=path, shape=OLD_SHAPE, seed=2, count=False, overwrite=True)
            assert made["status"] == "written", made
        answer = grow(zygote, path, kind, n=n, **given)
        after = state(path, KNOWN)
        if fault == "kill":
            assert answer["status"] == "killed"
            assert_hidden(path)
        elif answer["status"] == "raised":
            assert answer["ours"], answer["trace"]
            assert after == "old"
            assert_hidden(path)
        else:
            # Only what was to be removed is left.
            assert after == "new"
        seen.add(after)
    assert "old" in seen
    assert grow(zygote, path, kind)["status"] == "written"
    assert state(path, KNOWN) == "new"
    assert leftovers(path) == []
