"""Signals wait for safe points inside `deferred` blocks, and for no longer than they must."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import warnings
import weakref
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from bfbridge.engine.workers import run
from bfbridge.runtime import interrupts
from bfbridge.runtime.interrupts import checkpoint, deferred

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals are sent with os.kill")


class Handler:
    """Counts signals; raises if asked to."""

    def __init__(self, raises: bool = False) -> None:
        self.raises = raises
        self.seen: list[int] = []

    def __call__(self, number: int, frame: object) -> None:
        self.seen.append(number)
        if self.raises:
            raise KeyboardInterrupt


@pytest.fixture
def handler() -> Iterator[Handler]:
    made = Handler()
    old = {n: signal.signal(n, made) for n in (signal.SIGINT, signal.SIGUSR1)}
    yield made
    for number, before in old.items():
        signal.signal(number, before)


def send(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)
    for _ in range(3):  # handlers run between two bytecodes
        time.sleep(0.001)


def test_signals_wait_for_the_end(handler: Handler) -> None:
    with deferred():
        send()
        send(signal.SIGUSR1)
        with deferred():
            send()
        assert handler.seen == []
        assert signal.getsignal(signal.SIGINT) is not handler
    assert handler.seen == [signal.SIGINT, signal.SIGUSR1, signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is handler
    send()
    assert len(handler.seen) == 4


def test_signals_are_delivered_at_checkpoints(handler: Handler) -> None:
    handler.raises = True
    steps = []

    def work() -> None:
        with deferred():
            checkpoint()
            send()
            steps.append("before the checkpoint")
            checkpoint()
            steps.append("behind it")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert steps == ["before the checkpoint"]
    assert signal.getsignal(signal.SIGINT) is handler


def test_what_the_block_raises_is_the_context_of_an_interrupt(handler: Handler) -> None:
    handler.raises = True

    def work() -> None:
        with deferred():
            send()
            raise ZeroDivisionError

    with pytest.raises(KeyboardInterrupt) as caught:
        work()
    assert isinstance(caught.value.__context__, ZeroDivisionError)


def test_a_handler_that_is_set_meanwhile_stays(handler: Handler) -> None:
    other = Handler()
    with deferred():
        signal.signal(signal.SIGINT, other)
        send()
    assert (handler.seen, other.seen) == ([], [signal.SIGINT])
    assert signal.getsignal(signal.SIGINT) is other


def test_signals_without_a_handler_in_python_are_left_alone() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with deferred():
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
            send()
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_defer_nothing(handler: Handler) -> None:
    found: list[Any] = []

    def look() -> None:
        with deferred():
            found.append(signal.getsignal(signal.SIGINT))
            checkpoint()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [handler]


def test_no_signal_waits_long(handler: Handler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "LONGEST", 0.05)
    handler.raises = True

    def work() -> None:
        with deferred():
            send()
            threading.Event().wait(60)  # no checkpoint: the reminder is delivered at once

    with pytest.raises(KeyboardInterrupt):
        work()
    assert handler.seen == [signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is handler


def test_jobs_stop_after_an_interrupt_and_helpers_end(handler: Handler) -> None:
    handler.raises = True
    started, ended = [], []

    def job(number: int) -> None:
        started.append(number)
        if number == 5:
            send()
        time.sleep(0.002)
        ended.append(number)

    with pytest.raises(KeyboardInterrupt):
        run((lambda n=n: job(n) for n in range(5000)), 4)
    assert sorted(started) == sorted(ended)  # whatever was begun has ended by now
    assert len(started) < 5000


@pytest.mark.slow(ci=True)
def test_errors_of_jobs_keep_nothing_alive() -> None:
    class Big:
        pass

    def fail(big: Any) -> None:
        raise ValueError("a job failed")

    def read() -> weakref.ref[Any]:
        big = Big()
        alive = weakref.ref(big)
        with suppress(ValueError):  # pytest.raises keeps the error
            run((lambda: fail(big) for _ in range(20)), 3)
        return alive

    gc.collect()
    gc.disable()
    try:
        alive = read()
        end = time.monotonic() + 30
        while alive() is not None:  # a helper may not have let go of its last job yet
            assert time.monotonic() < end
            time.sleep(0.001)
    finally:
        gc.enable()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_begins_outside(handler: Handler) -> None:
    with deferred(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads, in Python 3.12
        child = os.fork()
        if child == 0:
            os._exit(0 if signal.getsignal(signal.SIGINT) is handler else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
