"""A storm of interrupts: a program that reads or writes while signals strike at random moments.

Run as ``python storm.py KIND TASK FOLDER INTERRUPTS``. It prints what happened as one line
of JSON.
"""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from bfbridge import BioReader, BioWriter
from bfbridge.errors import BfbridgeError

# More work without both results of a write is a failure.
MOST_RUNS = 40
SHAPE = (300, 350)
OLD = (np.arange(300 * 350) % 65_521).astype(np.uint16).reshape(SHAPE)
NEW = OLD[::-1].copy()
OPTIONS = {"ometiff": {"tile": 32}, "omezarr": {"chunks": 32}}
SUFFIXES = {"ometiff": ".ome.tif", "omezarr": ".ome.zarr"}


class Storm:
    """Sends signals to this process, the first moments after it was let loose."""

    def __init__(self) -> None:
        # No event: the interrupts would leave its own lock held.
        self._loose = False
        self._lock = threading.Lock()
        self._chance = random.Random(1)
        signal.signal(signal.SIGINT, self._interrupt)
        signal.signal(signal.SIGALRM, self._interrupt)
        threading.Thread(target=self._strike, daemon=True).start()

    def _strike(self) -> None:
        main = threading.main_thread().ident
        assert main is not None
        while True:
            # From dense, so that several strike one call, to so rare that most calls end in peace.
            time.sleep(self._chance.expovariate(self._chance.choice([30, 100, 300])))
            with self._lock:
                if not self._loose:
                    continue
                # As Ctrl-C does it, and as a timer does.
                if self._chance.random() < 0.5:
                    os.kill(os.getpid(), signal.SIGINT)
                else:
                    signal.pthread_kill(main, signal.SIGALRM)

    def around(self, work: Callable[[], object]) -> tuple[bool, float]:
        """Do some work under interrupts: whether it was interrupted, and the seconds it took."""
        begun, interrupted = time.perf_counter(), False
        try:
            self._loose = True
            work()
            self._loose = False
        except KeyboardInterrupt:
            self._loose = False
            interrupted = True
        return interrupted, time.perf_counter() - begun

    def _interrupt(self, number: int, frame: object) -> None:
        if self._loose:
            raise KeyboardInterrupt


def readings(path: Path) -> Iterator[Callable[[], object]]:
    """Everything that reads, in turn, from one reader that stays open and from others."""
    reader = BioReader(path, max_workers=3)

    def tiles() -> None:
        for tile in reader.tiles(100):
            assert np.array_equal(tile.pixels, OLD[tile.key[:2]])

    def anew() -> None:
        with BioReader(path, max_workers=2) as other:
            assert np.array_equal(other[::3], OLD[::3])

    def crops() -> None:
        for y in range(0, 300, 7):
            assert np.array_equal(reader[y : y + 20, 5:60], OLD[y : y + 20, 5:60])

    while True:
        yield lambda: reader[:]
        yield tiles
        yield anew
        yield crops
        assert np.array_equal(reader[:], OLD), "the reader that was interrupted is wrong"


def writings(path: Path, kind: str) -> Iterator[Callable[[], object]]:
    """A file is replaced: closed by `with`, or dropped without close()."""

    def make() -> BioWriter:
        options = OPTIONS[kind]
        return BioWriter(path, 3, image=NEW, overwrite=True, pyramid=2, **options)

    def closed() -> None:
        with make() as writer:
            for y in range(0, 300, 50):
                writer[y : y + 50] = NEW[y : y + 50]

    def dropped() -> None:
        writer = make()
        writer[:] = NEW
        writer.series[0][:40, :40] = NEW[:40, :40]
        del writer
        gc.collect()

    while True:
        yield closed
        yield dropped


def look(path: Path) -> str:
    """Return the content of the file with the name now."""
    with BioReader(path) as reader:  # waits for what was dropped
        pixels = reader[:]
        half = reader.levels[1][:]
    for name, array in (("old", OLD), ("new", NEW)):
        if np.array_equal(pixels, array):
            mean = array.reshape(150, 2, 175, 2).mean((1, 3))
            return name if np.abs(half - mean).max() <= 0.5 else "wrong level"
    return "wrong"


def main(kind: str, task: str, folder: Path, interrupts: int) -> None:
    """Work until there were enough interrupts; print what was found."""
    warnings.simplefilter("ignore", ResourceWarning)
    sys.unraisablehook = lambda _: None  # interrupts in finalizers
    path = folder / f"image{SUFFIXES[kind]}"
    with BioWriter(path, pyramid=2, **OPTIONS[kind]) as writer:
        writer[:] = OLD
    work = readings(path) if task == "read" else writings(path, kind)
    storm = Storm()
    found: dict[str, int] = {}
    interrupted, longest, runs = 0, 0.0, 0
    results = 1 if task == "read" else 2
    while interrupted < interrupts or (len(found) < results and runs < MOST_RUNS * interrupts):
        struck, seconds = storm.around(next(work))
        interrupted += struck
        longest = max(longest, seconds)
        runs += 1
        try:
            state = look(path)
        except BfbridgeError as error:
            state = f"{type(error).__name__}: {error}"
        found[state] = found.get(state, 0) + 1
        if state not in ("old", "new"):
            break
        if state == "new" and runs % 10 == 0:
            with BioWriter(path, overwrite=True, pyramid=2, **OPTIONS[kind]) as writer:
                writer[:] = OLD
    with suppress(BaseException):
        work.close()  # type: ignore[attr-defined]
    print(  # noqa: T201 - its result
        json.dumps(
            {
                "interrupted": interrupted,
                "runs": runs,
                "longest": longest,
                "found": found,
                "left": sorted(entry.name for entry in folder.iterdir() if entry != path),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
