"""Memory that threads keep: reused by the next call, and limited for all threads together."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bfbridge.runtime import thread_buffer
from bfbridge.runtime.thread_buffer import NOT_KEPT, ThreadBuffer

MIB = 1 << 20


def test_the_next_call_gets_the_same_memory() -> None:
    buffer = ThreadBuffer(4 * MIB)
    first = buffer.get(3 * MIB)
    assert first.nbytes == 3 * MIB
    assert np.shares_memory(first, buffer.get(4 * MIB))
    assert np.shares_memory(first, np.frombuffer(buffer.view(100), np.uint8))
    longer = buffer.get(4 * MIB + 1)
    assert not np.shares_memory(first, longer)
    assert not np.shares_memory(longer, buffer.get(4 * MIB + 1))
    assert not np.shares_memory(NOT_KEPT.get(100), NOT_KEPT.get(100))
    assert len(NOT_KEPT.view(0)) == 0


def test_all_threads_together_keep_a_limited_amount(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    kept_before = sum(array.nbytes for array in thread_buffer._large.values())
    monkeypatch.setattr(thread_buffer, "KEPT_IN_ALL", kept_before + 8 * MIB)
    buffer, small, threads = ThreadBuffer(64 * MIB), ThreadBuffer(64 * MIB), 6
    together = threading.Barrier(threads, timeout=20)

    def keeps(_: int) -> tuple[bool, bool]:
        # Longer in the second call: what it replaces is not counted.
        buffer.get(MIB)
        first, little = buffer.get(2 * MIB), small.get(1000)
        assert first.nbytes == 2 * MIB
        found = np.shares_memory(first, buffer.get(2 * MIB))
        same = np.shares_memory(little, small.get(1000))
        together.wait()
        return found, same

    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(keeps, range(threads)))
    assert sum(large for large, _ in found) == 4
    assert all(same for _, same in found)
    gc.collect()
    # The threads have ended: another one may keep as much.
    assert np.shares_memory(buffer.get(8 * MIB), buffer.get(8 * MIB))
