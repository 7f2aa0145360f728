"""What a thousand openings of damaged files leave behind: nothing, from the second hundred on."""

from __future__ import annotations

import gc
import itertools
import os
import random
import shutil
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader, BioWriter
from bfbridge.errors import BfbridgeError

PIXELS = np.random.default_rng(0).integers(0, 4000, (300, 260, 1, 2, 1)).astype(np.uint16)
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ome-tiff": (".ome.tif", "ometiff", {"tile": 128}),
    "ome-zarr 0.4": (".ome.zarr", "omezarr", {"chunks": 128, "version": "0.4"}),
    "ome-zarr": (".ome.zarr", "omezarr", {"chunks": 128}),
    "sharded": (".ome.zarr", "omezarr", {"chunks": 64, "shards": 128}),
}
kinds = pytest.mark.parametrize("kind", KINDS)


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Return data with some bytes changed, or cut."""
    if not data or chance.random() < 0.2:
        return data[: len(data) // 2]
    changed = bytearray(data)
    for _ in range(chance.choice([1, 3, 20])):
        # Headers are more likely to matter than pixels.
        place = chance.randrange(len(data) if chance.random() < 0.5 else min(len(data), 4000))
        changed[place] = chance.randrange(256)
    return bytes(changed)


@pytest.fixture
def damaged(tmp_path: Path) -> Callable[[str], Iterator[Path]]:
    """Yield one path again and again, each time with other damage, all of it reproducible."""

    def files(kind: str) -> Iterator[Path]:
        suffix, _, options = KINDS[kind]
        path, sound = tmp_path / f"image{suffix}", tmp_path / f"sound{suffix}"
        with BioWriter(sound, image=PIXELS, pyramid=1, **options) as bw:
            bw[:] = PIXELS
        chance = random.Random(kind)
        if sound.is_file():
            data = sound.read_bytes()
            while True:
                path.write_bytes(mutated(data, chance))
                yield path
        shutil.copytree(sound, path)
        inside = sorted(file for file in path.rglob("*") if file.is_file())
        while True:
            victim = chance.choice(inside)
            data = victim.read_bytes()
            victim.write_bytes(mutated(data, chance))
            yield path
            victim.write_bytes(data)

    return files


def look(path: Path, backend: str, workers: int) -> str:
    """Open and read; return how that ended."""
    try:
        with BioReader(path, backend=backend, max_workers=workers) as br:
            for level in br.levels:
                level[:]
    except BfbridgeError as error:
        return type(error).__name__
    return "read"


@pytest.mark.slow
@kinds
def test_nothing_grows(kind: str, damaged: Callable[[str], Iterator[Path]]) -> None:
    blocks, ends = {}, set()
    descriptors = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    for number, path in enumerate(itertools.islice(damaged(kind), 1001)):
        if number in (200, 1000):
            gc.collect()
            blocks[number] = sys.getallocatedblocks()
        ends.add(look(path, KINDS[kind][1], 2))
    assert len(ends) > 2
    assert blocks[1000] - blocks[200] < 1500
    if descriptors:
        # Those of the loop that zarr-python makes once are allowed.
        assert len(os.listdir("/proc/self/fd")) <= descriptors + 3


@kinds
@pytest.mark.parametrize(
    "workers", [pytest.param(count, marks=pytest.mark.slow(ci=count == 1)) for count in (1, 3)]
)
def test_no_circles_keep_arrays_alive(
    kind: str, workers: int, damaged: Callable[[str], Iterator[Path]]
) -> None:
    """A circle with a traceback in it holds the pixels of every frame until Python collects it."""
    _, backend, _ = KINDS[kind]
    found: list[Any] = []
    gc.collect()
    gc.freeze()
    for path in itertools.islice(damaged(kind), 30):
        look(path, backend, workers)
        gc.collect()
        gc.disable()
        try:
            look(path, backend, workers)
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
        finally:
            gc.set_debug(0)
            gc.enable()
        found += [
            f"{type(thing).__module__}.{type(thing).__qualname__}"
            for thing in gc.garbage
            if isinstance(thing, types.FrameType) or type(thing).__module__.startswith("bfbridge")
        ]
        gc.garbage.clear()
    assert found == []


def test_closing_frees_cached_chunks(tmp_path: Path) -> None:
    """Readers may be collected much later than they are closed: they can be part of cycles."""
    with BioWriter(tmp_path / "a.ome.tif", image=PIXELS, tile=128) as bw:
        bw[:] = PIXELS
    given: dict[Any, Any] = {}
    for cache, kept in ((None, False), (given, True)):
        br = BioReader(tmp_path / "a.ome.tif", cache=cache)
        for _ in range(2):
            np.testing.assert_array_equal(
                br.read(Y=slice(8), X=slice(9))[..., 0, 0], PIXELS[:8, :9, 0, 0, 0]
            )
        assert br._file.cache
        br.close()
        assert bool(br._file.cache) is kept
    assert given, "a cache of the caller is kept"
