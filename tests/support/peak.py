"""How much memory something takes, decoders and all: the peak of the resident set above its start.

Not tracemalloc: its hooks crash CPython 3.11 when they are taken away while a Java thread enters
Python, and they do not see what codecs allocate.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


class Peak:
    """Bytes taken at most, once the block has ended."""

    nbytes = 0


def _status(field: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Measure the block; the test skips where the system cannot tell."""
    # The oldest generation is left: collecting it takes longer than most blocks that are measured.
    gc.collect(1)
    try:
        # Linux: "5" sets the high-water mark back to what is resident now (proc(5)).
        CLEAR.write_text("5")
    except OSError:
        pytest.skip("needs Linux's /proc/self/clear_refs")
    before = _status("VmRSS")
    peak = Peak()
    try:
        yield peak
    finally:
        peak.nbytes = max(0, _status("VmHWM") - before)
