"""New files at URLs: the objects below a URL, and protection against a second writer.

An object store has no renames, so a new store cannot be made elsewhere and moved into place.
Instead, the order of writing makes it appear at once: chunks first, documents last, and the
document that makes it an image last of all. Before that it cannot be opened. While a writer is
active, an object called ``.bfbridge-partial`` marks the store as taken.

Time points are added to a finished store in the same order: their chunks are beyond the end of the
arrays and thus invisible, until the documents with the new sizes replace the old ones, each by a
single request. ``.bfbridge-journal/append.json`` marks the store meanwhile.
"""

from __future__ import annotations

import json
import os
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bfbridge.errors import (
    BfbridgeError,
    MissingExtra,
    ReadFailed,
    TargetBusy,
    TargetExists,
    WriteFailed,
)
from bfbridge.runtime import forking
from bfbridge.runtime.systems import process_is_gone, process_namespace
from bfbridge.storage.durable_io import SHARED_FOLDER, ZARR_MARKS, foreign_key
from bfbridge.storage.journal import FOLDER
from bfbridge.storage.ownership import OwnedTarget
from bfbridge.storage.remote.retries import retried

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bfbridge.storage.source import Source

__all__ = ["ExtendedTarget", "Objects", "UrlTarget"]

MARK = ".bfbridge-partial"
EXTENDED = f"{FOLDER}/append.json"
SHARED = f"{SHARED_FOLDER}/"


class Objects:
    """The objects below one URL, by their keys ("0/c/0/0"). Thread-safe.

    Parameters
    ----------
    source
        A source with a URL.
    """

    def __init__(self, source: Source) -> None:
        self.name = source.name.rstrip("/")
        self._fs, root = source.located()
        self._root = root.rstrip("/")

    def put(self, key: str, data: Any, *, new: bool = False) -> None:
        """Write an object; it appears completely or not at all.

        Raises
        ------
        WriteFailed
            The server refuses to write.
        FileExistsError
            The object exists and `new` is True, on servers that can check this in the same step.
        """
        view = bytes(data)
        try:
            if new:
                with suppress(NotImplementedError, TypeError):
                    self._fs.pipe_file(self._path(key), view, mode="create")
                    return
            retried(lambda: self._fs.pipe_file(self._path(key), view), self.label(key))
        except Exception as error:
            if new and _says_taken(error):
                raise FileExistsError(self.label(key)) from error
            raise self._write_failed(key, error) from error

    def put_file(self, path: str, key: str) -> None:
        """Write an object from a local file.

        Raises
        ------
        WriteFailed
            The server refuses to write.
        """
        try:
            retried(lambda: self._fs.put_file(path, self._path(key)), self.label(key))
        except Exception as error:
            raise self._write_failed(key, error) from error

    def get(self, key: str, start: int | None = None, stop: int | None = None) -> bytes | None:
        """Return an object, or its bytes from `start` to `stop`; None if there is none.

        Raises
        ------
        ReadFailed
            The object cannot be fetched.
        """
        try:
            data: bytes = retried(
                lambda: self._fs.cat_file(self._path(key), start=start, end=stop), self.label(key)
            )
        except (FileNotFoundError, KeyError):
            return None
        except Exception as error:
            raise ReadFailed(f"{self.label(key)}: cannot be read ({_why(error)}).") from error
        return data

    def keys(self, under: str = "") -> list[str]:
        """Return the keys of all objects whose keys begin with `under`, a folder or "".

        Raises
        ------
        WriteFailed
            The server refuses to list objects.
        """
        folder = f"{self._root}/{under}".rstrip("/")
        try:
            self._fs.invalidate_cache(folder)
            found = retried(lambda: self._fs.find(folder), self.name)
        except FileNotFoundError:
            return []
        except Exception as error:
            raise self._write_failed("", error) from error
        return sorted(path[len(self._root) :].lstrip("/") for path in found)

    def children(self, folder: str) -> list[str]:
        """Return the keys directly in a folder, and those of its folders, with few requests.

        Raises
        ------
        WriteFailed
            The server refuses to list objects.
        """
        path = self._path(folder)
        try:
            self._fs.invalidate_cache(path)
            found = retried(lambda: self._fs.ls(path, detail=False), self.label(folder))
        except FileNotFoundError:
            return []
        except Exception as error:
            raise self._write_failed(folder, error) from error
        return sorted(f"{folder}/{entry.rstrip('/').rsplit('/', 1)[-1]}" for entry in found)

    def remove(self, keys: Sequence[str]) -> None:
        """Remove objects; those that do not exist are ignored.

        Raises
        ------
        WriteFailed
            The server refuses to remove them.
        """
        paths = [self._path(key) for key in keys]
        if not paths:
            return
        try:
            if len(paths) > 1 and not any(sign in self._root for sign in "*?["):
                retried(lambda: self._fs.rm(paths), self.name)
                return
            # One by one if the name contains pattern characters, which would match other names too.
            for path in paths:
                with suppress(FileNotFoundError):
                    self._fs.rm_file(path)
        except Exception as error:
            raise self._write_failed("", error) from error

    def label(self, key: str) -> str:
        """Return the name of a key for messages."""
        return f"{self.name}/{key}" if key else self.name

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}" if key else self._root

    def _write_failed(self, key: str, error: Exception) -> BfbridgeError:
        if isinstance(error, ImportError):
            return MissingExtra(f"{self.name}: {error}.")
        return WriteFailed(f"{self.label(key)}: cannot be written ({_why(error)}).")


def _why(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _says_taken(error: Exception) -> bool:
    """Return whether an exclusive write failed because the object exists (S3: 412 or 409)."""
    if isinstance(error, FileExistsError):
        return True
    text = f"{error} {error.__cause__}"
    return "PreconditionFailed" in text or "ConditionalRequestConflict" in text


class UrlTarget(OwnedTarget):
    """A store being written at a URL; the counterpart of `AtomicTarget` for paths.

    Parameters
    ----------
    source
        A source with a URL.
    overwrite
        Whether an existing Zarr store may be replaced. It is removed when writing begins, its
        documents first: until `commit` nothing can be opened there.

    Attributes
    ----------
    path
        The URL, for messages.
    work_path
        Source of the URL, for the backend.
    folder
        Folder of this machine for unfinished chunks.
    occupied
        Whether there is a store that will be replaced.

    Raises
    ------
    TargetExists
        Objects exist below the URL and `overwrite` is False.
    TargetBusy
        A writer is active there, or left an unfinished store.
    WriteFailed
        The existing objects are not a Zarr store, or the server refuses.
    """

    path: str

    def __init__(self, source: Source, *, overwrite: bool = False) -> None:
        super().__init__()
        self.path = source.name
        self.work_path: Any = source
        self.folder = Path(tempfile.gettempdir())
        self._objects = Objects(source)
        self._mutex = forking.lock()
        self._begun = self._over = False
        self._refuse(self._objects.keys(), overwrite)
        self._take()

    def begin(self) -> None:
        """Remove the store that is replaced, documents first, so that no part of it opens."""
        self._begun = True
        if self.occupied:
            self._clear()

    def commit(self) -> None:
        """Finish: the store is complete and at its final place."""
        with self._mutex:
            if not self._over:
                self._over = True
                self._objects.remove([MARK])

    def discard(self) -> None:
        """Remove the written objects; does nothing after `commit` or in a forked child."""
        if not self.owned:
            return
        with self._mutex:
            if self._over:
                return
            self._over = True
            # Objects that the server does not remove remain below the mark, and never open.
            with suppress(WriteFailed):
                if self._begun:
                    self._clear()
                self._objects.remove([MARK])

    def _clear(self) -> None:
        keys = [key for key in self._objects.keys() if key != MARK]
        documents = [key for key in keys if key.rsplit("/", 1)[-1] in ZARR_MARKS]
        self._objects.remove(sorted(documents, key=lambda key: key.count("/")))
        self._objects.remove([key for key in keys if key not in set(documents)])

    def _refuse(self, keys: Sequence[str], overwrite: bool) -> None:
        if any(key.startswith(SHARED) for key in keys):
            raise TargetBusy(
                f"{self.path}: several processes are writing a store there, or left it unfinished. "
                "Finish it with BioWriter.finish, or remove all objects below this URL."
            )
        if MARK in keys and not _is_left_behind(self._objects, MARK):
            raise _busy_writing(self.path)
        if EXTENDED in keys and not _is_left_behind(self._objects, EXTENDED):
            raise _busy_extending(self.path)
        others = [key for key in keys if key != MARK]
        stored = any(key in ZARR_MARKS for key in others)
        # A dead writer leaves chunks without documents; they may be removed.
        self.occupied = bool(others)
        foreign = foreign_key(others) if stored else "".join(others[:1])
        if others and (foreign or not stored) and MARK not in keys:
            raise (WriteFailed if overwrite else TargetExists)(
                f"{self.path}: there are objects below this URL that do not belong to a Zarr store "
                f"({foreign}). Remove them, or choose another name."
            )
        if stored and not overwrite:
            raise TargetExists(
                f"{self.path} exists. Pass overwrite=True (--overwrite on the command line) to "
                "replace it, or choose another name."
            )
        if MARK in keys:
            self._objects.remove([MARK])

    def _take(self) -> None:
        try:
            _mark(self._objects, MARK)
        except FileExistsError as error:
            raise _busy_writing(self.path) from error


class ExtendedTarget(OwnedTarget):
    """A finished store at a URL that is extended, locked against other writers.

    Parameters
    ----------
    source
        A source with a URL.

    Attributes
    ----------
    path, work_path, folder
        As of `UrlTarget`.

    Raises
    ------
    TargetBusy
        Another writer is active there, or was killed on another machine.
    WriteFailed
        The server refuses.
    """

    path: str

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.path = source.name
        self.work_path: Any = source
        self.folder = Path(tempfile.gettempdir())
        self._objects = Objects(source)
        self._over = False
        if self._objects.get(MARK) is not None and not _is_left_behind(self._objects, MARK):
            raise _busy_writing(self.path)
        if self._objects.get(EXTENDED) is not None:
            # Not all servers can check this in the same step as the write below.
            if not _is_left_behind(self._objects, EXTENDED):
                raise _busy_extending(self.path)
            self._objects.remove([EXTENDED])
        try:
            _mark(self._objects, EXTENDED)
        except FileExistsError as error:
            raise _busy_extending(self.path) from error

    def commit(self) -> None:
        """Release the store."""
        self.discard()

    def discard(self) -> None:
        """Release the store; does nothing in a forked child."""
        if self.owned and not self._over:
            self._over = True
            with suppress(WriteFailed):
                self._objects.remove([EXTENDED])


def _mark(objects: Objects, key: str) -> None:
    """Create the object that excludes other writers; raise FileExistsError if there is one."""
    owner = {"machine": process_namespace(), "pid": os.getpid(), "writer": uuid.uuid4().hex}
    objects.put(key, json.dumps(owner).encode(), new=True)


def _is_left_behind(objects: Objects, key: str) -> bool:
    """Return whether a mark was made by a process of this machine that has ended."""
    try:
        owner = json.loads(objects.get(key) or b"{}")
        machine, pid = owner["machine"], int(owner["pid"])
    except (ValueError, KeyError, TypeError):
        return False
    if machine is None or machine != process_namespace():
        return False
    return process_is_gone(pid)


def _busy_writing(name: str) -> TargetBusy:
    return TargetBusy(
        f"{name}: another writer is active there, or was killed on another machine. If there is "
        f"none, remove all objects below this URL, {MARK} last."
    )


def _busy_extending(name: str) -> TargetBusy:
    return TargetBusy(
        f"{name}: another writer is adding time points there, or was killed on another machine. "
        f"The image is complete without them. If there is no such writer, remove the object "
        f"{EXTENDED}."
    )
