"""Calls on threads of our own: callers can be interrupted, and leave."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import pytest

from bfbridge.errors import ReadFailed, TookTooLong
from bfbridge_bioformats.runtime import calls
from bfbridge_bioformats.runtime.calls import (
    Activity,
    Bounds,
    Call,
    call,
    check_wanted,
    current_call,
)


def ask(action, bounds=None, **options):
    return call(action, "a.tif", "plane 3", bounds or Bounds(Activity()), **options)


def test_the_result_of_another_thread():
    here = threading.current_thread()
    thread, value = ask(lambda: (threading.current_thread(), 5))
    assert value == 5
    assert thread is not here
    assert thread.daemon
    assert current_call() is None


def test_an_error_is_raised_where_it_is_waited_for():
    with pytest.raises(ZeroDivisionError):
        ask(lambda: 1 / 0)


def test_a_call_in_a_call_stays_on_its_thread():
    outer, inner = ask(lambda: (threading.get_ident(), ask(threading.get_ident)))
    assert outer == inner


def test_calls_run_beside_each_other():
    """Any number of them: each waits for all others."""
    count = 20
    barrier = threading.Barrier(count)
    threads = [threading.Thread(target=ask, args=(barrier.wait,)) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_few_threads_wait_for_calls():
    test_calls_run_beside_each_other()
    deadline = time.monotonic() + 10
    while waiting() > 12 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert waiting() <= 12


def waiting():
    return sum(thread.name.startswith("bfbridge-java") for thread in threading.enumerate())


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_an_interrupt_ends_the_wait_but_not_the_work():
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def work():
        begun.set()
        go_on.wait(30)
        try:
            check_wanted()
        except ReadFailed:
            ended.set()

    def interrupt():
        begun.wait(30)
        # A signal to another thread does not wake the one that waits.
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        ask(work)
    assert not ended.is_set()
    go_on.set()
    assert ended.wait(30)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_with_patience_the_work_ends_first():
    done = []
    begun, struck = threading.Event(), threading.Event()

    def work():
        begun.set()
        struck.wait(30)
        time.sleep(0.05)  # whoever did not wait would be back by then
        done.append(1)

    def interrupt():
        begun.wait(30)
        os.kill(os.getpid(), signal.SIGINT)
        struck.set()

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        ask(work, patience=30)
    assert done == [1]


def test_a_call_that_has_ended_is_not_waited_for():
    """As after an interrupt between the end of the work and that of the wait."""
    done = Call(lambda: 5)
    done.work()
    assert done.wait(30)
    assert done.wait(0)
    assert done.result() == 5


def test_a_timeout():
    go_on = threading.Event()
    with pytest.raises(
        TookTooLong, match=r"a\.tif: plane 3: .* the 0\.2 seconds of timeout=\. Ended"
    ):
        ask(lambda: go_on.wait(30), Bounds(Activity(), timeout=0.2, left="Ended."))
    go_on.set()


def test_a_call_that_counts_nothing_takes_too_long():
    go_on = threading.Event()
    with pytest.raises(
        TookTooLong, match=r"read nothing of the file for 0\.4 seconds.*idle_seconds"
    ):
        ask(lambda: go_on.wait(30), Bounds(Activity(), idle=0.4))
    go_on.set()


@pytest.mark.slow(ci=True)
def test_a_call_that_counts_goes_on():
    activity = Activity()

    def work():
        for _ in range(20):
            time.sleep(0.1)
            activity.note()
        return "done"

    assert ask(work, Bounds(activity, idle=0.9)) == "done"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own():
    ask(lambda: None)
    child = os.fork()
    if child == 0:
        os._exit(7 if ask(lambda: 5) == 5 else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7


def test_the_last_calls_are_made_where_they_are_asked_for(monkeypatch):
    monkeypatch.setattr(calls, "_here", True)
    assert ask(threading.get_ident) == threading.get_ident()
