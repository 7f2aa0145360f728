"""Changes of a finished store that are applied completely or not at all.

A store of many files cannot be replaced by one rename without copying all of it. A change is
therefore first written to a folder of the store::

    cells.ome.zarr/
        0/c/0/0/0/0/0                       unchanged until the change is committed
        .bfbridge-journal/
            new/0/c/0/0/0/0/0               the new content
            commit.json                     the change is complete: keys to remove, keys moved last

Before ``commit.json`` exists, the store is unchanged, and the next writer deletes ``new``. Once it
exists, the change is committed: its files are moved to their places. This step can be repeated, by
the next writer if this one is killed. Until it is done, bfbridge reads the new files from the
journal, so its readers see the whole change; other programs may see a part of it.

This holds for kills, crashes and full disks. Nothing is flushed, so after a power loss it depends
on the file system which of these steps are on disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bfbridge.errors import UnreadableFile, WriteFailed
from bfbridge.runtime.systems import replace

__all__ = [
    "COMMIT",
    "FOLDER",
    "NEW",
    "Interrupted",
    "Journal",
    "Pending",
    "find_interrupted",
    "parse_record",
    "pending_of",
]

FOLDER: Final = ".bfbridge-journal"
NEW: Final = f"{FOLDER}/new"
COMMIT: Final = f"{FOLDER}/commit.json"
"""Keys, in the store, of the folder of new files and of the record of a commit."""
_FORMAT: Final = 1
_LARGEST: Final = 512 << 20
_UNFINISHED: Final = ".partial"


@dataclass(frozen=True, slots=True)
class Interrupted:
    """A change of a store that was started and not finished.

    Attributes
    ----------
    path
        Path of the store.
    committed
        Whether the change is complete in the journal. If not, the store is unchanged.
    """

    path: str
    committed: bool

    def __str__(self) -> str:
        what = (
            "is complete in its journal, but not yet in place: bfbridge reads it, other programs "
            "may see a mixture of old and new pixels"
            if self.committed
            else "was not completed: the store is unchanged"
        )
        return (
            f"{self.path}: a change of this store was interrupted, or is in progress. It {what}. "
            f"bfbridge.recover({self.path!r}) "
            f"{'finishes it' if self.committed else 'removes what is left of it'}."
        )

    @property
    def ended(self) -> str:
        """Message after the change was finished or discarded."""
        what = "was finished" if self.committed else "was discarded: the store is unchanged"
        return f"{self.path}: an interrupted change of this store {what}."


@dataclass(frozen=True, slots=True)
class Pending:
    """A change that is committed and not yet in place, for readers.

    Attributes
    ----------
    folder
        Folder of its new files, under the same keys as in the store.
    removed
        Keys that the change removes.
    """

    folder: str
    removed: frozenset[str]


def find_interrupted(path: str | os.PathLike[str]) -> Interrupted | None:
    """Return the change of a store that was started and not finished, or None.

    A change that another process is making at this moment looks the same.
    """
    journal = os.path.join(os.fspath(path), FOLDER)
    if not os.path.isdir(journal):
        return None
    return Interrupted(os.fspath(path), os.path.isfile(os.path.join(os.fspath(path), COMMIT)))


def pending_of(root: str | os.PathLike[str]) -> Pending | None:
    """Return the change of a store that is committed and not yet in place, or None.

    Raises
    ------
    UnreadableFile
        Its record is damaged.
    """
    record = _read_record(Path(root, COMMIT))
    if record is None:
        return None
    return Pending(os.path.join(root, NEW), frozenset(record["removed"]))


class Journal:
    """A change of one store. One at a time; the caller excludes other writers.

    Parameters
    ----------
    root
        The store. A change left there is finished, or discarded if it was not committed.

    Raises
    ------
    UnreadableFile
        The journal that was left is damaged.
    WriteFailed
        The change cannot be finished or discarded.

    Attributes
    ----------
    folder
        Folder to write files to, under the keys that they will have in the store.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = Path(root)
        self._journal = self._root / FOLDER
        self.folder = self._root / NEW
        with self._reported("an interrupted change cannot be finished or discarded"):
            self._settle()

    def commit(self, removed: Sequence[str], last: Sequence[str]) -> None:
        """Apply the change to the store.

        Parameters
        ----------
        removed
            Keys to remove.
        last
            Keys to move after all others, in this order.

        Raises
        ------
        WriteFailed
            The file system refuses. Either the store is unchanged, or the message states that the
            next writer will finish the change.
        """
        record = {"format": _FORMAT, "removed": sorted(removed), "last": list(last)}
        if not removed and not self.folder.is_dir():
            return
        with self._reported("the change cannot be completed"):
            self._journal.mkdir(exist_ok=True)
            temporary = self._journal / f".commit{_UNFINISHED}"
            temporary.write_bytes(json.dumps(record).encode())
            temporary.replace(self._root / COMMIT)
        with self._reported(
            "the change is complete, but could not be put in place everywhere. It is not lost: "
            f"bfbridge.recover({os.fspath(self._root)!r}) finishes it"
        ):
            self._settle()

    def discard(self) -> None:
        """Discard the change, unless it is committed."""
        if not (self._root / COMMIT).exists():
            shutil.rmtree(self._journal, ignore_errors=True)

    def _settle(self) -> None:
        """Put a committed change in place, or discard another; can be repeated safely."""
        record = _read_record(self._root / COMMIT)
        if record is not None:
            keys = sorted(self._staged())
            last = [key for key in record["last"] if key in set(keys)]
            for key in (*(key for key in keys if key not in set(last)), *last):
                target = self.place(key)
                target.parent.mkdir(parents=True, exist_ok=True)
                replace(self.folder / key, target)
            for key in record["removed"]:
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    self.place(key).unlink()
            # The change is complete now: nothing has to be repeated after this line.
            (self._root / COMMIT).unlink()
        if self._journal.is_dir():
            shutil.rmtree(self._journal)

    def _staged(self) -> Iterator[str]:
        for folder, _, files in os.walk(self.folder):
            base = os.path.relpath(folder, self.folder).replace(os.sep, "/")
            for file in files:
                if not file.endswith(_UNFINISHED):
                    yield file if base == "." else f"{base}/{file}"

    def place(self, key: str) -> Path:
        """Return the path of a key's file in the store.

        Raises
        ------
        UnreadableFile
            It is outside the store, because of the key (in a damaged journal) or of a link.
        """
        parts = key.split("/")
        path = self._root.joinpath(*parts)
        root, folder = os.path.realpath(self._root), os.path.realpath(path.parent)
        inside = folder == root or folder.startswith(root.rstrip(os.sep) + os.sep)
        if not inside or {"", ".", "..", FOLDER} & set(parts) or "\\" in key or "\0" in key:
            raise UnreadableFile(
                f"{self._root}: a change of the file {key!r} leads out of the store. A store can "
                "be changed in place only if all its files are in its own folder."
            )
        return path

    @contextlib.contextmanager
    def _reported(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if isinstance(error, (WriteFailed, UnreadableFile)):
                raise
            failed = WriteFailed(f"{self._root}: {what} ({error.strerror or error}).")
            failed.errno = error.errno
            raise failed from error


def _read_record(path: Path) -> dict[str, list[str]] | None:
    """Return the record of a commit, or None if there is none."""
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UnreadableFile(f"{path}: cannot be read ({error.strerror or error}).") from error
    return parse_record(data, os.fspath(path))


def parse_record(data: bytes, where: str) -> dict[str, list[str]]:
    """Return the record of a commit: the keys "removed", and those moved "last".

    Raises
    ------
    UnreadableFile
        It is damaged, or was written by another version of bfbridge.
    """
    try:
        if len(data) > _LARGEST:
            raise ValueError("it is too long")
        record = json.loads(data)
        removed, last = record["removed"], record["last"]
        known = record["format"] == _FORMAT and isinstance(removed, list) and isinstance(last, list)
        if not known or not all(isinstance(key, str) for key in (*removed, *last)):
            raise ValueError("it is of another format")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnreadableFile(
            f"{where}: the record of a change cannot be read ({error}), so it is unknown which "
            "files of the store are current. Restore the store from a copy."
        ) from error
    return {"removed": removed, "last": last}
