"""Locations of sources and new files: paths, or URLs with the required subset of `Path`."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from bfbridge.errors import BfbridgeError, FileMissing
from bfbridge.storage.durable_io import ZARR_MARKS
from bfbridge.storage.source import as_source, path_or_url

if TYPE_CHECKING:
    from bfbridge.reader import BioReader

__all__ = [
    "Identities",
    "Place",
    "Storage",
    "Url",
    "anywhere",
    "check_working_folder",
    "exists",
    "files_of",
    "folders_of",
    "identity",
    "is_report",
    "is_url",
    "place_of",
    "stored_bytes",
]

Storage = Mapping[str, Any]


@dataclass(frozen=True)
class Url(os.PathLike[str]):
    """A URL as the place of a new file; `Path` would make one slash of two."""

    text: str

    def __str__(self) -> str:
        return self.text

    def __fspath__(self) -> str:
        return self.text

    @property
    def name(self) -> str:
        """Last part."""
        return self.text.rstrip("/").rsplit("/", 1)[-1]

    def with_name(self, name: str) -> Url:
        """Return the same place with another last part."""
        return Url(f"{self.text.rstrip('/').rpartition('/')[0]}/{name}")

    def __truediv__(self, inner: str | PurePath) -> Url:
        relative = inner if isinstance(inner, str) else inner.as_posix()
        return Url(f"{self.text.rstrip('/')}/{relative}")


Place = Path | Url


def anywhere(source: str | os.PathLike[str]) -> str:
    """Return a path that is valid in any working directory; a URL as it is."""
    name = os.fspath(path_or_url(source))
    return name if is_url(name) or not os.path.exists(name) else os.path.abspath(name)


def is_url(text: str) -> bool:
    """Tell a URL from a path, as `bfbridge.storage.source.as_source` does."""
    return "://" in text or "::" in text


def check_working_folder(path: str | os.PathLike[str]) -> None:
    """Raise `FileMissing` for a relative path in a process whose working directory is gone."""
    text = os.fspath(path)
    if is_url(text) or os.path.isabs(os.path.expanduser(text)):
        return
    try:
        os.getcwd()
    except OSError as error:
        raise FileMissing(
            f"{text}: the working directory of this process was removed, so that relative paths "
            "lead nowhere. Change to a folder that exists, or give absolute paths."
        ) from error


def is_report(name: str) -> bool:
    """Return whether a name is that of the report of a batch."""
    return re.fullmatch(r"bfbridge-report(\.part-\d+-of-\d+)?\.json(\.lines)?", name) is not None


def place_of(target: str | os.PathLike[str]) -> Place:
    """Return a path, also for a URL of a local file, or a URL."""
    place = path_or_url(target)
    return place if isinstance(place, Path) else Url(place)


def identity(text: str | os.PathLike[str]) -> str:
    """Return what two names of one file have in common."""
    place = place_of(text)
    return str(place).rstrip("/") if isinstance(place, Url) else os.path.realpath(place)


class Identities:
    """`identity` of many files: the links in the name of a folder are resolved once."""

    def __init__(self) -> None:
        self._folders: dict[str, str] = {}
        self._known: dict[str, str] = {}

    def __call__(self, text: str) -> str:
        """Return what the names of one file have in common."""
        known = self._known.get(text)
        if known is None:
            known = self._known[text] = self._resolved(text)
        return known

    def _resolved(self, text: str) -> str:
        if is_url(text):
            return identity(text)
        folder, name = os.path.split(path_or_url(text))
        if name in ("", ".", ".."):
            return identity(text)
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        found = os.path.join(self._folders[folder], name)
        return os.path.realpath(found) if os.path.islink(found) else found


def folders_of(identity: str) -> Iterator[str]:
    """Yield the folders that contain a file, the innermost first, as `identity` names them."""
    separator = "/" if is_url(identity) else os.sep
    while folder := identity.rpartition(separator)[0]:
        yield folder
        identity = folder


def files_of(br: BioReader, storage: Storage) -> Sequence[str]:
    """Return the files of a data set; of a store, the folder only.

    A store may have a million chunks, and to list them takes minutes on a network disk.

    Parameters
    ----------
    br, storage
        The open source, and the storage options of its URL.
    """
    name = br.source_name
    if not is_url(name):
        return [name] if os.path.isdir(name) else br.used_files
    # A server that does not answer here has the files that the reader knows.
    with suppress(BfbridgeError):
        if as_source(name, storage).is_dir():
            return [name]
    return br.used_files


def exists(place: Place, storage: Storage) -> bool:
    """Whether a path exists; at a URL, whether there is an image store."""
    if isinstance(place, Path):
        return os.path.lexists(place)
    source = as_source(place, storage)
    return any(source.child(mark).exists() for mark in ZARR_MARKS)


def stored_bytes(place: Place, storage: Storage) -> int:
    """Bytes of a file, or of all files in a folder.

    Raises
    ------
    ReadFailed
        The server of a URL does not report the size.
    """
    if isinstance(place, Url):
        source = as_source(place, storage)
        try:
            return int(source.filesystem().du(source.url))
        except BfbridgeError:
            raise
        except Exception as error:
            from bfbridge.errors import ReadFailed

            raise ReadFailed(f"{place}: its size cannot be determined ({error}).") from error
    status = os.stat(place)
    return _bytes_in(place) if stat.S_ISDIR(status.st_mode) else status.st_size


def _bytes_in(folder: str | os.PathLike[str]) -> int:
    """Bytes of all files below a folder; folders that cannot be listed have none."""
    found: list[os.DirEntry[str]] = []
    with suppress(OSError), os.scandir(folder) as entries:
        found.extend(entries)
    total = 0
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            total += _bytes_in(entry.path)
        elif not entry.is_dir():
            # Not that of the entry, which Windows does not update with the file.
            total += os.lstat(entry.path).st_size
    return total
