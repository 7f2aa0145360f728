"""Waiting for what finalizers handed to another thread."""

from __future__ import annotations

import gc
import threading
import time

from bfbridge.runtime import finalizers


def settle_all(seconds: float = 30) -> None:
    """Collect garbage, and wait until all unused objects are released."""
    gc.collect()
    end = time.monotonic() + seconds
    while not finalizers._tasks.empty() or finalizers._busy.locked():
        assert time.monotonic() < end, "the thread of finalizers does not end its work"
        time.sleep(0.001)
    while any(thread.name == "bfbridge-finalizer" for thread in threading.enumerate()):
        assert time.monotonic() < end, "the thread of finalizers does not end"
        time.sleep(0.001)
