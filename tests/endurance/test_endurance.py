"""Endurance: damaged files, kills, crops, openings and threads, in large numbers.

    python -m pytest -m endurance tests/endurance -s

takes about an hour. ``BFBRIDGE_ENDURANCE=0.02`` runs that fraction of it, ``BFBRIDGE_SEED`` sets
the seed (default 1), and ``BFBRIDGE_ENDURANCE_JSON`` names a file for the counts. A failure names
the seed and what was damaged; it belongs into a small test of its own.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import queue
import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader, imwrite
from bfbridge.engine.workers import available_cpus
from tests.endurance.writers import METHODS, NEW, OLD, pixels
from tests.real.manifest import DATA, entries

pytestmark = [pytest.mark.endurance, pytest.mark.java, pytest.mark.timeout(7200)]

SCALE = float(os.environ.get("BFBRIDGE_ENDURANCE", "1"))
SEED = int(os.environ.get("BFBRIDGE_SEED", "1"))
DAMAGED, KILLS, CROPS, OPENINGS, THREADS = 10_000, 500, 10_000, 1_000, 32
HANG_SECONDS = 30.0
LARGEST = 4_000_000
FIRST_KILL = 0.3
"""Seconds in which the first kills happen; then 1.2 times the last duration of the method."""
WARM_UP = 30
"""Repetitions before the state is recorded: caches, pools and Java's heap fill."""
# The heap of Java may grow by 256 MB before its garbage is collected.
RESIDENT_GROWTH = 400 << 20
GROWTH = 40 << 20
"""Bytes by which memory in use may grow during a loop."""
SETTLE_SECONDS = 10.0
"""Java's compiler runs in the background, and needs tens of megabytes while it does."""
HERE = Path(__file__).parent


def scaled(count: int) -> int:
    """Return a number of repetitions at the scale of this run."""
    return max(2, round(count * SCALE))


def note(name: str, **counts: Any) -> None:
    """Print counts, and add them to the file of counts."""
    found = {"seed": SEED, "scale": SCALE, **counts}
    print(f"\n{name}: {json.dumps(found)}")  # noqa: T201 - its result
    place = os.environ.get("BFBRIDGE_ENDURANCE_JSON")
    if place:
        path = Path(place)
        known = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(known | {name: found}, indent=1, sort_keys=True) + "\n")


# ---- damaged inputs


class Opener:
    """A process that opens files, and is started again after a death or a hang."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "opener.py")], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1,
        )  # fmt: skip
        self._lines: queue.Queue[str] = queue.Queue()
        self._collector = threading.Thread(
            target=self._collect, args=(self._process, self._lines), daemon=True
        )
        self._collector.start()

    @staticmethod
    def _collect(process: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)
        lines.put("")

    def look(self, path: Path) -> tuple[int, str]:
        """Return peak memory in bytes, and how opening and reading ended."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{path}\n")
        try:
            line = self._lines.get(timeout=HANG_SECONDS)
        except queue.Empty:
            line = "0 !hang"
        if not line:
            line = "0 !death"
        memory, ended = line.split(" ", 1)
        if ended.startswith(("!hang", "!death")):
            self.close()
            self._start()
        return int(memory) << 10, ended.strip()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._collector.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()


def damage(data: bytes, chance: random.Random) -> bytes:
    """Return bytes with changes of one of several kinds."""
    kind = chance.choice(["flip", "flip", "cut", "zero", "move", "number"])
    changed = bytearray(data)
    head = min(len(data), 4096)
    place = chance.randrange(len(data) if chance.random() < 0.5 else head)
    if kind == "cut":
        return data[:place]
    if kind == "flip":
        for _ in range(chance.choice([1, 4, 32])):
            changed[chance.randrange(len(data) if chance.random() < 0.5 else head)] ^= 1 << (
                chance.randrange(8)
            )
    elif kind == "zero":
        length = min(chance.choice([4, 64, 4096]), len(data) - place)
        changed[place : place + length] = bytes(length)
    elif kind == "move":
        length = chance.choice([2, 16, 256])
        start = chance.randrange(len(data))
        part = data[start : start + length]
        changed[place : place + len(part)] = part
    else:
        value = chance.choice(
            [0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**16 - 1, chance.getrandbits(32)]
        )
        changed[place : place + 4] = value.to_bytes(4, chance.choice(["little", "big"]))
    return bytes(changed)


def sources() -> dict[str, list[Path]]:
    """Return the readable files of the data set by kind."""
    found: dict[str, list[Path]] = {}
    for entry in entries():
        if entry.opens and entry.path.exists():
            found.setdefault(entry.format, []).append(entry.path)
    return found


def damaged_copy(path: Path, folder: Path, chance: random.Random) -> Path:
    """Copy a file with the files beside it, or a store, and damage one file of it."""
    copy = folder / path.name
    if path.is_dir():
        shutil.copytree(path, copy)
        victims = sorted(p for p in copy.rglob("*") if p.is_file() and p.stat().st_size)
    else:
        beside = sum(p.stat().st_size for p in path.parent.iterdir() if p.is_file())
        names = list(path.parent.iterdir()) if beside < LARGEST else [path]
        for name in names:
            if name.is_file():
                shutil.copyfile(name, folder / name.name)
        victims = [copy]
    victim = chance.choice(victims)
    victim.write_bytes(damage(victim.read_bytes(), chance))
    return copy


@pytest.mark.skipif(not DATA.is_dir(), reason="the data set is not there")
def test_damaged_inputs_raise_errors(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    kinds = sources()
    opener = Opener()
    ends: Counter[str] = Counter()
    findings: list[str] = []
    peak = 0
    try:
        for number in range(max(len(kinds), scaled(DAMAGED))):
            kind = sorted(kinds)[number % len(kinds)]
            small = [p for p in kinds[kind] if p.is_dir() or p.stat().st_size <= LARGEST]
            path = chance.choice(small or kinds[kind])
            folder = tmp_path / "damaged"
            folder.mkdir()
            own = random.Random(SEED * 1_000_003 + number)
            memory, ended = opener.look(damaged_copy(path, folder, own))
            shutil.rmtree(folder)
            peak = max(peak, memory)
            ends["!" if ended.startswith("!") else ended] += 1
            if ended.startswith("!"):
                findings.append(f"{kind}, number {number}, {path.name}: {ended}")
    finally:
        opener.close()
    note("damaged", kinds=len(kinds), ends=dict(ends), peak_mb=peak >> 20, findings=findings)
    assert not findings, f"seed {SEED}: {findings}"


# ---- kills


TARGETS = {
    "a.ome.tif": ("tiles", "array", "conversion", "durable"),
    "a.ome.zarr": ("tiles", "array", "conversion", "durable", "change"),
    "a.ome.zarr.zip": ("tiles", "array", "conversion"),
}


def test_kills_leave_the_old_image_or_the_new_one(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    source = tmp_path / "source.ome.tif"
    imwrite(source, NEW, axes="CYX")
    pairs = [(name, method) for name, methods in TARGETS.items() for method in methods]
    ends: Counter[str] = Counter()
    durations = dict.fromkeys(pairs, FIRST_KILL)
    for number in range(max(len(pairs), scaled(KILLS))):
        name, method = pairs[number % len(pairs)]
        folder = tmp_path / str(number)
        folder.mkdir()
        target = folder / name
        before = method == "change" or chance.random() < 0.5
        if before:
            imwrite(target, OLD, axes="CYX", tile=128)
        command = [sys.executable, str(HERE / "writers.py"), method, str(target), str(source)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.random() * 1.2 * durations[name, method])
        process.kill()
        process.wait()
        process.stdout.close()
        where = f"seed {SEED}, number {number}: {method} of {name}"
        ended = "nothing"
        if os.path.lexists(target):
            found = pixels(target)
            is_new = np.array_equal(found, NEW)
            assert is_new or (before and np.array_equal(found, OLD)), where
            ended = "new" if is_new else "old"
        else:
            assert not before, where
        ends[ended] += 1
        # The next writer removes what was left, and succeeds.
        begun = time.perf_counter()
        METHODS[method](str(target), str(source))
        durations[name, method] = time.perf_counter() - begun
        np.testing.assert_array_equal(pixels(target), NEW, err_msg=where)
        assert [path.name for path in folder.iterdir()] == [name], where
        shutil.rmtree(folder)
    note("kills", pairs=len(pairs), ends=dict(ends))


# ---- crops, openings, threads


class Allocated(ctypes.Structure):
    """The fields of ``mallinfo2`` of glibc (malloc.h)."""

    _fields_ = (
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd")),
        *((name, ctypes.c_size_t) for name in ("usmblks", "fsmblks", "uordblks", "fordblks")),
        ("keepcost", ctypes.c_size_t),
    )


def memory_with_java() -> int:
    """Return the bytes in use: Java's heap and its other memory after a collection, and malloc's.

    The resident set does not tell a leak: Java's heap grows to some 256 MB before its garbage is
    collected, and glibc keeps freed memory in one arena for each thread. What is in use is
    constant.
    """
    from bfbridge_bioformats.runtime.machine import machine

    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = Allocated
    with machine.attached():
        machine.type("java.lang.System").gc()
        beans = machine.type("java.lang.management.ManagementFactory").getMemoryMXBean()
        java = beans.getHeapMemoryUsage().getUsed() + beans.getNonHeapMemoryUsage().getUsed()
    found = libc.mallinfo2()
    return int(java) + int(found.uordblks) + int(found.hblkhd)


def state(backend: str) -> dict[str, int]:
    """Return memory in bytes, threads and descriptors of this process."""
    gc.collect()
    fields = Path("/proc/self/statm").read_text().split()
    resident = int(fields[1]) * os.sysconf("SC_PAGE_SIZE")
    return {
        "memory": memory_with_java() if backend == "bioformats" else resident,
        "resident": resident,
        "threads": threading.active_count(),
        "descriptors": len(os.listdir("/proc/self/fd")),
    }


def is_flat(before: dict[str, int], after: dict[str, int]) -> bool:
    """Return whether nothing grew."""
    return (
        after["memory"] - before["memory"] < GROWTH
        and after["resident"] - before["resident"] < RESIDENT_GROWTH
        # The pool starts threads when they are needed, up to the number of CPUs.
        and after["threads"] <= before["threads"] + available_cpus()
        and after["descriptors"] <= before["descriptors"]
    )


def sample(backend: str, folder: Path) -> Path:
    """Return a file that a backend reads."""
    array = np.random.default_rng(SEED).integers(0, 60_000, (2, 900, 800), np.uint16)
    if backend in ("ometiff", "bioformats"):
        imwrite(folder / "a.ome.tif", array, axes="CYX", tile=256)
        return folder / "a.ome.tif"
    if backend == "omezarr":
        imwrite(folder / "a.ome.zarr", array, axes="CYX", tile=256)
        return folder / "a.ome.zarr"
    if backend == "pictures":
        from PIL import Image

        Image.fromarray(array[0] // 256).convert("L").save(folder / "a.png")
        return folder / "a.png"
    found = [path for path in sources().get(backend, []) if path.stat().st_size < LARGEST]
    if not found:
        pytest.skip(f"the data set has no small {backend} file")
    return found[0]


BACKENDS = ("ometiff", "omezarr", "pictures", "czi", "lif", "nd2", "bioformats")


def repeated(
    backend: str, count: int, step: Callable[[int], None]
) -> tuple[dict[str, int], dict[str, int]]:
    """Repeat a step; return the state after the warm-up and at the end."""
    for number in range(WARM_UP):
        step(number)
    before = state(backend)
    for number in range(count):
        step(number)
    deadline = time.monotonic() + SETTLE_SECONDS
    while not is_flat(before, after := state(backend)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return before, after


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("backend", BACKENDS)
def test_crops_are_right_and_nothing_grows(backend: str, tmp_path: Path) -> None:
    chance = random.Random(SEED)
    with BioReader(sample(backend, tmp_path), backend=backend) as br:
        whole = br.read(keepdims=True)
        height, width = whole.shape[:2]

        def crop(number: int) -> None:
            del number
            y, x = chance.randrange(height), chance.randrange(width)
            rows = slice(y, chance.randrange(y, height) + 1)
            columns = slice(x, chance.randrange(x, width) + 1)
            found = br.read(Y=rows, X=columns, keepdims=True)
            assert np.array_equal(found, whole[rows, columns]), f"seed {SEED}: {rows}, {columns}"

        before, after = repeated(backend, scaled(CROPS), crop)
    note(f"crops {backend}", count=scaled(CROPS), before=before, after=after)
    assert is_flat(before, after), (before, after)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("backend", BACKENDS)
def test_openings_leave_nothing(backend: str, tmp_path: Path) -> None:
    path = sample(backend, tmp_path)

    def once(number: int) -> None:
        del number
        with BioReader(path, backend=backend) as br:
            br[:8, :8]

    before, after = repeated(backend, scaled(OPENINGS), once)
    note(f"openings {backend}", count=scaled(OPENINGS), before=before, after=after)
    assert is_flat(before, after), (before, after)


@pytest.mark.parametrize("backend", BACKENDS)
def test_many_threads_share_one_reader(backend: str, tmp_path: Path) -> None:
    each = max(1, scaled(CROPS) // THREADS)
    wrong: list[str] = []
    with BioReader(sample(backend, tmp_path), backend=backend) as br:
        whole = br.read(keepdims=True)
        height, width = whole.shape[:2]

        def work(number: int) -> None:
            chance = random.Random(SEED * 1000 + number)
            for _ in range(each):
                y, x = chance.randrange(height), chance.randrange(width)
                rows, columns = slice(y, min(height, y + 300)), slice(x, min(width, x + 300))
                try:
                    found = br.read(Y=rows, X=columns, keepdims=True)
                    same = np.array_equal(found, whole[rows, columns])
                except Exception as error:  # noqa: BLE001 - reported by the main thread
                    wrong.append(repr(error))
                    return
                if not same:
                    wrong.append(f"thread {number}: {rows}, {columns}")

        threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    note(f"threads {backend}", threads=THREADS, crops=each * THREADS)
    assert not wrong, wrong[:3]
