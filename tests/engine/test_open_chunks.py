"""Records of open chunks: one for each chunk, used by one thread at a time."""

from __future__ import annotations

import threading

import numpy as np

from bfbridge.engine.open_chunks import OpenChunk, OpenChunks


def test_a_thread_that_waits_for_a_finished_chunk_gets_a_new_record() -> None:
    chunks: OpenChunks[int, OpenChunk] = OpenChunks(OpenChunk)
    first = chunks.claim(7)
    first.array, first.written = np.ones(10, np.uint16), np.zeros(10, bool)
    assert (first.nbytes, chunks.indices()) == (30, [7])
    found: list[OpenChunk] = []
    thread = threading.Thread(target=lambda: found.append(chunks.claim(7)))
    thread.start()
    chunks.remove([7], first)
    first.lock.release()
    thread.join(10)
    (second,) = found
    assert second is not first
    assert second.lock.locked()
    assert (first.gone, first.array, first.written) == (True, None, None)
    second.lock.release()
    assert chunks.claim(7) is second
    assert chunks.claim(8) is not second
    assert sorted(chunks.indices()) == [7, 8]


def test_closed_chunks_are_claimed_together() -> None:
    chunks: OpenChunks[int, OpenChunk] = OpenChunks(OpenChunk)
    opened = chunks.claim(2)
    assert chunks.claim_closed([1, 2]) is None
    assert chunks.indices() == [2]
    chunks.remove([2], opened)
    opened.lock.release()
    together = chunks.claim_closed([1, 2])
    assert together is not None
    found: list[OpenChunk] = []
    thread = threading.Thread(target=lambda: found.append(chunks.claim(1)))
    thread.start()
    chunks.remove([1, 2], together)
    together.lock.release()
    thread.join(30)
    assert found != [together]
    assert chunks.indices() == [1]
