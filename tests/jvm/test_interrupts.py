"""Repeated Ctrl-C while Java works: the process responds, and the reader still works."""

from __future__ import annotations

import sys

import pytest

pytestmark = [
    pytest.mark.java,
    pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's"),
]

# Interrupts come at random points of `work`, from a thread that is never interrupted itself.
STORM = """
import random
from bfbridge import BioReader

def storm(work, count, pause=0.03):
    '''Return the longest time, in seconds, between an interrupt and the end of `work`.'''
    chance = random.Random(5)
    wanted, caught, over = threading.Event(), threading.Event(), threading.Event()
    waited = []

    def strike():
        for left in reversed(range(count)):
            wanted.wait()
            wanted.clear()
            time.sleep(chance.random() * pause)
            begun = time.monotonic()
            if left == 0:
                over.set()
            os.kill(os.getpid(), signal.SIGINT)
            # Python drops an interrupt that it meets in a finaliser: who waits strikes again.
            while not caught.wait(1.0):
                os.kill(os.getpid(), signal.SIGINT)
            caught.clear()
            waited.append(time.monotonic() - begun)

    thread = threading.Thread(target=strike, daemon=True)
    thread.start()
    while not over.is_set():
        try:
            wanted.set()
            while True:
                work()
        except KeyboardInterrupt:
            caught.set()
    thread.join()
    return max(waited)
"""


@pytest.mark.parametrize("isolated", [False, True], ids=["in this process", "isolated"])
@pytest.mark.parametrize("workers", [1, 2])
def test_reads(program, isolated, workers):
    # An interrupt ends a worker process, and another is started.
    count = 15 if isolated else 200
    out = program.run(
        STORM
        + f"""
name = "a&sizeX=512&sizeY=512&sizeT=8&pixelType=uint16.fake"
with BioReader(name, max_workers=1) as sound:
    truth = sound.read()
reader = BioReader(name, max_workers={workers}, cache=0, isolated={isolated})

def work():
    assert (reader[..., :4] == truth[..., :4]).all()

slowest = storm(work, {count})
begun = time.monotonic()
assert (reader.read() == truth).all()
reader.close()
print(slowest < 5, time.monotonic() - begun < 30)
""",
        timeout=110,
    )
    assert out == "True True\n"


def test_openings_and_metadata(program, tmp_path):
    out = program.run(
        STORM
        + """
import tifffile
truth = np.arange(97 * 65, dtype=np.uint16).reshape(65, 97)
tifffile.imwrite("a.tif", truth)

def work():
    with BioReader("a.tif", backend="bioformats") as reader:
        reader.ome_xml
        reader.original_metadata
        assert (reader.read() == truth).all()

work()
slowest = storm(work, 200, pause=0.08)
begun = time.monotonic()
work()
print(slowest < 5, time.monotonic() - begun < 30)
""",
        timeout=110,
    )
    assert out == "True True\n"


def test_the_first_use_of_java(program):
    """Java continues to start when the first call is interrupted."""
    out = program.run(
        """
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        try:
            while True:
                open_(SMALL)
        except KeyboardInterrupt:
            print("interrupted")
        print(read(open_(SMALL)).shape)
        """
    )
    assert out == "interrupted\n(1, 1, 2, 48, 64)\n"


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_a_process_in_a_long_call(program, until, how):
    import signal
    import time

    process = program.start(
        """
        reader = open_("slow&sizeX=64&sizeY=64&sleepOpenBytes=30000.fake")
        print("reading", flush=True)
        read(reader)
        """
    )
    until(process, "reading")
    time.sleep(0.5)
    begun = time.monotonic()
    process.send_signal(getattr(signal, how))
    process.communicate(timeout=25)
    assert process.returncode != 0
    assert time.monotonic() - begun < 25


def test_writes(program):
    out = program.run(
        STORM
        + """
from bfbridge import BioWriter
truth = np.arange(3 * 200 * 150, dtype=np.uint8).reshape(200, 150, 1, 1, 3)

def work():
    options = {"shape": truth.shape, "dtype": "uint8", "overwrite": True}
    with BioWriter("w.avi", backend="bioformats", **options) as writer:
        writer[:] = truth

work()
slowest = storm(work, 60, pause=0.3)
work()
with BioReader("w.avi") as reader:
    assert reader.read().squeeze().shape == truth.squeeze().shape
print(slowest < 5, [name for name in os.listdir() if name.endswith("-partial")])
""",
        timeout=110,
    )
    assert out == "True []\n"
