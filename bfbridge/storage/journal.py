"""Changes of a finished store that are made in full or not at all.

A store of many files cannot be replaced by one rename without being copied whole. A change is
therefore written aside first, in a folder of the store::

    cells.ome.zarr/
        0/c/0/0/0/0/0                       as it was, until the change is committed
        .bfbridge-journal/
            new/0/c/0/0/0/0/0               what it will be
            commit.json                     the change is complete: what to remove, what comes last

Until ``commit.json`` is there, the store is as it was, and whoever opens it next for writing drops
what lies in ``new``. From then on the change counts: its files are moved to their places, which can
be done again and again, by the next writer if this one is killed. Meanwhile bfbridge reads the new
files where they are, so its readers see the whole change; other programs may see a part of it.

This holds for kills, crashes and full disks. After a power loss the file system decides which of
these steps it remembers, as nothing is flushed.
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
    """A change of a store that was begun and not ended.

    Attributes
    ----------
    path
        Of the store.
    committed
        Whether the change is complete in the journal. If not, the store is as it was.
    """

    path: str
    committed: bool

    def __str__(self) -> str:
        what = (
            "is complete in its journal, but not yet in place: bfbridge reads it, other programs "
            "may see old and new pixels side by side"
            if self.committed
            else "was not completed: the store is as it was before"
        )
        return (
            f"{self.path}: a change of this store was interrupted, or is under way. It {what}. "
            f"bfbridge.recover({self.path!r}) "
            f"{'finishes it' if self.committed else 'removes what is left of it'}."
        )

    @property
    def ended(self) -> str:
        """What is said once it was put in order."""
        what = "was finished" if self.committed else "was dropped: the store is as it was before"
        return f"{self.path}: a change of this store that had been interrupted {what}."


@dataclass(frozen=True, slots=True)
class Pending:
    """What readers need to know of a change that is committed and not yet in place.

    Attributes
    ----------
    folder
        Where its new files are, by the same keys as in the store.
    removed
        Keys that the change removes.
    """

    folder: str
    removed: frozenset[str]


def find_interrupted(path: str | os.PathLike[str]) -> Interrupted | None:
    """Return what is known of a change in a store that was begun and not ended, if there is one.

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
    """A change of one store. One at a time; the caller keeps other writers away.

    Parameters
    ----------
    root
        The store. A change that was left there is finished, or dropped if it was not committed.

    Raises
    ------
    UnreadableFile
        What was left is damaged.
    WriteFailed
        It cannot be finished or dropped.

    Attributes
    ----------
    folder
        Where files are written: under the keys that they will have in the store.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = Path(root)
        self._journal = self._root / FOLDER
        self.folder = self._root / NEW
        with self._reported("a change that was interrupted cannot be put in order"):
            self._settle()

    def commit(self, removed: Sequence[str], last: Sequence[str]) -> None:
        """Make the change part of the store.

        Parameters
        ----------
        removed
            Keys to remove.
        last
            Keys to put in place after all others, in this order.

        Raises
        ------
        WriteFailed
            The disk refuses. The store is as it was, or the message says that the next writer
            will finish the change.
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
        """Drop the change, unless it is committed."""
        if not (self._root / COMMIT).exists():
            shutil.rmtree(self._journal, ignore_errors=True)

    def _settle(self) -> None:
        """Put a committed change in place, or drop one that is not; doing it twice does no harm."""
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
            # From here on there is nothing to be done again.
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
        """Return where a key's file is in the store.

        Raises
        ------
        UnreadableFile
            It is outside the store: the key, which a damaged journal may name, or a link leads
            there.
        """
        parts = key.split("/")
        path = self._root.joinpath(*parts)
        root, folder = os.path.realpath(self._root), os.path.realpath(path.parent)
        inside = folder == root or folder.startswith(root.rstrip(os.sep) + os.sep)
        if not inside or {"", ".", "..", FOLDER} & set(parts) or "\\" in key or "\0" in key:
            raise UnreadableFile(
                f"{self._root}: a change of the file {key!r} leads out of the store. Stores that "
                "are changed in place have all their files in their own folder."
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
    """Return what a commit says, or None where there is none."""
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UnreadableFile(f"{path}: cannot be read ({error.strerror or error}).") from error
    return parse_record(data, os.fspath(path))


def parse_record(data: bytes, where: str) -> dict[str, list[str]]:
    """Return what a commit says: the keys "removed", and those put in place "last".

    Raises
    ------
    UnreadableFile
        It is damaged, or of another version of bfbridge.
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
            f"{where}: the record of a change cannot be read ({error}), so it is not known which "
            "files of the store are current. Restore the store from a copy."
        ) from error
    return {"removed": removed, "last": last}
