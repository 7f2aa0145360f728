"""Finishing a file or store in one step, so that no half-written image is ever seen.

A writer works in one private folder beside its target::

    slide.ome.tif                       what stood there before, whole, until commit()
    .slide.ome.tif.bfbridge-partial/    one writer's folder
        .bfbridge-lock                  locked for as long as that writer lives
        slide.ome.tif                   the new image, growing

The work has its real name, so writers that go by the suffix do the right thing. The folder is on
the target's file system, so ``commit`` is a rename. The operating system lets go of the lock when
the owner ends, however it ends; the next writer of the same target then clears the folder.

Two more names can be left behind, and nothing here ever deletes them. ``.<name>.bfbridge-old/``
holds the old data for the moment between two renames, where the file system cannot exchange two
names in one step; if a kill strikes in that moment, the next writer puts the old data back.
``.<name>.bfbridge-kept/`` holds a finished image whose last rename was refused.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import threading
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from bfbridge.errors import BadArgument, TargetBusy, TargetExists, WriteFailed
from bfbridge.runtime import forking
from bfbridge.runtime.systems import replace, unusable_name
from bfbridge.storage.durable_io import (
    ZARR_MARKS,
    clear,
    flush,
    flush_folder,
    flush_tree,
    lock_now,
    read_all,
    removed_if_empty,
    rename_new,
    replace_at_once,
    stray_in,
    write_all,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["AtomicTarget", "is_partial", "write_bytes_atomically"]

PARTIAL = ".bfbridge-partial"
OLD = ".bfbridge-old"
KEPT = ".bfbridge-kept"
LOCK = ".bfbridge-lock"

# Names of files end at 255 bytes on every common file system; ours add up to 20.
LONGEST_NAME = 200

ADVICE = {
    errno.ENOSPC: "The disk is full: free some space, or write to another disk.",
    errno.EROFS: "The file system is read-only: write somewhere else.",
    errno.EACCES: "Ask for write permission on that folder, or write somewhere else.",
    errno.EPERM: "Ask for write permission on that folder, or write somewhere else.",
    errno.EIO: "The disk reports a fault: check it before writing again.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.EBUSY: "The name is in use by the system (a mount point?): choose another name.",
    errno.EMFILE: "This process has too many files open: close some.",
}
if hasattr(errno, "EDQUOT"):
    ADVICE[errno.EDQUOT] = "Your disk quota is used up: free some space, or write elsewhere."


def is_partial(path: str | os.PathLike[str]) -> bool:
    """Tell whether a path is, or lies in, what an unfinished writer is still making."""
    return any(part.startswith(".") and part.endswith(PARTIAL) for part in Path(path).parts)


class AtomicTarget:
    """One file or store being written, invisible under its name until `commit`.

    Every way out ends in `commit` or `discard`; a ``commit`` that raises has let go of everything,
    so ``discard`` after it does nothing. Methods may be called from any thread, and twice.

    Parameters
    ----------
    path
        Where the finished image goes. A symbolic link is followed, as ``open`` does.
    overwrite
        Whether an image of that name may be replaced. Folders that are neither empty nor Zarr
        stores with nothing else in them are never replaced.
    durable
        Whether ``commit`` returns only when the image would survive a power loss.

    Attributes
    ----------
    path
        The target, absolute, as the caller named it.
    folder
        The private folder.
    work_path
        Where the image is to be made: a name that does not exist yet, inside `folder`.

    Raises
    ------
    TargetExists
        Something stands under that name and ``overwrite`` was not given. Nothing was touched.
    TargetBusy
        Another writer, in this process or another, is making the same target.
    WriteFailed
        The folder is missing or not writable, or what stands there must not be replaced.
    BadArgument
        The path names no file.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, overwrite: bool = False, durable: bool = False
    ) -> None:
        self.path = _named(path)
        self._overwrite = overwrite
        self._durable = durable
        # One target has one folder, whatever links lead to it.
        self._target = Path(os.path.realpath(self.path))
        wrong = unusable_name(self._target.name)
        if wrong is not None:
            raise BadArgument(f"{self.path}: {wrong}. Choose another name.")
        self.folder = _beside(self._target, PARTIAL)
        self.work_path = self.folder / self._target.name
        self._mutex = forking.lock()
        self._pid = os.getpid()
        self._committed = False
        self._fd: int | None = None
        with _reported(self.path, "cannot be written"):
            self._check_target()
            _check_parent(self._target.parent, self.path)
            self._fd = _take_lock(self.folder, self.path)
            try:
                self._restore_old()
                self._check_target()
                clear(self.folder, LOCK)
                if _names_in(self.folder):
                    raise WriteFailed(
                        f"{self.path}: the remains of an earlier writer in {self.folder} cannot be "
                        "removed. Close the programs that have them open, or remove that folder."
                    )
            except BaseException:
                self._drop_folder()
                raise

    def commit(self) -> None:
        """Put the finished work under the target's name, in one step.

        Other files the format made beside ``work_path`` go along; the main one is moved last.

        Raises
        ------
        TargetExists
            Somebody else made the target meanwhile, and ``overwrite`` was not given. The finished
            work is kept; the message says where.
        WriteFailed
            The disk refused. What stood under the name still does.
        """
        self.check_owner()
        with self._mutex:
            if self._committed:
                return
            if self._fd is None:
                raise WriteFailed(f"{self.path}: this writer was discarded, or failed before.")
            names = self._flushed_names()
            self._place(names)
            self._committed = True
            try:
                if self._durable:
                    with _reported(self.path, "is in place, but may not survive a power loss"):
                        flush_folder(self._target.parent)
            finally:
                self._drop_folder()

    @property
    def owned(self) -> bool:
        """Whether this process made the target, and is not a forked copy of the one that did."""
        return os.getpid() == self._pid

    def check_owner(self) -> None:
        """Raise `WriteFailed` in a forked child, whose writes would collide with its parent's."""
        if not self.owned:
            raise WriteFailed(
                f"{self.path}: process {os.getpid()} is a forked copy of process {self._pid}, "
                "which owns this writer. Only the owner can write: hand it the pixels."
            )

    def discard(self) -> None:
        """Remove the unfinished work; nothing to do after `commit` or in a forked child."""
        if not self.owned:
            return
        with self._mutex:
            self._drop_folder()

    def _check_target(self) -> None:
        """Raise if what stands under the target's name may not be replaced."""
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
        """Names to move, the main one last, their bytes on disk if that was asked for."""
        try:
            with _reported(self.path, "cannot be finished"):
                names = [name for name in _names_in(self.folder) if not name.endswith(PARTIAL)]
                if self._target.name not in names:
                    raise WriteFailed(f"{self.path}: nothing was written, so nothing is finished.")
                names.remove(self._target.name)
                names.append(self._target.name)
                if self._durable:
                    flush_tree(self.folder)
                return names
        except BaseException:
            # After a failed flush nobody knows what the disk holds, so the work is not kept.
            self._drop_folder()
            raise

    def _place(self, names: Sequence[str]) -> None:
        """Move the work to its final names, or put everything back, keep the work, and raise."""
        try:
            for attempt in count():
                try:
                    self._move_in(names)
                    return
                except (FileExistsError, FileNotFoundError) as error:
                    # Between the look and the rename, somebody made or removed the target.
                    if isinstance(error, TargetExists) or attempt == 3:
                        raise
        except TargetExists as error:
            raise TargetExists(f"{error} {self._keep_work()}") from error
        except FileExistsError as error:
            raise TargetBusy(
                f"{self.path}: other programs keep writing under this name. {self._keep_work()}"
            ) from error
        except WriteFailed as error:
            raise WriteFailed(f"{error} {self._keep_work()}") from error
        except OSError as error:
            raise _failure(
                error, f"{self.path} cannot be put in place", self._keep_work()
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
                    f"{parent / name} was made by somebody else while {self.path} was written. "
                    "Pass overwrite=True (--overwrite) to replace such files."
                )
        if list(names) == taken == [self._target.name] and replace_at_once(
            self.work_path, self._target
        ):
            return
        self._move_through_parking(names, taken)

    def _move_through_parking(self, names: Sequence[str], taken: Sequence[str]) -> None:
        """Move old files out of the way, new ones in; undo all of it if any step fails.

        The old main file goes first and the new one comes last, so at no moment can the name be
        opened and give a mixture of both. Old data wait where no writer clears anything.
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
                    f"{self.path} cannot be put in place, and the old data cannot be put back: "
                    f"they are whole, in {parked}."
                ) from error
            raise
        if parked:
            if self._durable:
                flush_folder(parent)
            # Deleted from inside the private folder, so that no half-deleted store can ever be
            # taken for old data and put back.
            with contextlib.suppress(OSError):
                parked.rename(self.folder / OLD)

    def _restore_old(self) -> None:
        """Put back old data that a killed writer had parked, where its names are still free."""
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
        """Let go of finished work without deleting it, and say where it is."""
        if self._fd is None:
            return ""
        fd, self._fd = self._fd, None
        if sys.platform == "win32":
            _close_lock(fd)  # an open file there would hold the folder's name
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
            _close_lock(fd)
        until = "" if place != self.folder else ", until the next writer of that name clears it"
        return f"The finished image is whole, at {place / self._target.name}{until}."

    def _drop_folder(self) -> None:
        """Clear and remove the private folder and let go of the lock, as far as possible."""
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        try:
            clear(self.folder, LOCK)
            if sys.platform == "win32":
                _close_lock(fd)
            # The lock file is what makes the folder known as ours: it goes last.
            with contextlib.suppress(OSError):
                if not _names_in(self.folder):
                    (self.folder / LOCK).unlink()
                    self.folder.rmdir()
        finally:
            if sys.platform != "win32":
                _close_lock(fd)


def write_bytes_atomically(
    path: str | os.PathLike[str], data: bytes | bytearray | memoryview, durable: bool = False
) -> None:
    """Write a small file whole, or leave what stood there; an existing file is replaced.

    Made for metadata that several threads may write. The bytes grow under a hidden name ending in
    ``.bfbridge-partial`` in the same folder; only a kill leaves such a file behind.

    Raises
    ------
    WriteFailed
        The folder is missing or not writable, or the disk refused.
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
    """Return the path made absolute now, since the working directory may change later."""
    text = os.fsdecode(path)
    if "\0" in text:
        raise BadArgument(f"{text!r} is not a path: it has a NUL character.")
    named = Path(text).absolute()
    if not text or named.name in ("", ".."):
        raise BadArgument(f"{text!r} names no file to write: add a file name.")
    if named.name == LOCK or named.name.endswith((PARTIAL, OLD, KEPT)):
        raise BadArgument(
            f"{named}: names ending in {PARTIAL}, {OLD}, {KEPT} and {LOCK} are bfbridge's own for "
            "unfinished work. Choose another name."
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


def _names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.name != LOCK)


def _failure(error: OSError, what: str, more: str = "") -> WriteFailed:
    advice = ADVICE.get(error.errno or 0, "")
    reason = error.strerror or str(error)
    failure = WriteFailed(" ".join(part for part in (f"{what}: {reason}.", advice, more) if part))
    failure.errno = error.errno
    return failure


@contextlib.contextmanager
def _reported(path: Path, what: str) -> Iterator[None]:
    """Turn the system's errors into ours; ours pass as they are."""
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
    """Why what stands at `path` is never replaced; empty where it may be."""
    mode = os.lstat(path).st_mode
    if stat.S_ISREG(mode) or stat.S_ISLNK(mode):
        return ""
    if not stat.S_ISDIR(mode):
        return "this is a device, pipe or socket, not an image. Choose another name."
    names = {entry.name for entry in path.iterdir()}
    stray = min(names, default="") if ZARR_MARKS.isdisjoint(names) else stray_in(path)
    if not stray:
        return ""
    return (
        f"this is a folder that holds other things than a Zarr image ({stray}), so it is never "
        "replaced. Choose another name, or remove the folder yourself."
    )


_fork_guard = threading.Lock()
_held: set[int] = set()


def _forget_locks() -> None:
    """In a forked child: close the parent's locks, which the parent goes on holding.

    Else a child that outlives a killed parent would keep its target busy.
    """
    for fd in _held:
        with contextlib.suppress(OSError):
            os.close(fd)
    _held.clear()
    _fork_guard.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_fork_guard.acquire,
        after_in_parent=_fork_guard.release,
        after_in_child=_forget_locks,
    )


def _close_lock(fd: int) -> None:
    with _fork_guard:
        _held.discard(fd)
        os.close(fd)


def _take_lock(folder: Path, path: Path) -> int:
    """Make `folder`, or take over a dead writer's, and return the descriptor that holds it."""
    for _ in range(100):
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
        try:
            fd, created = _open_lock(folder, path)
        except FileNotFoundError:
            continue  # its owner finished just now
        try:
            if not lock_now(fd, created):
                raise TargetBusy(
                    f"{path} is being written by another writer{_owner(fd)}. Wait until that one "
                    f"is closed. If there is none, remove {folder}."
                )
            if _is_at(fd, folder / LOCK):
                _sign(fd)
                return fd
        except BaseException:
            _close_lock(fd)
            raise
        _close_lock(fd)
    raise TargetBusy(f"{path} is being written by many writers in turn. Wait until they are done.")


def _open_lock(folder: Path, path: Path) -> tuple[int, bool]:
    """Return a descriptor of the lock file and whether it was made here."""
    if not _is_ours(folder):
        raise WriteFailed(
            f"{path} cannot be written: {folder} is in the way, and was not made by bfbridge. "
            "Move or remove it."
        )
    flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    lock = folder / LOCK
    with _fork_guard:
        try:
            fd, created = os.open(lock, flags | os.O_CREAT | os.O_EXCL, 0o666), True
        except FileExistsError:
            fd, created = os.open(lock, flags), False
        _held.add(fd)
    return fd, created


def _is_ours(folder: Path) -> bool:
    """Whether a writer made the folder: it is no link, and has a lock or nothing in it."""
    if not stat.S_ISDIR(os.lstat(folder).st_mode):
        return False
    for _ in range(5):
        names = {entry.name for entry in folder.iterdir()}
        if not names or LOCK in names:
            return True
        time.sleep(0.01)  # the listing may have met a folder being made or removed
    return False


def _is_at(fd: int, path: Path) -> bool:
    """Whether the file locked is the one that stands there now, not one removed meanwhile."""
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False


def _sign(fd: int) -> None:
    """Note the owner, for the message that others get."""
    import platform

    with contextlib.suppress(OSError):
        os.ftruncate(fd, 0)
        os.lseek(fd, 0, os.SEEK_SET)
        write_all(fd, f"process {os.getpid()} on {platform.node()}\n".encode())


def _owner(fd: int) -> str:
    with contextlib.suppress(OSError):
        os.lseek(fd, 0, os.SEEK_SET)
        note = read_all(fd, 200).decode("utf-8", "replace").strip()
        return f" ({note})" if note.startswith("process ") else ""
    return ""
