"""Every rule of `bfbridge.storage.atomic`: which file has the name, at every moment, and whose."""

import errno
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from bfbridge.backend import OpenOptions
from bfbridge.errors import BadArgument, TargetBusy, TargetExists, UnreadableFile, WriteFailed
from bfbridge.registry import open_reader
from bfbridge.storage import atomic
from bfbridge.storage import durable_io as filesystem
from bfbridge.storage.atomic import AtomicTarget, write_bytes_atomically
from bfbridge.storage.ownership import is_partial
from bfbridge.storage.source import as_source

linux = pytest.mark.skipif(sys.platform != "linux", reason="RENAME_EXCHANGE is Linux's")
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")


def make_store(folder, text):
    folder.mkdir()
    (folder / "zarr.json").write_text(text)
    (folder / "c").mkdir()
    (folder / "c" / "0").write_bytes(text.encode() * 100)


def store_text(folder):
    text = (folder / "zarr.json").read_text()
    assert (folder / "c" / "0").read_bytes() == text.encode() * 100
    return text


def listing(folder):
    return sorted(entry.name for entry in folder.iterdir())


def written(path, data, **options):
    target = AtomicTarget(path, **options)
    target.work_path.write_bytes(data)
    return target


def failing(number):
    def fail(*_args, **_kwargs):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.fixture
def no_special_renames(monkeypatch):
    """A file system that offers neither exclusive renames nor exchanges."""
    monkeypatch.setattr(filesystem, "special_rename", lambda *_args, **_kwargs: False)


def in_another_process(code, *arguments):
    """Start Python code that has `AtomicTarget` and `sys`; its first line of output is awaited."""
    head = "import os, sys, time\nfrom pathlib import Path\nfrom bfbridge.storage.atomic import *\n"
    environment = {**os.environ, "PYTHONPATH": str(Path(atomic.__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-c", head + textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        env=environment,
        text=True,
    )
    return process, process.stdout.readline().strip()


HOLDER = """
    target = AtomicTarget(sys.argv[1], overwrite=True)
    target.work_path.write_bytes(b"half")
    print("holding", flush=True)
    sys.stdin.read()
"""


class TestFinishing:
    def test_file_appears_whole_and_leaves_nothing_else(self, tmp_path):
        target = AtomicTarget(tmp_path / "a.ome.tif")
        assert target.work_path.name == "a.ome.tif"
        assert target.work_path.parent == target.folder
        target.work_path.write_bytes(b"new")
        assert listing(tmp_path) == [".a.ome.tif.bfbridge-partial"]
        target.commit()
        assert listing(tmp_path) == ["a.ome.tif"]
        assert (tmp_path / "a.ome.tif").read_bytes() == b"new"

    @pytest.mark.parametrize("durable", [False, True])
    def test_store_appears_whole(self, tmp_path, durable):
        target = AtomicTarget(tmp_path / "s.ome.zarr", durable=durable)
        make_store(target.work_path, "new")
        target.commit()
        assert listing(tmp_path) == ["s.ome.zarr"]
        assert store_text(tmp_path / "s.ome.zarr") == "new"

    def test_old_file_stays_until_commit(self, tmp_path):
        path = tmp_path / "a.tif"
        path.write_bytes(b"old")
        target = written(path, b"new", overwrite=True)
        assert path.read_bytes() == b"old"
        target.commit()
        assert path.read_bytes() == b"new"
        assert listing(tmp_path) == ["a.tif"]

    @posix
    def test_replacing_keeps_the_permissions(self, tmp_path):
        path = tmp_path / "a.tif"
        path.write_bytes(b"old")
        path.chmod(0o600)
        written(path, b"new", overwrite=True).commit()
        assert path.stat().st_mode & 0o777 == 0o600

    @pytest.mark.parametrize("old", ["file", "store", "empty folder"])
    @pytest.mark.parametrize("new", ["file", "store"])
    @pytest.mark.parametrize("offered", [True, False])
    @pytest.mark.parametrize("durable", [False, True])
    def test_every_replacement(self, tmp_path, monkeypatch, old, new, offered, durable):
        if not offered:
            monkeypatch.setattr(filesystem, "special_rename", lambda *_a, **_k: False)
        path = tmp_path / "image"
        if old == "file":
            path.write_bytes(b"old")
        elif old == "store":
            make_store(path, "old")
        else:
            path.mkdir()
        target = AtomicTarget(path, overwrite=True, durable=durable)
        if new == "file":
            target.work_path.write_bytes(b"new")
        else:
            make_store(target.work_path, "new")
        target.commit()
        assert listing(tmp_path) == ["image"]
        assert (path.read_bytes() if new == "file" else store_text(path).encode()) == b"new"

    def test_commit_and_discard_may_be_repeated(self, tmp_path):
        target = written(tmp_path / "a.tif", b"new")
        target.commit()
        target.commit()
        target.discard()
        target.discard()
        assert (tmp_path / "a.tif").read_bytes() == b"new"

    def test_discard_leaves_old_file_and_nothing_else(self, tmp_path):
        path = tmp_path / "a.tif"
        path.write_bytes(b"old")
        target = written(path, b"half", overwrite=True)
        (target.folder / "more").mkdir()
        (target.folder / "more" / "x").write_bytes(b"x")
        target.discard()
        assert listing(tmp_path) == ["a.tif"]
        assert path.read_bytes() == b"old"
        with pytest.raises(WriteFailed, match="was discarded"):
            target.commit()

    def test_commit_of_nothing_is_an_error(self, tmp_path):
        target = AtomicTarget(tmp_path / "a.tif")
        with pytest.raises(WriteFailed, match="nothing was written"):
            target.commit()
        assert listing(tmp_path) == []

    def test_many_threads_commit_once(self, tmp_path):
        target = written(tmp_path / "a.tif", b"new")
        failures = []

        def commit():
            try:
                target.commit()
            except Exception as error:  # noqa: BLE001 any failure of any thread counts
                failures.append(error)

        threads = [threading.Thread(target=commit) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert (tmp_path / "a.tif").read_bytes() == b"new"

    def test_relative_path_survives_a_change_of_folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        target = written("a.tif", b"new")
        (tmp_path / "other").mkdir()
        monkeypatch.chdir(tmp_path / "other")
        target.commit()
        assert (tmp_path / "a.tif").read_bytes() == b"new"

    @pytest.mark.parametrize("name", ["x" * 251 + ".tif", "é" * 125 + ".tif"])
    def test_longest_names(self, tmp_path, name):
        if not name.isascii() and sys.getfilesystemencoding() != "utf-8":
            pytest.skip("the file system's encoding lacks these characters")
        written(tmp_path / name, b"new").commit()
        assert listing(tmp_path) == [name]

    def test_descriptors_return(self, tmp_path):
        if not Path("/proc/self/fd").is_dir():
            pytest.skip("counts descriptors in /proc")
        before = sorted(os.listdir("/proc/self/fd"))
        for _ in range(20):
            written(tmp_path / "a.tif", b"new", overwrite=True, durable=True).commit()
            written(tmp_path / "a.tif", b"new", overwrite=True).discard()
            with pytest.raises(TargetExists):
                AtomicTarget(tmp_path / "a.tif")
        assert sorted(os.listdir("/proc/self/fd")) == before

    def test_durable_flushes_every_file_before_the_rename_and_the_folder_after(
        self, tmp_path, monkeypatch
    ):
        events = []
        flush, move = filesystem.flush, filesystem.rename_new
        paths = {}

        def flushed(fd):
            events.append(("flush", os.fstat(fd).st_ino))
            flush(fd)

        def moved(source, destination):
            events.append(("move", destination.name))
            move(source, destination)

        monkeypatch.setattr(filesystem, "flush", flushed)
        monkeypatch.setattr(atomic, "rename_new", moved)
        target = AtomicTarget(tmp_path / "s.zarr", durable=True)
        make_store(target.work_path, "new")
        for path in [target.work_path, *target.work_path.rglob("*")]:
            paths[path.name] = path.stat().st_ino
        target.commit()
        at = events.index(("move", "s.zarr"))
        assert {("flush", number) for number in paths.values()} <= set(events[:at])
        assert events[-1] == ("flush", tmp_path.stat().st_ino)
        assert at < len(events) - 1

    def test_without_durable_nothing_is_flushed(self, tmp_path, monkeypatch):
        monkeypatch.setattr(filesystem, "flush", failing(errno.EIO))
        written(tmp_path / "a.tif", b"new").commit()
        assert (tmp_path / "a.tif").read_bytes() == b"new"


class TestSiblings:
    def test_move_together_main_file_last(self, tmp_path, monkeypatch):
        order = []
        move = filesystem.rename_new
        monkeypatch.setattr(
            atomic, "rename_new", lambda a, b: (order.append(b.name), move(a, b))[1]
        )
        target = written(tmp_path / "a.ics", b"header")
        (target.folder / "a.ids").write_bytes(b"pixels")
        (target.folder / "z.ids").write_bytes(b"more")
        target.commit()
        assert order == ["a.ids", "z.ids", "a.ics"]
        assert listing(tmp_path) == ["a.ics", "a.ids", "z.ids"]
        assert (tmp_path / "a.ids").read_bytes() == b"pixels"

    @pytest.mark.parametrize("offered", [True, False])
    def test_replace_together(self, tmp_path, monkeypatch, offered):
        if not offered:
            monkeypatch.setattr(filesystem, "special_rename", lambda *_a, **_k: False)
        (tmp_path / "a.ics").write_bytes(b"old header")
        (tmp_path / "a.ids").write_bytes(b"old pixels")
        target = written(tmp_path / "a.ics", b"header", overwrite=True)
        (target.folder / "a.ids").write_bytes(b"pixels")
        target.commit()
        assert listing(tmp_path) == ["a.ics", "a.ids"]
        assert (tmp_path / "a.ics").read_bytes() == b"header"
        assert (tmp_path / "a.ids").read_bytes() == b"pixels"

    def test_a_sibling_of_the_user_is_not_replaced_unasked(self, tmp_path):
        (tmp_path / "a.ids").write_bytes(b"mine")
        target = written(tmp_path / "a.ics", b"header")
        (target.folder / "a.ids").write_bytes(b"pixels")
        with pytest.raises(TargetExists, match=r"a\.ids .*overwrite=True.*bfbridge-kept/a\.ics"):
            target.commit()
        assert (tmp_path / "a.ids").read_bytes() == b"mine"
        assert not (tmp_path / "a.ics").exists()
        kept = tmp_path / ".a.ics.bfbridge-kept"
        assert listing(kept) == ["a.ics", "a.ids"]

    @pytest.mark.parametrize("step", range(4))
    def test_any_failing_step_is_undone(self, tmp_path, monkeypatch, step):
        (tmp_path / "a.ics").write_bytes(b"old header")
        (tmp_path / "a.ids").write_bytes(b"old pixels")
        target = written(tmp_path / "a.ics", b"header", overwrite=True)
        (target.folder / "a.ids").write_bytes(b"pixels")
        move, calls = filesystem.rename_new, []

        def fail_at_step(source, destination):
            calls.append(destination)
            if len(calls) == step + 1:
                raise OSError(errno.EIO, "Input/output error")
            move(source, destination)

        monkeypatch.setattr(atomic, "rename_new", fail_at_step)
        with pytest.raises(WriteFailed, match="The disk reports an error") as caught:
            target.commit()
        assert caught.value.errno == errno.EIO
        assert len(calls) > step
        assert listing(tmp_path) == [".a.ics.bfbridge-kept", "a.ics", "a.ids"]
        assert (tmp_path / "a.ics").read_bytes() == b"old header"
        assert (tmp_path / "a.ids").read_bytes() == b"old pixels"
        kept = tmp_path / ".a.ics.bfbridge-kept"
        assert (kept / "a.ics").read_bytes() == b"header"
        assert (kept / "a.ids").read_bytes() == b"pixels"


class TestExistingTargets:
    @pytest.mark.parametrize("kind", ["file", "store", "folder", "link", "dangling link"])
    def test_refused_unasked_before_anything_is_touched(self, tmp_path, kind):
        path = tmp_path / "x.ome.tif"
        if kind == "file":
            path.write_bytes(b"old")
        elif kind == "store":
            make_store(path, "old")
        elif kind == "folder":
            path.mkdir()
        else:
            if os.name == "nt":
                pytest.skip("links need rights on Windows")
            (tmp_path / "real").write_bytes(b"old")
            path.symlink_to("real" if kind == "link" else "x.ome.tif")
        before = listing(tmp_path)
        with pytest.raises(TargetExists, match=r"overwrite=True.*--overwrite") as caught:
            AtomicTarget(path)
        assert str(path) in str(caught.value)
        assert isinstance(caught.value, FileExistsError)
        assert listing(tmp_path) == before

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_a_folder_of_other_things_is_never_replaced(self, tmp_path, overwrite):
        folder = tmp_path / "results.ome.tif"
        folder.mkdir()
        (folder / "thesis.txt").write_text("years of work")
        kind = WriteFailed if overwrite else TargetExists
        with pytest.raises(kind, match="never replaced"):
            AtomicTarget(folder, overwrite=overwrite)
        assert (folder / "thesis.txt").read_text() == "years of work"
        assert listing(tmp_path) == ["results.ome.tif"]

    @pytest.mark.parametrize("mark", sorted(filesystem.ZARR_MARKS))
    def test_every_kind_of_zarr_store_is_replaced(self, tmp_path, mark):
        store = tmp_path / "s.zarr"
        store.mkdir()
        (store / mark).write_text("{}")
        (store / "0").write_text("chunk")
        written(store, b"new", overwrite=True).commit()
        assert store.read_bytes() == b"new"

    @posix
    @pytest.mark.parametrize("kind", ["pipe", "socket"])
    def test_pipes_and_sockets_are_never_replaced(self, tmp_path, kind, monkeypatch):
        monkeypatch.chdir(tmp_path)  # socket names are short
        if kind == "pipe":
            os.mkfifo("x.tif")
        else:
            with socket.socket(socket.AF_UNIX) as made:
                made.bind("x.tif")
        with pytest.raises(WriteFailed, match="device, pipe or socket"):
            AtomicTarget("x.tif", overwrite=True)
        assert listing(tmp_path) == ["x.tif"]

    @posix
    def test_a_link_is_followed(self, tmp_path):
        (tmp_path / "disk").mkdir()
        (tmp_path / "disk" / "real.tif").write_bytes(b"old")
        (tmp_path / "a.tif").symlink_to("disk/real.tif")
        target = written(tmp_path / "a.tif", b"new", overwrite=True)
        with pytest.raises(TargetBusy):
            AtomicTarget(tmp_path / "disk" / "real.tif", overwrite=True)
        target.commit()
        assert (tmp_path / "a.tif").is_symlink()
        assert (tmp_path / "disk" / "real.tif").read_bytes() == b"new"
        assert listing(tmp_path / "disk") == ["real.tif"]

    @pytest.mark.parametrize("offered", [True, False])
    @pytest.mark.parametrize("links", [True, False])
    @pytest.mark.parametrize("kind", ["file", "store"])
    def test_made_meanwhile_by_others_is_kept_and_so_is_the_work(
        self, tmp_path, monkeypatch, offered, links, kind
    ):
        if not offered:
            monkeypatch.setattr(filesystem, "special_rename", lambda *_a, **_k: False)
        if not links:
            monkeypatch.setattr(os, "link", failing(errno.EPERM))
        target = AtomicTarget(tmp_path / "a")
        if kind == "file":
            target.work_path.write_bytes(b"new")
        else:
            make_store(target.work_path, "new")
        (tmp_path / "a").write_bytes(b"theirs")
        with pytest.raises(TargetExists, match="another program") as caught:
            target.commit()
        assert (tmp_path / "a").read_bytes() == b"theirs"
        kept = tmp_path / ".a.bfbridge-kept" / "a"
        assert str(kept) in str(caught.value)
        assert (kept.read_bytes() if kind == "file" else store_text(kept).encode()) == b"new"
        target.discard()
        assert kept.exists()
        # It is not removed, and the next refusal uses another name.
        second = written(tmp_path / "b", b"b")
        second.discard()
        (tmp_path / "a").unlink()
        again = written(tmp_path / "a", b"third")
        (tmp_path / "a").write_bytes(b"theirs")
        with pytest.raises(TargetExists, match="kept-2"):
            again.commit()
        assert listing(tmp_path) == [".a.bfbridge-kept", ".a.bfbridge-kept-2", "a"]
        assert not is_partial(kept)

    @pytest.mark.parametrize("offered", [True, False])
    def test_made_between_look_and_rename(self, tmp_path, monkeypatch, offered):
        if not offered:
            monkeypatch.setattr(filesystem, "special_rename", lambda *_a, **_k: False)
        move = filesystem.rename_new

        def late(source, destination):
            if destination == tmp_path / "a.tif" and not destination.exists():
                destination.write_bytes(b"theirs")
            move(source, destination)

        target = written(tmp_path / "a.tif", b"new")
        monkeypatch.setattr(atomic, "rename_new", late)
        with pytest.raises(TargetExists, match="another program"):
            target.commit()
        assert (tmp_path / "a.tif").read_bytes() == b"theirs"

    def test_made_between_look_and_rename_with_overwrite(self, tmp_path, monkeypatch):
        move = filesystem.rename_new

        def late(source, destination):
            if destination == tmp_path / "a.tif" and not destination.exists():
                destination.write_bytes(b"theirs")
            move(source, destination)

        target = written(tmp_path / "a.tif", b"new", overwrite=True)
        monkeypatch.setattr(atomic, "rename_new", late)
        target.commit()
        assert (tmp_path / "a.tif").read_bytes() == b"new"
        assert listing(tmp_path) == ["a.tif"]

    def test_made_a_foreign_folder_meanwhile(self, tmp_path):
        target = written(tmp_path / "a", b"new", overwrite=True)
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "mine").write_text("mine")
        with pytest.raises(WriteFailed, match=r"never replaced.*bfbridge-kept"):
            target.commit()
        assert (tmp_path / "a" / "mine").read_text() == "mine"
        assert (tmp_path / ".a.bfbridge-kept" / "a").read_bytes() == b"new"

    def test_removed_between_look_and_exchange(self, tmp_path, monkeypatch):
        make_store(tmp_path / "a", "old")
        target = AtomicTarget(tmp_path / "a", overwrite=True)
        make_store(target.work_path, "new")
        real, calls = filesystem.replace_at_once, []

        def late(new, old):
            if not calls:
                old.rename(tmp_path / "elsewhere")
            calls.append(old)
            return real(new, old)

        monkeypatch.setattr(atomic, "replace_at_once", late)
        target.commit()
        assert len(calls) == 1
        assert store_text(tmp_path / "a") == "new"
        assert store_text(tmp_path / "elsewhere") == "old"


class TestFallback:
    """Where two names cannot be exchanged, old data wait in a folder that nothing clears."""

    @pytest.mark.usefixtures("no_special_renames")
    @pytest.mark.parametrize("step", range(2))
    def test_failing_rename_puts_the_old_store_back(self, tmp_path, monkeypatch, step):
        make_store(tmp_path / "s.zarr", "old")
        target = AtomicTarget(tmp_path / "s.zarr", overwrite=True)
        make_store(target.work_path, "new")
        move, calls = Path.rename, []

        def fail_at_step(self, destination):
            calls.append(destination)
            if len(calls) == step + 1:
                raise OSError(errno.ENOSPC, "No space left on device")
            return move(self, destination)

        monkeypatch.setattr(Path, "rename", fail_at_step)
        with pytest.raises(WriteFailed, match=r"disk is full.*complete, at .*bfbridge-kept"):
            target.commit()
        assert store_text(tmp_path / "s.zarr") == "old"
        assert store_text(tmp_path / ".s.zarr.bfbridge-kept" / "s.zarr") == "new"
        assert listing(tmp_path) == [".s.zarr.bfbridge-kept", "s.zarr"]

    @pytest.mark.usefixtures("no_special_renames")
    def test_old_store_that_cannot_be_put_back_is_named(self, tmp_path, monkeypatch):
        make_store(tmp_path / "s.zarr", "old")
        target = AtomicTarget(tmp_path / "s.zarr", overwrite=True)
        make_store(target.work_path, "new")
        move, calls = filesystem.rename_new, []

        def fail_after_first(source, destination):
            calls.append(destination)
            if len(calls) > 1:
                raise OSError(errno.EIO, "Input/output error")
            move(source, destination)

        monkeypatch.setattr(atomic, "rename_new", fail_after_first)
        with pytest.raises(WriteFailed, match=r"old data cannot be restored.*bfbridge-old"):
            target.commit()
        monkeypatch.undo()
        old = tmp_path / ".s.zarr.bfbridge-old" / "s.zarr"
        assert store_text(old) == "old"
        # The next writer, of any kind, puts it back before anything else.
        with pytest.raises(TargetExists):
            AtomicTarget(tmp_path / "s.zarr")
        assert store_text(tmp_path / "s.zarr") == "old"
        assert not old.parent.exists()

    @posix
    @pytest.mark.parametrize("moment", ["parked", "placed"])
    def test_kill_between_the_two_renames_loses_nothing(self, tmp_path, moment):
        make_store(tmp_path / "s.zarr", "old")
        code = """
            from bfbridge.storage import atomic
            from bfbridge.storage import durable_io as filesystem
            filesystem.special_rename = lambda *a, **k: False
            target = AtomicTarget(sys.argv[1], overwrite=True)
            target.work_path.mkdir()
            (target.work_path / "zarr.json").write_text("new")
            (target.work_path / "c").mkdir()
            (target.work_path / "c" / "0").write_bytes(b"new" * 100)
            move, stop = filesystem.rename_new, int(sys.argv[2])
            count = 0
            def rename(source, destination):
                global count
                move(source, destination)
                count += 1
                if count == stop:
                    os.kill(os.getpid(), 9)
            atomic.rename_new = rename
            target.commit()
        """
        process, _ = in_another_process(code, tmp_path / "s.zarr", 1 if moment == "parked" else 2)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        old = tmp_path / ".s.zarr.bfbridge-old" / "s.zarr"
        assert store_text(old) == "old"
        if moment == "parked":
            assert not (tmp_path / "s.zarr").exists()
            AtomicTarget(tmp_path / "s.zarr", overwrite=True).discard()
            assert store_text(tmp_path / "s.zarr") == "old"
            assert listing(tmp_path) == ["s.zarr"]
        else:
            AtomicTarget(tmp_path / "s.zarr", overwrite=True).discard()
            assert store_text(tmp_path / "s.zarr") == "new"
            assert store_text(old) == "old"

    @pytest.mark.usefixtures("no_special_renames")
    def test_parked_data_of_a_mixed_set_are_left_alone(self, tmp_path):
        """Half of a new pair has its name: restoring one old half would mix the two."""
        parked = tmp_path / ".a.ics.bfbridge-old"
        parked.mkdir()
        (parked / "a.ics").write_bytes(b"old header")
        (parked / "a.ids").write_bytes(b"old pixels")
        (tmp_path / "a.ids").write_bytes(b"new pixels")
        target = written(tmp_path / "a.ics", b"header", overwrite=True)
        assert not (tmp_path / "a.ics").exists()
        (target.folder / "a.ids").write_bytes(b"pixels")
        target.commit()
        assert (parked / "a.ics").read_bytes() == b"old header"
        assert (parked / "a.ids").read_bytes() == b"old pixels"
        assert listing(tmp_path) == [".a.ics.bfbridge-old", "a.ics", "a.ids"]


@linux
class TestExchange:
    def test_the_name_never_vanishes(self, tmp_path):
        """A reader in a loop sees the old store or the new one, at every moment."""
        store = tmp_path / "s.zarr"
        make_store(store, "0")
        if not filesystem.special_rename(store, tmp_path, exchange=True):
            probe = tmp_path / "a", tmp_path / "b"
            for path in probe:
                path.mkdir()
            if not filesystem.special_rename(*probe, exchange=True):
                pytest.skip("this file system cannot exchange names")
        stop, seen, absent = threading.Event(), set(), []

        def look():
            while not stop.is_set():
                try:
                    seen.add((store / "zarr.json").read_text())
                except FileNotFoundError:
                    absent.append(1)

        thread = threading.Thread(target=look)
        thread.start()
        try:
            for number in range(1, 60):
                target = AtomicTarget(store, overwrite=True)
                make_store(target.work_path, str(number))
                target.commit()
        finally:
            stop.set()
            thread.join()
        assert absent == []
        assert seen <= {str(number) for number in range(60)}
        assert store_text(store) == "59"

    def test_half_deleted_stores_open_as_nothing(self, tmp_path, monkeypatch):
        """The documents of every group and array go before the first chunk does."""
        make_store(tmp_path / "s.zarr", "old")
        make_store(tmp_path / "s.zarr" / "0", "array")
        seen = []
        monkeypatch.setattr(
            filesystem.shutil, "rmtree", lambda entry, **_: seen.extend(entry.rglob("*"))
        )
        target = AtomicTarget(tmp_path / "s.zarr", overwrite=True)
        make_store(target.work_path, "new")
        target.commit()
        names = sorted(str(path.relative_to(target.work_path)) for path in seen)
        assert names == ["0", "0/c", "0/c/0", "c", "c/0"]

    def test_kill_before_the_old_store_is_removed(self, tmp_path):
        make_store(tmp_path / "s.zarr", "old")
        code = """
            from bfbridge.storage import private_folder
            target = AtomicTarget(sys.argv[1], overwrite=True)
            target.work_path.mkdir()
            (target.work_path / "zarr.json").write_text("new")
            (target.work_path / "c").mkdir()
            (target.work_path / "c" / "0").write_bytes(b"new" * 100)
            private_folder.clear = lambda *a: os.kill(os.getpid(), 9)
            target.commit()
        """
        process, _ = in_another_process(code, tmp_path / "s.zarr")
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert store_text(tmp_path / "s.zarr") == "new"
        AtomicTarget(tmp_path / "s.zarr", overwrite=True).discard()
        assert store_text(tmp_path / "s.zarr") == "new"
        assert listing(tmp_path) == ["s.zarr"]


class TestOwnership:
    def test_second_writer_in_this_process(self, tmp_path):
        first = written(tmp_path / "a.tif", b"first")
        with pytest.raises(TargetBusy, match=rf"process {os.getpid()} on ") as caught:
            AtomicTarget(tmp_path / "a.tif", overwrite=True)
        assert isinstance(caught.value, BlockingIOError)
        assert first.work_path.read_bytes() == b"first"
        first.commit()
        assert (tmp_path / "a.tif").read_bytes() == b"first"

    def test_second_writer_in_another_process_then_kill(self, tmp_path):
        path = tmp_path / "a.tif"
        path.write_bytes(b"old")
        process, line = in_another_process(HOLDER, path)
        assert line == "holding"
        begun = time.monotonic()
        with pytest.raises(TargetBusy, match=rf"process {process.pid} on "):
            AtomicTarget(path, overwrite=True)
        assert time.monotonic() - begun < 30
        assert (tmp_path / ".a.tif.bfbridge-partial" / "a.tif").read_bytes() == b"half"
        process.kill()
        process.communicate()
        assert path.read_bytes() == b"old"
        assert listing(tmp_path) == [".a.tif.bfbridge-partial", "a.tif"]
        target = AtomicTarget(path, overwrite=True)
        assert not target.work_path.exists()
        target.work_path.write_bytes(b"new")
        target.commit()
        assert listing(tmp_path) == ["a.tif"]
        assert path.read_bytes() == b"new"

    def test_different_targets_do_not_meet(self, tmp_path):
        first, second = written(tmp_path / "a.tif", b"a"), written(tmp_path / "b.tif", b"b")
        second.commit()
        first.commit()
        assert listing(tmp_path) == ["a.tif", "b.tif"]

    @pytest.mark.slow(ci=True)
    def test_contending_processes_leave_one_whole_file(self, tmp_path):
        code = """
            from bfbridge.errors import TargetBusy
            me, done = sys.argv[2].encode() * 1000, 0
            end = time.monotonic() + 20
            while done < 60 and time.monotonic() < end:
                try:
                    target = AtomicTarget(sys.argv[1], overwrite=True)
                except TargetBusy:
                    continue
                target.work_path.write_bytes(me[:500])
                assert target.work_path.read_bytes() == me[:500]
                with target.work_path.open("ab") as file:
                    file.write(me[500:])
                target.commit()
                done += 1
                assert len(Path(sys.argv[1]).read_bytes()) == 1000
            print(done)
        """
        processes = [
            subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    "import sys, time\nfrom pathlib import Path\n"
                    "from bfbridge.storage.atomic import *\n" + textwrap.dedent(code),
                    str(tmp_path / "a"),
                    name,
                ],
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": str(Path(atomic.__file__).parents[1])},
                text=True,
            )
            for name in "xyz"
        ]
        outputs = [process.communicate()[0].strip() for process in processes]
        assert [process.returncode for process in processes] == [0, 0, 0]
        assert outputs == ["60", "60", "60"]
        assert (tmp_path / "a").read_bytes() in {name * 1000 for name in (b"x", b"y", b"z")}
        assert listing(tmp_path) == ["a"]

    def test_a_folder_of_that_name_that_is_not_ours(self, tmp_path):
        folder = tmp_path / ".a.tif.bfbridge-partial"
        folder.mkdir()
        (folder / "a.tif").write_bytes(b"whose?")
        with pytest.raises(WriteFailed, match="not made by bfbridge"):
            AtomicTarget(tmp_path / "a.tif")
        assert (folder / "a.tif").read_bytes() == b"whose?"

    @posix
    def test_a_planted_link_is_not_followed(self, tmp_path):
        private = tmp_path / "private"
        private.mkdir()
        (private / atomic.LOCK).write_bytes(b"")
        (private / "diary").write_text("mine")
        (tmp_path / ".a.tif.bfbridge-partial").symlink_to(private)
        with pytest.raises(WriteFailed, match="not made by bfbridge"):
            AtomicTarget(tmp_path / "a.tif")
        assert (private / "diary").read_text() == "mine"

    @posix
    def test_a_planted_lock_link_is_not_followed(self, tmp_path):
        (tmp_path / "diary").write_text("mine")
        folder = tmp_path / ".a.tif.bfbridge-partial"
        folder.mkdir()
        (folder / atomic.LOCK).symlink_to(tmp_path / "diary")
        with pytest.raises(WriteFailed):
            AtomicTarget(tmp_path / "a.tif")
        assert (tmp_path / "diary").read_text() == "mine"

    def test_remains_that_cannot_be_cleared(self, tmp_path, monkeypatch):
        folder = tmp_path / ".a.tif.bfbridge-partial"
        folder.mkdir()
        (folder / atomic.LOCK).write_bytes(b"")
        (folder / "a.tif").write_bytes(b"half")
        monkeypatch.setattr(Path, "unlink", failing(errno.EACCES))
        with pytest.raises(WriteFailed, match="unfinished files of an earlier writer"):
            AtomicTarget(tmp_path / "a.tif")
        monkeypatch.undo()
        written(tmp_path / "a.tif", b"new").commit()
        assert listing(tmp_path) == ["a.tif"]

    @posix
    def test_file_system_without_locks(self, tmp_path, monkeypatch):
        import fcntl

        monkeypatch.setattr(fcntl, "flock", failing(errno.ENOLCK))
        first = written(tmp_path / "a.tif", b"first")
        with pytest.raises(TargetBusy, match="If there is no such writer, remove"):
            AtomicTarget(tmp_path / "a.tif")
        first.commit()
        assert listing(tmp_path) == ["a.tif"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
class TestFork:
    def test_child_neither_finishes_nor_discards(self, tmp_path):
        target = written(tmp_path / "a.tif", b"new")

        def child(connection):
            target.discard()
            try:
                target.commit()
            except WriteFailed as error:
                connection.send(str(error))

        here, there = multiprocessing.Pipe()
        process = multiprocessing.get_context("fork").Process(target=child, args=(there,))
        process.start()
        process.join()
        assert here.poll()
        assert f"forked copy of process {os.getpid()}" in here.recv()
        with pytest.raises(TargetBusy):
            AtomicTarget(tmp_path / "a.tif")
        target.commit()
        assert (tmp_path / "a.tif").read_bytes() == b"new"

    def test_child_outliving_a_killed_owner_does_not_hold_the_target(self, tmp_path):
        code = """
            target = AtomicTarget(sys.argv[1])
            child = os.fork()
            if not child:
                os.close(1)
                time.sleep(60)
                os._exit(0)
            print(child, flush=True)
            time.sleep(60)
        """
        process, line = in_another_process(code, tmp_path / "a.tif")
        child = int(line)
        try:
            process.kill()
            process.communicate()
            os.kill(child, 0)
            written(tmp_path / "a.tif", b"new").commit()
        finally:
            os.kill(child, signal.SIGKILL)
        assert listing(tmp_path) == ["a.tif"]

    def test_child_can_write_targets_of_its_own(self, tmp_path):
        held = written(tmp_path / "a.tif", b"a")

        def child():
            written(tmp_path / "b.tif", b"b").commit()

        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join()
        assert process.exitcode == 0
        assert (tmp_path / "b.tif").read_bytes() == b"b"
        held.discard()


class TestRefusals:
    def test_missing_folder(self, tmp_path):
        with pytest.raises(WriteFailed, match=r"does not exist\. Create it"):
            AtomicTarget(tmp_path / "no" / "a.tif")

    def test_file_as_folder(self, tmp_path):
        (tmp_path / "f").write_bytes(b"mine")
        with pytest.raises(WriteFailed, match="is a file, not a folder"):
            AtomicTarget(tmp_path / "f" / "a.tif")
        assert (tmp_path / "f").read_bytes() == b"mine"

    @pytest.mark.parametrize(
        ("number", "advice"),
        [
            (errno.EACCES, "Ask for write permission"),
            (errno.EROFS, "read-only"),
            (errno.ENOSPC, "The disk is full"),
            (errno.EDQUOT, "quota"),
            (errno.EIO, "The disk reports an error"),
        ],
    )
    def test_folder_that_cannot_be_written(self, tmp_path, monkeypatch, number, advice):
        monkeypatch.setattr(os, "mkdir", failing(number))
        with pytest.raises(WriteFailed, match=advice) as caught:
            AtomicTarget(tmp_path / "a.tif")
        assert str(tmp_path / "a.tif") in str(caught.value)
        assert caught.value.errno == number
        assert caught.value.__cause__.errno == number
        assert listing(tmp_path) == []

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS])
    def test_flush_that_fails_at_commit(self, tmp_path, monkeypatch, number):
        path = tmp_path / "a.tif"
        path.write_bytes(b"old")
        target = written(path, b"new", overwrite=True, durable=True)
        monkeypatch.setattr(filesystem, "flush", failing(number))
        with pytest.raises(WriteFailed, match=atomic.ADVICE[number]) as caught:
            target.commit()
        assert caught.value.__cause__.errno == number
        assert path.read_bytes() == b"old"
        assert listing(tmp_path) == ["a.tif"]
        target.discard()
        with pytest.raises(WriteFailed, match="has failed"):
            target.commit()

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS])
    def test_rename_that_fails_at_commit(self, tmp_path, monkeypatch, number):
        path = tmp_path / "a.tif"
        path.write_bytes(b"old")
        target = written(path, b"new", overwrite=True)
        monkeypatch.setattr(os, "replace", failing(number))
        with pytest.raises(WriteFailed, match=atomic.ADVICE[number]) as caught:
            target.commit()
        kept = tmp_path / ".a.tif.bfbridge-kept" / "a.tif"
        assert str(kept) in str(caught.value)
        assert kept.read_bytes() == b"new"
        assert path.read_bytes() == b"old"

    def test_file_system_that_turns_read_only(self, tmp_path, monkeypatch):
        target = written(tmp_path / "a.tif", b"new")
        with monkeypatch.context() as patch:
            patch.setattr(atomic, "rename_new", failing(errno.EROFS))
            with pytest.raises(WriteFailed, match=r"partial.a\.tif, until the next writer"):
                target.commit()
        assert target.work_path.read_bytes() == b"new"
        target.discard()
        assert target.work_path.read_bytes() == b"new"

    def test_interrupt_during_commit_keeps_the_work(self, tmp_path, monkeypatch):
        target = written(tmp_path / "a.tif", b"new")
        calls, move = [], filesystem.rename_new

        def interrupted(source, destination):
            calls.append(destination)
            if len(calls) == 1:
                raise KeyboardInterrupt
            move(source, destination)

        monkeypatch.setattr(atomic, "rename_new", interrupted)
        with pytest.raises(KeyboardInterrupt):
            target.commit()
        assert (tmp_path / ".a.tif.bfbridge-kept" / "a.tif").read_bytes() == b"new"

    @pytest.mark.parametrize("path", ["", "/", "..", "a/..", "a\0b", ".x.bfbridge-partial"])
    def test_paths_that_name_no_file(self, path):
        with pytest.raises(BadArgument):
            AtomicTarget(path)


class TestSmallFiles:
    def test_write_and_replace(self, tmp_path):
        path = tmp_path / "zarr.json"
        write_bytes_atomically(path, b"one")
        write_bytes_atomically(path, memoryview(b"three").cast("B"), durable=True)
        assert path.read_bytes() == b"three"
        assert listing(tmp_path) == ["zarr.json"]

    def test_short_writes_go_on(self, tmp_path, monkeypatch):
        write = os.write
        monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data)[:3]))
        write_bytes_atomically(tmp_path / "a", b"0123456789")
        assert (tmp_path / "a").read_bytes() == b"0123456789"

    @pytest.mark.parametrize("call", ["write", "fsync", "rename"])
    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
    def test_failures_leave_the_old_file(self, tmp_path, monkeypatch, call, number):
        path = tmp_path / "a.json"
        path.write_bytes(b"old")
        if call == "rename":
            monkeypatch.setattr(os, "replace", failing(number))
        elif call == "fsync":
            monkeypatch.setattr(filesystem, "flush", failing(number))
            monkeypatch.setattr(atomic, "flush", failing(number))
        else:
            monkeypatch.setattr(os, "write", failing(number))
        with pytest.raises(WriteFailed, match=atomic.ADVICE[number]):
            write_bytes_atomically(path, b"new", durable=True)
        monkeypatch.undo()
        assert path.read_bytes() == b"old"
        assert listing(tmp_path) == ["a.json"]

    def test_missing_folder(self, tmp_path):
        with pytest.raises(WriteFailed, match="does not exist"):
            write_bytes_atomically(tmp_path / "no" / "a", b"")

    def test_threads_replace_each_other_whole(self, tmp_path):
        path = tmp_path / "zarr.json"
        texts = [bytes([65 + n]) * 5000 for n in range(4)]
        failures = []

        def work(text):
            try:
                for _ in range(50):
                    write_bytes_atomically(path, text)
                    failures.extend([] if path.read_bytes() in texts else ["torn"])
            except Exception as error:  # noqa: BLE001 any failure of any thread counts
                failures.append(error)

        threads = [threading.Thread(target=work, args=(text,)) for text in texts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert listing(tmp_path) == ["zarr.json"]

    def test_a_reader_refuses_unfinished_work(self, tmp_path):
        target = written(tmp_path / "a.tif", b"II*\0" + bytes(100))
        try:
            with pytest.raises(UnreadableFile, match="unfinished file"):
                open_reader(as_source(target.work_path), OpenOptions())
        finally:
            target.discard()

    def test_is_partial(self, tmp_path):
        target = AtomicTarget(tmp_path / "a.ome.zarr")
        assert is_partial(target.work_path)
        assert is_partial(target.work_path / "0" / "c")
        assert not is_partial(target.path)
        target.discard()
