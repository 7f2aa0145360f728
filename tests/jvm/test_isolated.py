"""Java in worker processes: equal pixels, crashes that are errors, forks, nothing left behind."""

from __future__ import annotations

import gc
import io
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bfbridge import BioReader
from bfbridge.backend import Image, Level, OpenOptions, Region
from bfbridge.errors import (
    BadArgument,
    BadSelection,
    BfbridgeError,
    Closed,
    FileMissing,
    ReadFailed,
    UnreadableFile,
)
from bfbridge.storage.source import as_source
from bfbridge_bioformats import READER
from bfbridge_bioformats.isolation.isolated import IsolatedReader, _pieces
from bfbridge_bioformats.isolation.workers import workers

pytestmark = pytest.mark.java

SMALL = "small&sizeX=64&sizeY=48&sizeZ=2&sizeC=3&rgb=3&pixelType=uint16.fake"
SLOW = "slow&sizeX=64&sizeY=64&sizeT=40&sleepOpenBytes=100.fake"
CHECKOUT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("BFBRIDGE_DATA") or CHECKOUT.parent / "shared" / "data")
# Reading all of it takes 20 s.
LONG = "long&sizeX=64&sizeY=64&sizeT=200&sleepOpenBytes=100.fake"

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX processes and signals")
linux = pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")


def open_(target, name=None, **options):
    return READER.open(as_source(target, name=name), OpenOptions(isolated=True, **options))


def read(reader, start=(0,) * 5, stop=None, image=0, level=0):
    region = Region(image, level, start, stop or reader.images[image].levels[level].shape)
    out = np.empty(region.shape, reader.images[image].dtype)
    out.view(np.uint8).fill(0xA5)
    reader.read(region, out)
    return out


def is_running(pid):
    """Whether a process runs; one that has ended and was not waited for counts as running."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def wait_for_end(pid, seconds=10):
    return wait_until(lambda: not is_running(pid), seconds)


@pytest.fixture(autouse=True)
def no_worker_is_left():
    """Every test leaves as many workers as it found."""
    before = workers.pids
    yield
    assert workers.pids == before


@pytest.fixture(scope="module")
def reference():
    """What the same file holds when Java runs in this process."""
    with BioReader(SMALL, isolated=False) as br:
        return br[:], br.metadata.to_xml(), br._file.backend.images


@pytest.fixture(scope="class")
def kept_worker():
    """A worker for all tests of a class."""
    reader = open_(SMALL, max_workers=1)
    yield
    reader.close()


@pytest.mark.usefixtures("kept_worker")
class TestInOneWorker:
    """What neither ends the worker nor tells how many there are."""

    def test_pixels_and_metadata_are_those_of_the_same_process(self, reference):
        pixels, xml, images = reference
        with BioReader(SMALL, 1, isolated=True) as br:
            assert isinstance(br._file.backend, IsolatedReader)
            assert br.backend == "bioformats"
            assert len(np.unique(br[:])) > 48
            np.testing.assert_array_equal(br[:], pixels)
            np.testing.assert_array_equal(br[5:31, 7:50, 1, 2], pixels[5:31, 7:50, 1, 2])
            assert br._file.backend.images == images
            assert br.metadata.to_xml() == xml
            plain = READER.open(as_source(SMALL), OpenOptions())
            assert br._file.backend.original_metadata == plain.original_metadata
            assert br._file.backend.used_files == plain.used_files
            assert br._file.backend.format == plain.format
            assert list(br._file.backend.series) == list(plain.series)
            assert br._file.backend.modulo(0) == plain.modulo(0)
            plain.close()

    def test_lookup_tables_arrive(self):
        name = "i&sizeX=32&sizeY=24&indexed=true&falseColor=false.fake"
        isolated, plain = open_(name, max_workers=1), READER.open(as_source(name), OpenOptions())
        table = isolated.lookup_table(0)
        assert table.shape == (3, 256)
        np.testing.assert_array_equal(table, plain.lookup_table(0))
        isolated.close()
        plain.close()

    def test_the_environment_isolates_and_the_argument_overrules_it(self, monkeypatch, reference):
        monkeypatch.setenv("BFBRIDGE_ISOLATED", "1")
        with BioReader(SMALL, 1) as br:
            assert isinstance(br._file.backend, IsolatedReader)
            np.testing.assert_array_equal(br[:], reference[0])
        with BioReader(SMALL, isolated=False) as br:
            assert not isinstance(br._file.backend, IsolatedReader)
        monkeypatch.setenv("BFBRIDGE_ISOLATED", "0")
        with BioReader(SMALL, 1) as br:
            assert not isinstance(br._file.backend, IsolatedReader)
        with pytest.raises(BadArgument, match="isolated"):
            BioReader(SMALL, isolated="yes")

    def test_a_real_file_has_the_pixels_of_the_same_process(self):
        found = sorted(DATA.glob("czi/*/*.czi")) + sorted(DATA.glob("czi/*.czi"))
        if not found:
            pytest.skip("there are no real files (BFBRIDGE_DATA)")
        path = min(found, key=lambda file: file.stat().st_size)
        options = {"backend": "bioformats"}
        with (
            BioReader(path, 1, isolated=True, **options) as there,
            BioReader(path, isolated=False, **options) as here,
        ):
            assert there.backend == "bioformats"
            assert there._file.backend.images == here._file.backend.images
            np.testing.assert_array_equal(there[:512, :512], here[:512, :512])
            assert there._file.backend.used_files == here._file.backend.used_files
            assert (
                dict(there._file.backend.original_metadata) == here._file.backend.original_metadata
            )

    @pytest.mark.timeout(200)
    def test_files_that_must_fail_do_so_in_time(self):
        entries = manifest_failures()
        if not entries:
            pytest.skip("there are no real files (BFBRIDGE_DATA)")
        for path in entries:
            begun = time.monotonic()
            with pytest.raises(BfbridgeError) as here:
                READER.open(as_source(path), OpenOptions())
            with pytest.raises(BfbridgeError) as there:
                open_(path, max_workers=1)
            assert time.monotonic() - begun < 30
            assert (type(there.value), str(there.value)) == (type(here.value), str(here.value))

    def test_errors_keep_their_class(self, tmp_path):
        (tmp_path / "damaged.czi").write_bytes(b"ZISRAWFILE" + bytes(600))
        reader = open_(SMALL, max_workers=1)
        with pytest.raises(FileMissing):
            open_(tmp_path / "none.czi", max_workers=1)
        with pytest.raises(UnreadableFile):
            open_(tmp_path / "damaged.czi", max_workers=1)
        with pytest.raises(BadArgument, match="no.such"):
            open_(SMALL, max_workers=1, backend_options={"no.such": 1})
        with pytest.raises(BadArgument, match="cannot be sent"):
            open_(SMALL, max_workers=1, backend_options={"czi": threading.Lock()})
        with pytest.raises(BadSelection):
            BioReader(SMALL, 1, series=7, isolated=True)
        reader.close()
        reader.close()
        for use in (lambda: read(reader), reader.ome_xml):
            with pytest.raises(Closed):
                use()

    def test_python_goes_on_while_java_works(self):
        with BioReader(SLOW, 1, isolated=True, cache=0) as br:
            pause = []
            reading = threading.Thread(target=lambda: br[:, :, 0, 0, :8])
            reading.start()
            last = time.monotonic()
            while reading.is_alive():
                time.sleep(0.001)
                now = time.monotonic()
                pause.append(now - last)
                last = now
        assert len(pause) > 100
        # Held for a plane, the lock would make eight pauses of 0.1 s; a busy machine makes a few.
        assert sorted(pause)[-5] < 0.09

    def test_two_workers_overlap(self):
        with BioReader(SLOW, 1, isolated=True, cache=0) as br:
            begun = time.monotonic()
            br[..., :10]
            alone = time.monotonic() - begun
        with BioReader(SLOW, 2, isolated=True, cache=0) as br:
            backend = br._file.backend
            # The second is started once that much time was spent waiting for the first.
            deadline = time.monotonic() + 10
            while len(backend.processes) < 2 and time.monotonic() < deadline:
                br[..., :6]
            begun = time.monotonic()
            br[..., :10]
            taken = time.monotonic() - begun
        # 10 planes of 0.1 s
        assert alone > 1
        assert taken < 0.7 * alone


def test_bytes_and_names_relative_to_the_folder_of_then(tmp_path, monkeypatch):
    tifffile = pytest.importorskip("tifffile")
    pixels = np.arange(61 * 47, dtype=np.uint16).reshape(61, 47) * 3
    (tmp_path / "a").mkdir()
    tifffile.imwrite(tmp_path / "a" / "a.tif", pixels)
    from_bytes = open_((tmp_path / "a" / "a.tif").read_bytes(), name="a.tif")
    monkeypatch.chdir(tmp_path / "a")
    from_name = open_("a.tif")
    monkeypatch.chdir(tmp_path)
    for reader in (from_bytes, from_name):
        np.testing.assert_array_equal(read(reader)[0, 0, 0], pixels)
    os.kill(from_name.processes[0], signal.SIGTERM)
    assert wait_until(lambda: from_name.processes == [])
    with pytest.raises(ReadFailed, match="a.tif"):
        read(from_name)
    np.testing.assert_array_equal(read(from_name)[0, 0, 0], pixels)
    with open("a/a.tif", "rb") as file, pytest.raises(BadArgument, match="open file"):
        open_(file)
    from_name.close()
    from_bytes.close()


def manifest_failures():
    if not (DATA / "manifest.json").exists():
        return []
    entries = json.loads((DATA / "manifest.json").read_text(encoding="utf-8"))["entries"]
    return [DATA / e["file"] for e in entries if e["expect"] == "fails"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
@posix
def test_a_killed_worker_is_one_error_then_reading_goes_on(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # Java leaves its crash report there
    reader = open_(LONG)
    expected = read(reader, stop=(1, 1, 1, 64, 64))
    (pid,) = reader.processes
    killer = threading.Timer(0.3, os.kill, (pid, number))
    killer.start()
    begun = time.monotonic()
    with pytest.raises(ReadFailed) as error:
        read(reader)
    assert time.monotonic() - begun < 15
    killer.join()
    said = {signal.SIGKILL: "SIGKILL", signal.SIGSEGV: "SIGABRT"}[number]
    for part in (LONG, "image 0, level 0, t 0:200", said, str(pid), "next read starts a new one"):
        assert part in str(error.value)
    assert not is_running(pid)
    np.testing.assert_array_equal(read(reader, stop=(1, 1, 1, 64, 64)), expected)
    assert reader.processes != [pid]
    reader.close()


@posix
def test_a_killed_worker_leaves_no_files(tmp_path, monkeypatch):
    """Bytes are files in a temporary folder of the worker, as far as Java sees."""
    tifffile = pytest.importorskip("tifffile")
    pixels = np.arange(61 * 47, dtype=np.uint16).reshape(61, 47) * 3
    file = io.BytesIO()
    tifffile.imwrite(file, pixels)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    reader = open_(file.getvalue(), name="a.tif")
    assert list(tmp_path.rglob("a.tif"))
    (pid,) = reader.processes
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: not workers.pids)
    with pytest.raises(ReadFailed):
        read(reader)
    assert list(tmp_path.iterdir()) == []
    np.testing.assert_array_equal(read(reader)[0, 0, 0], pixels)
    assert list(tmp_path.rglob("a.tif"))
    reader.close()
    assert list(tmp_path.iterdir()) == []


@posix
def test_an_idle_worker_that_was_killed_is_told_once(reference):
    """The worker of two files is killed: the next read fails, and then both are read again."""
    first, second = BioReader(SMALL, 1, isolated=True), BioReader(SMALL, 1, isolated=True)
    (pid,) = first._file.backend.processes
    assert second._file.backend.processes == [pid]
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: not workers.pids)
    with pytest.raises(ReadFailed, match=r"process \d+\) ended: killed by signal 9"):
        first[:]
    np.testing.assert_array_equal(second[:], reference[0])
    np.testing.assert_array_equal(first[:], reference[0])
    first.close()
    second.close()


@posix
def test_a_file_that_kills_its_worker_when_opened(tmp_path):
    name = "slow&sizeX=64&sizeY=64&sleepInitFile=3000.fake"
    holder = open_(SMALL, max_workers=1)
    killer = threading.Timer(0.3, os.kill, (holder.processes[0], signal.SIGKILL))
    killer.start()
    with pytest.raises(ReadFailed, match=r"sleepInitFile=3000\.fake: opening it: .*\(SIGKILL\)"):
        open_(name, max_workers=1)
    killer.join()
    assert read(holder).any()  # another file than the one that raised the error
    holder.close()


def test_an_interrupted_read_does_not_disturb_the_next(reference):
    reader = open_(LONG)
    (pid,) = reader.processes
    timer = threading.Timer(0.3, signal.raise_signal, (signal.SIGINT,))
    if sys.platform != "win32":
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        read(reader)
    assert time.monotonic() - begun < 15
    assert read(reader, stop=(1, 1, 1, 64, 64)).any()
    assert wait_until(lambda: not is_running(pid))
    reader.close()


@linux
def test_closing_leaves_nothing_behind(reference):
    def left():
        files = [Path(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
        return (
            [name for name in os.listdir("/dev/shm") if name.startswith("bfbridge")],
            Counter(os.readlink(file) for file in files if file.exists()),
            Path(f"/proc/self/task/{os.getpid()}/children").read_text().split(),
        )

    before = left()
    reader = BioReader(SMALL, isolated=True)
    np.testing.assert_array_equal(reader[:], reference[0])
    (pid,) = reader._file.backend.processes
    reader.close()
    assert not is_running(pid)
    dropped = BioReader(SMALL, isolated=True)
    (pid,) = dropped._file.backend.processes
    del dropped
    gc.collect()
    # A finaliser does not wait.
    assert wait_for_end(pid)
    wait_until(lambda: left() == before)
    shared, descriptors, children = left()
    assert (shared, children) == (before[0], before[2])
    # Java may have closed some that damaged files had left open.
    assert not descriptors - before[1]


# Many a Java is started here: with the archive.
FAST = {"BFBRIDGE_ARCHIVE": "1"}
FORKS = """
from bfbridge import BioReader
br = BioReader("a&sizeX=64&sizeY=48&sizeT=4&pixelType=uint16.fake", isolated=True)
expected = br[:].astype("i8").sum()
parents = br._file.backend.processes
"""


@posix
def test_a_forked_child_reads_with_workers_of_its_own(program):
    out = program.run(
        FORKS
        + """
pid = os.fork()
if pid == 0:
    fresh = BioReader(SMALL, isolated=True)
    same = br[:].astype("i8").sum() == expected and fresh[:].any()
    mine = br._file.backend.processes
    br.close()
    fresh.close()
    sys.exit(7 if same and mine and not set(mine) & set(parents) else 1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
assert (br[:].astype("i8").sum() == expected) and br._file.backend.processes == parents
print("parent reads on")
""",
        **FAST,
    )
    assert out == "parent reads on\n"


@pytest.mark.parametrize("method", [pytest.param("fork", marks=posix), "spawn"])
def test_pools_of_processes_read(program, method):
    """A reader that is open goes to the processes as torch's loaders send their datasets."""
    processes = 2 if method == "fork" else 1
    out = program.run(
        f"""
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor
        from bfbridge import BioReader

        def total(br):
            return int(br[:].astype("i8").sum()), br.shape

        if __name__ == "__main__":
            br = BioReader("a&sizeX=64&sizeY=48&sizeT=4.fake", max_workers=1, isolated=True)
            expected = total(br)
            context = multiprocessing.get_context({method!r})
            with ProcessPoolExecutor({processes}, mp_context=context) as pool:
                print(list(pool.map(total, [br] * 4)) == [expected] * 4)
            print(total(br) == expected)
        """,
        **FAST,
    )
    assert out == "True\nTrue\n"


@posix
@pytest.mark.parametrize("how", ["killed", "forked, then killed", "exit"])
def test_a_worker_ends_with_its_process(program, until, how, tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("temporary")
    process = program.start(
        f"""
slow = open_({SLOW!r}, isolated=True)
threading.Thread(target=read, args=(slow,), daemon=True).start()
child = os.fork() if {how!r}.startswith("forked") else 1
if child == 0:
    time.sleep(60)
    os._exit(0)
time.sleep(0.2)
from bfbridge_bioformats.isolation.workers import workers
print(*workers.pids, file=open("pids", "w"), flush=True)
print("ready", flush=True)
if {how!r} != "exit":
    time.sleep(60)
""",
        TMPDIR=str(tmp_path),
        **FAST,
    )
    until(process, "ready")
    pids = [int(pid) for pid in (program.folder / "pids").read_text().split()]
    assert len(pids) == 1
    if how != "exit":
        process.kill()
    begun = time.monotonic()
    process.wait(30)
    assert all(wait_for_end(pid, 20) for pid in pids)
    assert time.monotonic() - begun < 50  # the forked child has not ended
    assert list(tmp_path.iterdir()) == []
    if how == "exit":
        assert (process.returncode, process.communicate()) == (0, ("", ""))
    else:
        process.stdout.close()
        process.stderr.close()


def image(shape, chunk, dtype="u2", samples=1):
    return Image("i", (Level(shape, chunk),), np.dtype(dtype), samples=samples)


@pytest.mark.parametrize(
    ("shape", "chunk", "samples", "start"),
    [
        ((2, 3, 2, 300, 200), (1, 1, 1, 300, 200), 1, (0, 0, 0, 0, 0)),
        ((1, 1, 1, 40_000, 9_000), (1, 1, 1, 1024, 1024), 1, (0, 0, 0, 700, 5)),
        ((2, 6, 1, 9_000, 6_000), (1, 3, 1, 512, 512), 3, (0, 1, 0, 30, 0)),
        ((1, 1, 1, 7, 90_000_000), (1, 1, 1, 1, 1_000_000), 1, (0, 0, 0, 2, 3)),
    ],
)
def test_pieces_cover_a_region_once(shape, chunk, samples, start):
    region = Region(0, 0, start, shape)
    pieces = list(_pieces(region, image(shape, chunk, samples=samples)))
    small = all(np.prod(piece.shape, dtype="i8") * 2 <= 64 << 20 for piece in pieces)
    assert small
    assert sum(np.prod(p.shape, dtype="i8") for p in pieces) == np.prod(region.shape, dtype="i8")
    corners = {piece.start for piece in pieces}
    assert len(corners) == len(pieces)
    for piece in pieces:
        for axis in range(5):
            a, b = piece.start[axis], piece.stop[axis]
            assert region.start[axis] <= a < b <= region.stop[axis]
            assert a == region.start[axis] or a % chunk[axis] == 0
