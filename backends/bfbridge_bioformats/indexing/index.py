"""The folder of the index, and the identity of its entries."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bfbridge.errors import WriteFailed
from bfbridge.runtime.systems import cache_folder
from bfbridge.storage.atomic import write_bytes_atomically
from bfbridge.storage.cache_folder import CacheFolder, is_private
from bfbridge_bioformats.indexing.dependencies import Dependencies, NotSettled
from bfbridge_bioformats.indexing.entry import MOST_BYTES, Entry, Facts, decode, encode
from bfbridge_bioformats.jars.locate import find_jar

if TYPE_CHECKING:
    from bfbridge.backend import OpenOptions

__all__ = ["Index", "identity_of", "index_at"]

log = logging.getLogger("bfbridge")

LARGEST_FOLDER: Final = 256 << 20
"""Bytes of all entries; the least recently used ones are removed."""
SUFFIX: Final = ".index"
_FORMAT: Final = 1
"""Part of the identity; change it with the content of entries."""
_OWN_FOLDER: Final = "bfbridge-index"
_HANDLES = Path(__file__).parents[1] / "runtime" / "handles" / "handles.jar"

_warned: set[Path] = set()


def index_at(place: bool | str) -> Index:
    """Return the index in the user's cache folder (True), or in a folder of its own in `place`."""
    # Entries are removed when the folder is full: it must contain nothing else.
    folder = Path(place) / _OWN_FOLDER if isinstance(place, str) else cache_folder() / "index"
    return Index(CacheFolder(folder, LARGEST_FOLDER, SUFFIX))


def identity_of(path: Path, options: OpenOptions) -> Sequence[Any]:
    """Return what decides, with the content of files, what Bio-Formats says of a file.

    Raises
    ------
    JarNotFound
        There is no Bio-Formats.
    """
    parts: list[Any] = [
        _FORMAT,
        hashlib.sha256(_HANDLES.read_bytes()).hexdigest(),
        os.path.abspath(path),
        options.group_files,
        options.allow_outside,
        options.thumbnails,
        repr(sorted(options.backend_options.items())),
        repr(options.limits),
    ]
    for jar in find_jar().paths:
        status = jar.stat()
        parts += [str(jar), status.st_size, status.st_mtime_ns]
    return parts


class Index:
    """Entries of files, in a folder that only this user may read. Thread-safe.

    Failures of the file system are logged once for each folder: everything works without an index.

    Parameters
    ----------
    cache
        The folder.
    """

    def __init__(self, cache: CacheFolder) -> None:
        self.cache = cache

    def load(self, identity: Sequence[Any]) -> Entry | None:
        """Return the entry of an identity, or None if there is none, or it cannot be trusted.

        Only a file of this user, in a folder in which only this user may write, is read.
        """
        path = self._path(identity)
        if not os.path.exists(path):
            return None
        if not is_private(self.cache.folder):
            self._warn("other users may write to it")
            return None
        try:
            data = _read(path)
        except OSError as error:
            self._warn(str(error))
            return None
        entry = None if data is None else decode(data)
        # The file of another entry may have been renamed.
        if entry is None or list(entry.identity) != list(identity):
            log.debug("%s: not a valid entry of the index", path)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return entry

    def save(self, identity: Sequence[Any], path: Path, facts: Facts, begun_ns: int) -> str:
        """Store an entry, unless files change; return what was done, as a clause for users.

        Parameters
        ----------
        identity, facts
            The content.
        path
            The main file.
        begun_ns
            When opening the file began, in nanoseconds since 1970.
        """
        try:
            main = os.path.abspath(path)
            # Some readers name files without their folder.
            files = [os.path.join(os.path.dirname(main), name) for name in (main, *facts.used)]
            folders = dict.fromkeys(os.path.dirname(name) for name in files)
            names = [*files, *folders, *facts.looked_up]
            state = Dependencies.of(names, facts.tree, begun_ns)
        except NotSettled as error:
            return f"not added, because {error} was modified less than a minute before"
        data = encode(Entry(identity, facts, state))
        if data is None:
            return "not added, because the metadata is too long, or is not text"
        target = self._path(identity)
        try:
            self.cache.make()
            if not is_private(self.cache.folder):
                raise WriteFailed("other users may write to it")
            if not self.cache.make_room(len(data), target):
                return "not added, because the index is full"
            write_bytes_atomically(target, data)
        except (OSError, WriteFailed) as error:
            self._warn(str(error))
            return "not added, because its folder cannot be used"
        return "added for the next opening"

    def remove(self, identity: Sequence[Any]) -> None:
        """Remove an entry."""
        with contextlib.suppress(OSError):
            self._path(identity).unlink()

    def _path(self, identity: Sequence[Any]) -> Path:
        text = json.dumps(list(identity)).encode("utf-8", "surrogatepass")
        return self.cache.folder / (hashlib.sha256(text).hexdigest()[:32] + SUFFIX)

    def _warn(self, why: str) -> None:
        if self.cache.folder not in _warned:
            _warned.add(self.cache.folder)
            log.warning("the index in %s is not used: %s", self.cache.folder, why)


def _read(path: Path) -> bytes | None:
    """Return the content of a file of this user, or None for links, other files and long ones."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    fd = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(file.fileno())
        own = not hasattr(os, "geteuid") or status.st_uid == os.geteuid()
        return file.read() if own and status.st_size <= MOST_BYTES else None
