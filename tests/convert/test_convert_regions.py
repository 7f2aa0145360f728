"""The tasks of one image on a cluster, run in this process: the same store as without a cluster."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader, BioWriter, convert, registry
from bfbridge.convert.execute import cluster, levels, regions
from bfbridge.convert.options import ConvertOptions, read_options
from bfbridge.convert.plan.sources import find_sources
from bfbridge.convert.reports.record import OutputRecord
from bfbridge.errors import TargetExists

PIXELS = np.random.default_rng(5).integers(0, 60000, (40, 70, 45, 2, 1)).astype(np.uint16)
SIZES = {"physical_size_x": (0.5, "µm"), "physical_size_y": (0.5, "µm")}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    with BioWriter(
        tmp_path / "a.ome.tif", shape=PIXELS.shape, dtype="uint16", **SIZES,
        physical_size_z=(1.0, "µm"),
    ) as bw:  # fmt: skip
        bw[:] = PIXELS
    return tmp_path / "a.ome.tif"


@pytest.fixture(autouse=True)
def _serial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run tasks one after the other, with copies of their arguments."""

    def run_tasks(
        client: Any, function: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]
    ) -> Iterator[tuple[int, Any]]:
        for number, given in enumerate(arguments):
            yield number, function(*pickle.loads(pickle.dumps(given)))

    monkeypatch.setattr(regions, "run_tasks", run_tasks)
    monkeypatch.setattr(regions, "options_on_worker", lambda options: options)
    monkeypatch.setattr(regions, "REGION_BYTES", 1 << 16)
    monkeypatch.setattr(levels, "LEVEL_PIXELS", 1 << 10)


def by_tasks(source: Path, target: Path, *, resume: bool = False, **given: Any) -> OutputRecord:
    writer = registry.writer_for(str(target), None)
    options = read_options(given)[0].for_writer(writer, str(target))
    client = SimpleNamespace(nthreads=lambda: {"a": 1, "b": 4})
    record = regions.convert_on_cluster(source, target, options, writer, client, resume=resume)
    return record.outputs[0]


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"downsample_z": "auto", "smallest": 10}, [(1, 2, 2), (2, 2, 2), (2, 2, 2)]),
        # A chunk is 16 slices deep, so that the shard is 32 deep.
        ({"downsample_z": 2, "pyramid": 2, "shards": (24, 1024, 1024)}, [(2, 2, 2)] * 2),
        (
            {"factors": "1x2x4,3x4x4", "chunks": (6, 16, 16), "downsample": "mode"},
            [(1, 2, 4), (3, 2, 1)],
        ),
        # Of the factors that reduce 40 x 70 to 3 x 5, 14 is the smallest.
        ({"factors": "16"}, [(1, 16, 16)]),
        ({"swap": "zt", "pyramid": 1, "name": "new", "channel_names": "a,b"}, [(1, 2, 2)]),
        ({"project": ("max", "z"), "pyramid": 1, "pixel_size": "1,1"}, [(1, 2, 2)]),
    ],
)
def test_tasks_write_what_one_process_writes(
    source: Path, tmp_path: Path, options: dict[str, Any], steps: list[tuple[int, int, int]]
) -> None:
    options = options | {"verify": True, "compare_metadata": True}
    (alone,) = convert(source, tmp_path / "alone.ome.zarr", **options).files[0].outputs
    made = by_tasks(source, tmp_path / "tasks.ome.zarr", **options)
    assert made.verified
    assert made.lost == alone.lost
    with BioReader(alone.target) as one, BioReader(made.target) as other:
        shapes = [tuple(level.sizes[axis] for axis in "ZYX") for level in one.levels]
        for (before, after), step in zip(pairwise(shapes), steps, strict=True):
            assert after == tuple(-(-n // f) for n, f in zip(before, step, strict=True))
        for a, b in zip(one.levels, other.levels, strict=True):
            np.testing.assert_array_equal(a[:], b[:])
            assert (a.chunks, a.physical_pixel_size) == (b.chunks, b.physical_pixel_size)
        assert (one.name, one.channel_names) == (other.name, other.channel_names)


@pytest.mark.slow(ci=True)
def test_shares_of_a_verification_have_the_same_blocks(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, verify_share, seen = itertools.count(16 << 20), regions.verify_share, []

    def on_worker(options: ConvertOptions) -> ConvertOptions:
        return replace(options, memory=next(memory))

    def looking(*arguments: Any) -> Any:
        seen.append((arguments[3].memory, arguments[3].workers))
        return verify_share(*arguments)

    monkeypatch.setattr(regions, "options_on_worker", on_worker)
    monkeypatch.setattr(regions, "verify_share", looking)
    assert by_tasks(source, tmp_path / "a.ome.zarr", verify=True).verified
    assert by_tasks(source, tmp_path / "b.ome.zarr", verify=True, memory="256M").verified
    half = len(seen) // 2
    assert half > 1
    assert seen == [(128 << 20, 1)] * half + [(64 << 20, 1)] * half


def test_an_existing_store_is_compared_by_tasks(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a.ome.zarr"
    made = by_tasks(source, target, verify=True)
    verify_share, shares = regions.verify_share, []

    def looking(*arguments: Any) -> Any:
        shares.append(arguments[5])
        return verify_share(*arguments)

    monkeypatch.setattr(regions, "verify_share", looking)
    kept = by_tasks(source, target, resume=True)
    count = -(-PIXELS.nbytes // regions.REGION_BYTES)
    assert count > 1
    assert shares == [(number, count) for number in range(count)]
    assert kept.kept
    assert kept.verified
    assert [image["checksum"] for image in kept.images] == [i["checksum"] for i in made.images]
    other = tmp_path / "other.ome.tif"
    with BioWriter(other, shape=PIXELS.shape, dtype="uint16", **SIZES) as bw:
        changed = PIXELS.copy()
        changed[39, 69, 44, 1, 0] ^= 1
        bw[:] = changed
    with pytest.raises(TargetExists, match="the pixels are not the source's"):
        by_tasks(other, target, resume=True)


def test_workers_open_the_files_of_a_search(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = tmp_path / "b.ome.tif"
    damaged.write_bytes(source.read_bytes()[:100])
    opened: list[str] = []

    def submitted(client: Any, function: Any, path: str, options: ConvertOptions) -> Any:
        opened.append(path)
        if path == str(source):
            raise RuntimeError("the worker was lost")
        return SimpleNamespace(result=lambda: function(path, pickle.loads(pickle.dumps(options))))

    monkeypatch.setattr(cluster, "submitted", submitted)
    monkeypatch.setattr(cluster, "check_client", lambda client: None)
    options = read_options({"backend": "ometiff"})[0]
    client = SimpleNamespace(nthreads=lambda: {"a": 10, "b": 10})
    opener, ahead = cluster.opener_on(client, options)
    assert ahead == 40
    named = [str(source), str(damaged)]
    found = find_sources(named, options, opener=opener, ahead=ahead)
    assert found == find_sources(named, options)
    assert [f.error_type for f in found] == [None, "UnreadableFile"]
    assert found[0].pixel_bytes == PIXELS.nbytes
    assert set(opened) >= {str(source), str(damaged)}
