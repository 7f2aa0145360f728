"""Atomic creation of a file or store: it appears complete under its name, or not at all.

A writer works in one private folder next to its target::

    slide.ome.tif                       the previous file, unchanged until commit()
    .slide.ome.tif.bfbridge-partial/    one writer's folder
        .bfbridge-lock                  locked while that writer exists
        slide.ome.tif                   the new image, unfinished

The unfinished file has its final name, so writers that depend on the suffix work. The folder is on
the file system of the target, so ``commit`` is a rename. The operating system releases the lock
when the owner ends, in any way; the next writer of the same target then removes the folder.

Two more names can remain, and this module never deletes them. ``.<name>.bfbridge-old/`` holds the
old data between two renames, if the file system cannot exchange two names in one step; if the
process is killed at that point, the next writer restores the old data.
``.<name>.bfbridge-kept/`` holds a finished image whose last rename was refused.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import threading
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from bfbridge.errors import BadArgument, TargetBusy, TargetExists, WriteFailed
from bfbridge.runtime import forking
from bfbridge.runtime.descriptors import write_all
from bfbridge.runtime.systems import replace, unusable_name
from bfbridge.storage.durable_io import (
    ZARR_MARKS,
    clear,
    flush,
    flush_folder,
    flush_tree,
    foreign_file,
    removed_if_empty,
    rename_new,
    replace_at_once,
)
from bfbridge.storage.ownership import PARTIAL, OwnedTarget
from bfbridge.storage.private_folder import (
    LOCK,
    close_lock,
    leave_folder,
    names_in,
    remove_folder,
    renamed_spare,
    take_lock,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["LOCK", "AtomicTarget", "write_bytes_atomically"]

OLD = ".bfbridge-old"
KEPT = ".bfbridge-kept"

# File names have at most 255 bytes on every common file system; the endings above add up to 20.
LONGEST_NAME = 200

ADVICE = {
    errno.ENOSPC: "The disk is full: free some space, or write to another disk.",
    errno.EROFS: "The file system is read-only: write somewhere else.",
    errno.EACCES: "Ask for write permission on that folder, or write somewhere else.",
    errno.EPERM: "Ask for write permission on that folder, or write somewhere else.",
    errno.EIO: "The disk reports an error: check it before writing again.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.EBUSY: "The name is in use by the system (a mount point?): choose another name.",
    errno.EMFILE: "This process has too many files open: close some.",
}
if hasattr(errno, "EDQUOT"):
    ADVICE[errno.EDQUOT] = "Your disk quota is used up: free some space, or write to another disk."


class AtomicTarget(OwnedTarget):
    """One file or store being written, not visible under its name until `commit`.

    Every use ends with `commit` or `discard`. After a ``commit`` that raised, everything is
    released, so ``discard`` does nothing. Methods may be called from any thread, and more than
    once.

    Parameters
    ----------
    path
        Path of the finished image. A symbolic link is followed, as by ``open``.
    overwrite
        Whether an image of that name may be replaced. Folders that contain anything other than a
        Zarr store are never replaced.
    durable
        Whether ``commit`` waits until the image would survive a power loss.

    Attributes
    ----------
    path
        Absolute path of the target, as given by the caller.
    folder
        The private folder.
    work_path
        Path to write the image to: a name inside `folder` that does not exist yet.

    Raises
    ------
    TargetExists
        A file of that name exists and ``overwrite`` is False. Nothing was changed.
    TargetBusy
        Another writer, in this or another process, is writing the same target.
    WriteFailed
        The folder is missing or not writable, or the existing file must not be replaced.
    BadArgument
        The path has no file name.
    """

    path: Path

    def __init__(
        self, path: str | os.PathLike[str], *, overwrite: bool = False, durable: bool = False
    ) -> None:
        super().__init__()
        self.path = _named(path)
        self._overwrite = overwrite
        self._durable = durable
        # A target has one private folder, also if several links lead to it.
        self._target = Path(os.path.realpath(self.path))
        wrong = unusable_name(self._target.name)
        if wrong is not None:
            raise BadArgument(f"{self.path}: {wrong}. Choose another name.")
        self.folder = _beside(self._target, PARTIAL)
        self.work_path = self.folder / self._target.name
        self._mutex = forking.lock()
        self._committed = False
        self._fd: int | None = None
        with _reported(self.path, "cannot be written"):
            self._check_target()
            _check_parent(self._target.parent, self.path)
            self._fd = renamed_spare(self.folder)
            if self._fd is None:
                self._fd = take_lock(self.folder, self.path)
            try:
                self._restore_old()
                self._check_target()
                clear(self.folder, LOCK)
                if names_in(self.folder):
                    raise WriteFailed(
                        f"{self.path}: unfinished files of an earlier writer in {self.folder} "
                        "cannot be removed. Close the programs that have them open, or remove "
                        "that folder."
                    )
            except BaseException:
                self._drop_folder()
                raise

    def commit(self) -> None:
        """Give the finished file its final name, in one step.

        Other files that the format made next to ``work_path`` are moved too; the main one is last.

        Raises
        ------
        TargetExists
            Another program made the target in the meantime, and ``overwrite`` is False. The
            finished image is kept; the message has its path.
        WriteFailed
            The file system refused. A previous file of that name is unchanged.
        """
        self.check_owner()
        with self._mutex:
            if self._committed:
                return
            if self._fd is None:
                raise WriteFailed(f"{self.path}: this writer was discarded, or has failed.")
            names = self._flushed_names()
            self._place(names)
            self._committed = True
            try:
                if self._durable:
                    with _reported(self.path, "is complete, but may not survive a power loss"):
                        flush_folder(self._target.parent)
            finally:
                self._leave_folder()

    def discard(self) -> None:
        """Remove the unfinished file; does nothing after `commit` or in a forked child."""
        if not self.owned:
            return
        with self._mutex:
            self._drop_folder()

    def _check_target(self) -> None:
        """Raise if the existing file of the target's name must not be replaced."""
        if not os.path.lexists(self._target):
            return
        objection = _objection(self._target)
        if not self._overwrite:
            raise TargetExists(
                f"{self.path}: {objection}"
                if objection
                else f"{self.path} exists. Pass overwrite=True (--overwrite on the command line) "
                "to replace it, or choose another name."
            )
        if objection:
            raise WriteFailed(f"{self.path}: {objection}")

    def _flushed_names(self) -> list[str]:
        """Return the names to move, the main one last; flush them to disk if `durable`."""
        try:
            with _reported(self.path, "cannot be finished"):
                names = [name for name in names_in(self.folder) if not name.endswith(PARTIAL)]
                if self._target.name not in names:
                    raise WriteFailed(f"{self.path}: nothing was written, so nothing is finished.")
                names.remove(self._target.name)
                names.append(self._target.name)
                if self._durable:
                    flush_tree(self.folder)
                return names
        except BaseException:
            # After a failed flush the content on disk is unknown, so the file is not kept.
            self._drop_folder()
            raise

    def _place(self, names: Sequence[str]) -> None:
        """Move the files to their final names. On failure restore the old, keep the new, raise."""
        try:
            for attempt in count():
                try:
                    self._move_in(names)
                    return
                except (FileExistsError, FileNotFoundError) as error:
                    # Another program made or removed the target between the check and the rename.
                    if isinstance(error, TargetExists) or attempt == 3:
                        raise
        except TargetExists as error:
            raise TargetExists(f"{error} {self._keep_work()}") from error
        except FileExistsError as error:
            raise TargetBusy(
                f"{self.path}: other programs keep writing to this name. {self._keep_work()}"
            ) from error
        except WriteFailed as error:
            raise WriteFailed(f"{error} {self._keep_work()}") from error
        except OSError as error:
            raise _failure(
                error, f"{self.path} cannot be given its final name", self._keep_work()
            ) from error
        except BaseException:
            self._keep_work()
            raise

    def _move_in(self, names: Sequence[str]) -> None:
        parent = self._target.parent
        taken = [name for name in names if os.path.lexists(parent / name)]
        for name in taken:
            objection = _objection(parent / name)
            if objection:
                kind = WriteFailed if self._overwrite else TargetExists
                raise kind(f"{parent / name}: {objection}")
            if not self._overwrite:
                raise TargetExists(
                    f"{parent / name} was made by another program while {self.path} was written. "
                    "Pass overwrite=True (--overwrite) to replace such files."
                )
        if list(names) == taken == [self._target.name] and replace_at_once(
            self.work_path, self._target
        ):
            return
        self._move_through_parking(names, taken)

    def _move_through_parking(self, names: Sequence[str], taken: Sequence[str]) -> None:
        """Move old files away and new ones in; undo all of it if a step fails.

        The old main file is moved first and the new one last, so opening the name never returns a
        mixture of both. Old data wait in a folder that no writer clears.
        """
        parent = self._target.parent
        parked = _new_folder(self._target, OLD) if taken else None
        moved: list[tuple[Path, Path]] = []
        try:
            steps = [(parent / name, parked / name) for name in reversed(taken)] if parked else []
            steps += [(self.folder / name, parent / name) for name in names]
            for source, destination in steps:
                rename_new(source, destination)
                moved.append((source, destination))
        except BaseException as error:
            for source, destination in reversed(moved):
                with contextlib.suppress(OSError):
                    rename_new(destination, source)
            if parked and not removed_if_empty(parked):
                raise WriteFailed(
                    f"{self.path} cannot be given its final name, and the old data cannot be "
                    f"restored: they are complete, in {parked}."
                ) from error
            raise
        if parked:
            if self._durable:
                flush_folder(parent)
            # Delete inside the private folder, so that a partly deleted store is never mistaken for
            # old data and restored.
            with contextlib.suppress(OSError):
                parked.rename(self.folder / OLD)

    def _restore_old(self) -> None:
        """Restore old data that a killed writer had moved away, if their names are still free."""
        parked = _beside(self._target, OLD)
        if not parked.is_dir() or parked.is_symlink():
            return
        names = [entry.name for entry in parked.iterdir()]
        parent = self._target.parent
        if self._target.name in names and not any(os.path.lexists(parent / n) for n in names):
            for name in sorted(names, key=lambda name: name == self._target.name):
                rename_new(parked / name, parent / name)
        removed_if_empty(parked)

    def _keep_work(self) -> str:
        """Release finished files without deleting them, and return a sentence with their path."""
        if self._fd is None:
            return ""
        fd, self._fd = self._fd, None
        if sys.platform == "win32":
            close_lock(fd)  # an open file would prevent renaming the folder
        place = self.folder
        for number in range(1, 1000):
            kept = _beside(self._target, KEPT if number == 1 else f"{KEPT}-{number}")
            try:
                rename_new(self.folder, kept)
            except FileExistsError:
                continue
            except OSError:
                break
            place = kept
            with contextlib.suppress(OSError):
                (place / LOCK).unlink()
            break
        if sys.platform != "win32":
            close_lock(fd)
        until = "" if place != self.folder else ", until the next writer of that name clears it"
        return f"The finished image is complete, at {place / self._target.name}{until}."

    def _leave_folder(self) -> None:
        """Release the private folder of the finished target."""
        fd, self._fd = self._fd, None
        if fd is not None:
            leave_folder(self.folder, fd)

    def _drop_folder(self) -> None:
        """Clear and remove the private folder and release the lock, as far as possible."""
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        remove_folder(self.folder, fd)


def write_bytes_atomically(
    path: str | os.PathLike[str], data: bytes | bytearray | memoryview, durable: bool = False
) -> None:
    """Write a small file completely; replace an existing file, or leave it unchanged.

    For metadata that several threads may write. The bytes are written to a hidden name ending in
    ``.bfbridge-partial`` in the same folder; such a file remains only after a kill.

    Raises
    ------
    WriteFailed
        The folder is missing or not writable, or the file system refused.
    """
    final = _named(path)
    thread = f"{os.getpid()}-{threading.get_native_id()}"
    partial = _beside(final, f".{thread}{PARTIAL}")
    with _reported(final, "cannot be written"):
        _check_parent(final.parent, final)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
            fd = os.open(partial, flags | getattr(os, "O_BINARY", 0), 0o666)
            try:
                write_all(fd, data)
                if durable:
                    flush(fd)
            finally:
                os.close(fd)
            replace(partial, final)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise
        if durable:
            flush_folder(final.parent)


def _named(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path, because the working directory may change later."""
    text = os.fsdecode(path)
    if "\0" in text:
        raise BadArgument(f"{text!r} is not a path: it has a NUL character. Remove it.")
    named = Path(text).absolute()
    if not text or named.name in ("", ".."):
        raise BadArgument(f"{text!r} names no file to write: add a file name.")
    if named.name == LOCK or named.name.endswith((PARTIAL, OLD, KEPT)):
        raise BadArgument(
            f"{named}: names ending in {PARTIAL}, {OLD}, {KEPT} and {LOCK} are reserved for "
            "unfinished files of bfbridge. Choose another name."
        )
    return named


def _beside(target: Path, ending: str) -> Path:
    name = target.name
    if len(os.fsencode(name)) > LONGEST_NAME:
        import hashlib

        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return target.with_name(f".{name}{ending}")


def _new_folder(target: Path, ending: str) -> Path:
    for number in count(1):
        folder = _beside(target, ending if number == 1 else f"{ending}-{number}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise AssertionError  # count() does not end


def _failure(error: OSError, what: str, more: str = "") -> WriteFailed:
    advice = ADVICE.get(error.errno or 0, "")
    reason = error.strerror or str(error)
    failure = WriteFailed(" ".join(part for part in (f"{what}: {reason}.", advice, more) if part))
    failure.errno = error.errno
    return failure


@contextlib.contextmanager
def _reported(path: Path, what: str) -> Iterator[None]:
    """Convert `OSError` to `WriteFailed`; bfbridge's own errors pass unchanged."""
    try:
        yield
    except WriteFailed:
        raise
    except OSError as error:
        raise _failure(error, f"{path} {what}") from error


def _check_parent(parent: Path, path: Path) -> None:
    if parent.is_dir():
        return
    if os.path.lexists(parent):
        raise WriteFailed(f"{path} cannot be written: {parent} is a file, not a folder.")
    raise WriteFailed(
        f"{path} cannot be written: the folder {parent} does not exist. Create it first."
    )


def _objection(path: Path) -> str:
    """Return why the file at `path` is never replaced; empty if it may be."""
    mode = os.lstat(path).st_mode
    if stat.S_ISREG(mode) or stat.S_ISLNK(mode):
        return ""
    if not stat.S_ISDIR(mode):
        return "this is a device, pipe or socket, not an image. Choose another name."
    names = {entry.name for entry in path.iterdir()}
    foreign = min(names, default="") if ZARR_MARKS.isdisjoint(names) else foreign_file(path)
    if not foreign:
        return ""
    return (
        f"this is a folder that contains something other than a Zarr image ({foreign}), so it is "
        "never replaced. Choose another name, or remove the folder yourself."
    )
