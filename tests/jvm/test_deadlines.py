"""Reads that do not end: a timeout ends them, and later reads work."""

from __future__ import annotations

import time

import pytest

from bfbridge import BioReader, Limits
from bfbridge.errors import BadArgument, TookTooLong
from bfbridge_bioformats.isolation.workers import workers
from bfbridge_bioformats.runtime.machine import machine

pytestmark = pytest.mark.java

# Each plane takes 20 s, except the one that opening does not read.
SLOW = "slow&sizeX=64&sizeY=64&sizeT=3&sleepOpenBytes=20000.fake"
SLOW_TO_OPEN = "slow&sizeX=64&sizeY=64&sleepInitFile=20000.fake"
QUICK = "quick&sizeX=64&sizeY=64&sizeT=3.fake"


@pytest.fixture(scope="module", autouse=True)
def java():
    """Java, whose start is no part of what is timed here."""
    machine.start()


def test_a_timeout_ends_the_worker_of_a_read():
    with BioReader(SLOW, timeout=8) as reader, BioReader(QUICK, isolated=True) as other:
        before = set(workers.pids)
        begun = time.monotonic()
        with pytest.raises(
            TookTooLong, match=r"slow.*8 seconds of timeout=.*worker process has ended"
        ):
            reader.read(T=0)
        assert time.monotonic() - begun < 18
        # The next one is read by a new worker, and so is another file.
        assert other.read().any()
        assert reader._file.backend.ome_xml()
        assert before - set(workers.pids)


def test_a_timeout_ends_the_worker_of_an_opening():
    before = workers.pids
    with pytest.raises(TookTooLong, match="opening it: this took longer than the 3 seconds"):
        BioReader(SLOW_TO_OPEN, timeout=3)
    assert workers.pids == before


@pytest.mark.parametrize("isolated", [False, True], ids=["in this process", "isolated"])
def test_a_read_that_fetches_nothing_ends(isolated):
    with BioReader(SLOW, isolated=isolated, limits=Limits(idle_seconds=4)) as reader:
        with pytest.raises(TookTooLong, match="Java has read nothing of the file for 4 seconds"):
            reader.read(T=0)
        # Whoever is still waited for has no place among the readers in use.
        with pytest.raises(TookTooLong):
            reader.read(T=1)
        assert reader.metadata.images[0].pixels.size_t == 3


def test_a_read_that_goes_on_does_not_end(tmp_path):
    """Of many planes, none of which takes as long as the limit."""
    name = "steady&sizeX=64&sizeY=64&sizeT=12&sleepOpenBytes=200.fake"
    with BioReader(name, max_workers=1, limits=Limits(idle_seconds=1.2)) as reader:
        assert reader.read().shape == (64, 64, 1, 1, 12)


def test_timeout_isolates_unless_told_otherwise():
    with BioReader(QUICK, timeout=60) as reader:
        assert reader._file.options.isolated
    with BioReader(QUICK, timeout=60, isolated=False) as reader:
        assert not reader._file.options.isolated
        assert reader.read().any()


@pytest.mark.parametrize("timeout", [0, -1, "5", True, float("nan"), float("inf")])
def test_a_timeout_is_a_number_of_seconds(timeout):
    with pytest.raises(BadArgument, match="timeout=.*give a number above 0"):
        BioReader(QUICK, timeout=timeout)


def test_a_process_ends_while_java_goes_round(program):
    out = program.run(
        """
        from bfbridge import BioReader, Limits
        backend.start()
        reader = BioReader("slow&sizeX=64&sleepOpenBytes=50000.fake", limits=Limits(idle_seconds=4))
        try:
            reader.read()
        except TookTooLong:
            print("too long")
        """
    )
    assert out == "too long\n"


def test_the_thread_that_frees_objects_is_started_anew():
    with machine.attached():
        queue = machine.type("org.jpype.ref.JPypeReferenceQueue").getInstance()
        field = queue.getClass().getDeclaredField("queueThread")
        field.setAccessible(True)
        sound = field.get(queue)
        machine.revive()
        assert field.get(queue).equals(sound)
        # As lack of heap leaves it.
        field.set(queue, machine.type("java.lang.Thread")())
        machine.revive()
        assert field.get(queue).isAlive()
