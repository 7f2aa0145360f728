"""Storms of interrupts in reads and writes of the native backends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

STORM = Path(__file__).with_name("storm.py")

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "pthread_kill"), reason="needs signals to threads"
)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "count", [pytest.param(count, marks=pytest.mark.slow(ci=count < 100)) for count in (50, 200)]
)
@pytest.mark.parametrize("task", ["read", "write"])
@pytest.mark.parametrize("kind", ["ometiff", "omezarr"])
def test_interrupts_at_random_moments(tmp_path: Path, kind: str, task: str, count: int) -> None:
    done = subprocess.run(
        [sys.executable, str(STORM), kind, task, str(tmp_path), str(count)],
        check=False, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["interrupted"] >= count
    assert set(told["found"]) <= {"old", "new"}, told
    if task == "write":
        assert set(told["found"]) == {"old", "new"}
    assert told["left"] == []
    # A second is how long a signal waits at most for a safe point
    # (`bfbridge.runtime.interrupts.LONGEST`).
    assert told["longest"] < 5
