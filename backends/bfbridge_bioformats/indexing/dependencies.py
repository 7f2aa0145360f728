"""What the result of opening a file depends on: files, folders, and names without a file."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["SETTLED_NS", "Dependencies", "NotSettled"]

SETTLED_NS: Final = 60 * 10**9
"""Files that were modified this short a time before they were opened, or later, may have been
modified while they were read: their stamps then belong to another content. The time allows for the
coarse clocks of file systems, and for clocks of file servers that differ from this machine's."""


class NotSettled(Exception):
    """A file or folder was modified too recently; the message is its path."""


@dataclass(frozen=True)
class Dependencies:
    """The state of everything that Bio-Formats looked at while it opened a file.

    As in a build system that traces its inputs: the same state means the same result.

    Attributes
    ----------
    files
        Size and modification time in nanoseconds of files, by absolute path.
    folders
        By absolute path, whether all names in the folder count, and a digest of those that do: a
        name that was added may belong to the data set. Above the folders of the data set, hidden
        names and those of folders do not count: only some readers search there, for files, when
        the format is detected, and other data sets are often added there.
    missing
        Absolute paths that were looked up and do not exist.
    """

    files: Mapping[str, Sequence[int]]
    folders: Mapping[str, Sequence[Any]]
    missing: Sequence[str]

    @classmethod
    def of(cls, names: Iterable[str], tree: Sequence[str] | None, begun_ns: int) -> Dependencies:
        """Return the current state.

        Parameters
        ----------
        names
            Absolute paths; those of files and folders, and names that do not exist.
        tree
            Real paths of the folders that the files of the data set are in, at any depth; None for
            any folders.
        begun_ns
            When opening began, in nanoseconds since 1970.

        Raises
        ------
        NotSettled
            Something was modified while the file was opened, or shortly before.
        """
        files: dict[str, tuple[int, int]] = {}
        folders: dict[str, tuple[bool, str]] = {}
        missing: list[str] = []
        for name in dict.fromkeys(names):
            status = _status(name)
            if status is None:
                missing.append(name)
                continue
            is_folder = stat.S_ISDIR(status.st_mode)
            is_whole = not is_folder or _is_below(name, tree)
            if is_whole and status.st_mtime_ns > begun_ns - SETTLED_NS:
                raise NotSettled(name)
            if is_folder:
                folders[name] = (is_whole, _digest(name, is_whole))
            else:
                files[name] = (status.st_size, status.st_mtime_ns)
        # The digest of a folder of the data set shows when a name appears in it.
        whole = {name for name, (is_whole, _) in folders.items() if is_whole}
        left = [name for name in missing if os.path.dirname(name) not in whole]
        return cls(files, folders, left)

    def difference(self) -> str | None:
        """Return the first path whose state is another one now, or None."""
        for name, (size, modified_ns) in self.files.items():
            status = _status(name)
            if status is None or (status.st_size, status.st_mtime_ns) != (size, modified_ns):
                return name
        for name, (is_whole, digest) in self.folders.items():
            if _digest(name, is_whole) != digest:
                return name
        return next((name for name in self.missing if _status(name) is not None), None)


def _status(name: str) -> os.stat_result | None:
    """Return the status of what a name leads to, or None: names may be impossible, or too long."""
    try:
        return os.stat(name)
    except (OSError, ValueError):
        return None


def _is_below(folder: str, tree: Sequence[str] | None) -> bool:
    """Whether a folder is one of `tree`, or below one."""
    if tree is None:
        return True
    place = os.path.join(os.path.realpath(folder), "")
    return any(place.startswith(os.path.join(root, "")) for root in tree)


def _digest(folder: str, is_whole: bool) -> str:
    """Return a digest of the names in a folder that count; empty if it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(
                os.fsencode(entry.name)
                for entry in entries
                if is_whole or not (entry.name.startswith(".") or entry.is_dir())
            )
    except (OSError, ValueError):
        return ""
    return hashlib.sha256(b"\0".join(names)).hexdigest()
