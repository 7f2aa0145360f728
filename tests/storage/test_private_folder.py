"""One private folder for several targets: nothing of it stays, and it never excludes its owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bfbridge.errors import TargetBusy
from bfbridge.storage import private_folder
from bfbridge.storage.atomic import LOCK, AtomicTarget
from bfbridge.storage.ownership import PARTIAL
from bfbridge.storage.private_folder import reused_folders

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no folder with an open file is renamed")


def write(path: Path, *, overwrite: bool = False) -> int:
    """Write a file; return the number of the lock file's inode."""
    target = AtomicTarget(path, overwrite=overwrite)
    lock = (target.folder / LOCK).stat().st_ino
    target.work_path.write_bytes(path.name.encode())
    target.commit()
    assert path.read_bytes() == path.name.encode()
    return lock


def test_targets_that_follow_each_other_share_a_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    with reused_folders():
        first = write(tmp_path / "a.tif")
        assert write(tmp_path / "b.tif") == first
        assert write(tmp_path / "b.tif", overwrite=True) == first
        # What cannot be taken along is removed.
        write(tmp_path / "sub/c.tif")
        assert sorted(os.listdir(tmp_path)) == ["a.tif", "b.tif", "sub"]
        held = sorted(os.listdir(tmp_path / "sub"))
        assert held == [f".c.tif{PARTIAL}", "c.tif"]
    assert os.listdir(tmp_path / "sub") == ["c.tif"]


def test_an_unfinished_target_leaves_nothing(tmp_path: Path) -> None:
    with reused_folders():
        write(tmp_path / "a.tif")
        target = AtomicTarget(tmp_path / "b.tif")
        target.work_path.write_bytes(b"part")
        target.discard()
        assert os.listdir(tmp_path) == ["a.tif"]
        write(tmp_path / "c.tif")
    assert sorted(os.listdir(tmp_path)) == ["a.tif", "c.tif"]


def test_folders_of_other_writers_are_respected(tmp_path: Path) -> None:
    other = AtomicTarget(tmp_path / "b.tif")
    dead = tmp_path / f".c.tif{PARTIAL}"
    dead.mkdir()
    (dead / LOCK).touch()
    (dead / "c.tif").write_bytes(b"part of a killed writer")
    with reused_folders():
        write(tmp_path / "a.tif")
        with pytest.raises(TargetBusy):
            AtomicTarget(tmp_path / "b.tif")
        write(tmp_path / "c.tif")
    other.discard()
    assert sorted(os.listdir(tmp_path)) == ["a.tif", "c.tif"]


def test_without_exclusive_renames_a_folder_is_made_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private_folder, "special_rename", lambda *_, **__: False)
    with reused_folders():
        write(tmp_path / "a.tif")
        write(tmp_path / "b.tif")
        assert sorted(os.listdir(tmp_path)) == [f".b.tif{PARTIAL}", "a.tif", "b.tif"]
    assert sorted(os.listdir(tmp_path)) == ["a.tif", "b.tif"]


def test_a_killed_process_leaves_what_the_next_writer_removes(tmp_path: Path) -> None:
    code = """if True:
        import os, sys
        from pathlib import Path
        from bfbridge.storage.atomic import AtomicTarget
        from bfbridge.storage.private_folder import reused_folders
        with reused_folders():
            target = AtomicTarget(Path(sys.argv[1]) / "a.tif")
            target.work_path.write_bytes(b"a")
            target.commit()
            os.kill(os.getpid(), 9)
    """
    folders = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": folders}, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    assert sorted(os.listdir(tmp_path)) == [f".a.tif{PARTIAL}", "a.tif"]
    AtomicTarget(tmp_path / "a.tif", overwrite=True).discard()
    assert os.listdir(tmp_path) == ["a.tif"]


def test_a_forked_child_leaves_the_folder_to_its_parent(tmp_path: Path) -> None:
    with reused_folders():
        first = write(tmp_path / "a.tif")
        child = os.fork()
        if not child:
            # The parent holds the lock of a.tif, and the child makes a folder of its own.
            write(tmp_path / "b.tif")
            os._exit(0 if sorted(os.listdir(tmp_path))[0] == f".a.tif{PARTIAL}" else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert write(tmp_path / "c.tif") == first
    assert sorted(os.listdir(tmp_path)) == ["a.tif", "b.tif", "c.tif"]
