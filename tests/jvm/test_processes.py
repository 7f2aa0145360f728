"""Fork, spawn, forkserver, process pools, signals, exit."""

from __future__ import annotations

import signal
import sys
import time

import pytest

pytestmark = pytest.mark.java

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX processes and signals")


@posix
def test_a_forked_child_is_told_what_to_do_and_ends(program):
    out = program.run(
        """
        reader = open_(SMALL)
        expected = read(reader)
        pid = os.fork()
        if pid == 0:
            for use in (lambda: read(reader), lambda: open_(SMALL), reader.ome, reader.close):
                begun = time.monotonic()
                try:
                    use()
                except ForkedProcess as error:
                    assert "spawn" in str(error) and "forkserver" in str(error)
                assert time.monotonic() - begun < 10
            print("child refused", flush=True)
            sys.exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        assert (read(reader) == expected).all()
        print("parent reads on")
        """
    )
    assert out.splitlines() == ["child refused", "parent reads on"]


@posix
def test_forked_children_that_drop_objects_of_java_end(program):
    # Java collects garbage all the time: a call into Java from a child would wait for ever.
    out = program.run(
        """
        import contextlib
        import gc
        import threading
        import jpype

        reader = open_(SMALL)
        held = [jpype.JClass("java.util.ArrayList")() for _ in range(200)]
        done = threading.Event()

        def collect():
            collector = jpype.JClass("java.lang.System")
            while not done.is_set():
                collector.gc()

        thread = threading.Thread(target=collect, daemon=True)
        thread.start()
        try:
            for turn in range(8):
                pid = os.fork()
                if pid == 0:
                    held.clear()
                    gc.collect()
                    with contextlib.suppress(ForkedProcess):
                        reader.close()
                    sys.exit(7)
                deadline = time.monotonic() + 20
                while os.waitpid(pid, os.WNOHANG) == (0, 0):
                    if time.monotonic() > deadline:
                        os.kill(pid, signal.SIGKILL)
                        sys.exit(f"the child of turn {turn} did not end")
                    time.sleep(0.02)
        finally:
            done.set()
            thread.join()
        print("ended")
        """
    )
    assert out == "ended\n"


@posix
def test_a_child_forked_before_java_started_may_start_it(program):
    out = program.run(
        """
        pid = os.fork()
        total = int(read(open_(SMALL)).sum(dtype=np.int64))
        if pid == 0:
            os._exit(total % 200)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == total % 200
        print("both", total > 0)
        """
    )
    assert out == "both True\n"


@pytest.mark.parametrize("method", ["spawn", pytest.param("forkserver", marks=posix)])
def test_processes_started_afresh_read(program, method):
    out = program.run(
        f"""
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        def total(name):
            return int(read(open_(name)).sum(dtype=np.int64))

        if __name__ == "__main__":
            expected = total(SMALL)
            context = multiprocessing.get_context({method!r})
            with ProcessPoolExecutor(2, mp_context=context) as pool:
                print(list(pool.map(total, [SMALL] * 4)) == [expected] * 4)
        """
    )
    assert out == "True\n"


SLOW = {
    "open": 'open_("slow&sizeX=64&sizeY=64&sleepInitFile=700.fake")',
    "read": 'read(open_("slow&sizeX=64&sizeY=64&sizeZ=9&sleepOpenBytes=300.fake"))',
}


@posix
@pytest.mark.parametrize("what", SLOW)
def test_ctrl_c_is_a_keyboard_interrupt(program, until, what):
    process = program.start(
        f"""
        backend.start()
        read(open_(SMALL))
        print("ready", flush=True)
        try:
            while True:
                {SLOW[what]}
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        finally:
            print("finally", flush=True)
        print(read(open_(SMALL)).shape)
        """
    )
    until(process, "ready")
    time.sleep(0.3)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - begun < 30
    assert out.splitlines() == ["interrupted", "finally", "(1, 1, 2, 48, 64)"]
    assert (process.returncode, err) == (0, "")


@posix
@pytest.mark.parametrize("what", SLOW)
def test_sigterm_ends_the_process_plainly(program, until, what):
    process = program.start(
        f"""
        read(open_(SMALL))
        print("ready", flush=True)
        while True:
            {SLOW[what]}
        """
    )
    until(process, "ready")
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (-signal.SIGTERM, "")
    assert program.crash_reports() == []


@posix
def test_a_handler_for_sigterm_runs(program, until):
    process = program.start(
        f"""
        def leave(number, frame):
            raise SystemExit(5)

        signal.signal(signal.SIGTERM, leave)
        read(open_(SMALL))
        print("ready", flush=True)
        while True:
            {SLOW["read"]}
        """
    )
    until(process, "ready")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (5, "", "")


LEAVING = """
        readers = [open_(SMALL, max_workers=2) for _ in range(4)]
        for reader in readers:
            read(reader)
        print("leaving")
        sys.exit(3)
        """


@pytest.mark.parametrize(
    "times", [3, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(400)])]
)
def test_exit_with_open_readers(program, times):
    for _ in range(times):
        process = program.start(LEAVING)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out, err) == (3, "leaving\n", "")
    assert program.crash_reports() == []


def test_exit_while_other_threads_read(program):
    process = program.start(
        """
        reader = open_("slow&sizeX=64&sizeY=64&sizeT=200&sleepOpenBytes=100.fake", max_workers=2)
        for _ in range(2):
            threading.Thread(target=read, args=(reader,), daemon=True).start()
        time.sleep(0.5)
        print("leaving")
        """
    )
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "leaving\n", "")
    assert program.crash_reports() == []


def test_exit_in_spite_of_a_java_thread_that_never_ends(program):
    process = program.start(
        """
        read(open_(SMALL))
        import jpype
        timer = jpype.JClass("java.util.Timer")()
        print("leaving")
        sys.exit(4)
        """
    )
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (4, "leaving\n")
