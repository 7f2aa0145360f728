"""Names of the served files, and their locations, which are inside the served folders."""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from bfbridge.errors import BadArgument, FileMissing
from bfbridge.serve.replies import Refused
from bfbridge.storage.durable_io import ZARR_MARKS
from bfbridge.storage.source import Source, as_source
from bfbridge.storage.stamp import FileStamp

__all__ = ["MOST_ENTRIES", "Library", "Listing", "Located", "is_store", "not_found"]

_LONGEST: Final = 4096
MOST_ENTRIES: Final = 10_000
"""Largest number of entries of one listing."""
_NO_IMAGES: Final = frozenset((
    ".bak", ".bat", ".c", ".cfg", ".conf", ".cpp", ".css", ".csv", ".doc", ".docx", ".exe", ".h",
    ".htm", ".html", ".ini", ".ipynb", ".jar", ".java", ".js", ".json", ".lock", ".log", ".m",
    ".md", ".md5", ".mjs", ".odt", ".pdf", ".pkl", ".ppt", ".pptx", ".py", ".pyc", ".r", ".rst",
    ".rtf", ".sh", ".sha1", ".sha256", ".sql", ".sqlite", ".tar", ".tmp", ".toml", ".ts", ".txt",
    ".whl", ".xls", ".xlsx", ".yaml", ".yml",
))  # fmt: skip
"""Suffixes that listings omit. Files with these suffixes can still be opened by name."""

_DEVICE: Final = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


def not_found() -> Refused:
    """Return the refusal for names that are missing, forbidden, or not files."""
    return Refused(404, "not found")


@dataclass(frozen=True, slots=True)
class Located:
    """A file or URL that may be opened.

    Attributes
    ----------
    name
        The name in URLs.
    source
        The file or URL to open.
    stamp
        The present stamp of a local file; None for URLs and for names without a file (.fake).
    """

    name: str
    source: Source
    stamp: FileStamp | None


@dataclass(frozen=True, slots=True)
class Listing:
    """The content of a folder.

    Attributes
    ----------
    folder
        Its name; empty for the top folder.
    folders, images
        Sorted names.
    truncated
        Whether the folder has more entries than are listed.
    """

    folder: str
    folders: tuple[str, ...]
    images: tuple[str, ...]
    truncated: bool = False


class Library:
    """Folders, files and URLs under names.

    A single folder is the top folder. Of several sources, each has a name in the top folder: the
    last part of its path, with a number if two are equal. Names are resolved for each request; the
    resolved path, after all symbolic links, must be inside the folder.

    Parameters
    ----------
    sources
        Paths and URLs.
    storage_options
        Storage options for URLs.

    Raises
    ------
    FileMissing
        A path does not exist.
    BadArgument
        A URL names a folder or several files.
    """

    def __init__(
        self, sources: Sequence[str], storage_options: Mapping[str, Any] | None = None
    ) -> None:
        self._urls: dict[str, Source] = {}
        self._files: dict[str, str] = {}
        self._folders: dict[str, str] = {}
        self._root: str | None = None
        self._added: dict[str, str] = {}
        if len(sources) == 1 and "://" not in sources[0] and _is_folder(sources[0]):
            self._root = os.path.realpath(sources[0])
            return
        for source in sources:
            self._add(source, storage_options)

    def add(self, source: str) -> str:
        """Serve a further file, folder or URL, and return its name: always the same for a source.

        Raises
        ------
        FileMissing
            The path does not exist.
        BadArgument
            A URL names a folder or several files.
        """
        if source not in self._added:
            self._added[source] = self._add(source, None)
        return self._added[source]

    def _add(self, source: str, storage_options: Mapping[str, Any] | None) -> str:
        if "://" in source or "::" in source:
            if "*" in source or (source.endswith("/") and ".zarr" not in source.lower()):
                raise BadArgument(
                    f"{source}: a URL has to name one image; folders and globs at URLs are not "
                    "served."
                )
            name = self._free(posixpath.basename(urlsplit(source).path.rstrip("/")) or "image")
            self._urls[name] = as_source(source, storage_options)
            return name
        path = os.path.abspath(source)
        if not os.path.exists(path) and not path.lower().endswith(".fake"):
            raise FileMissing(f"{source}: no such file or folder.")
        name = self._free(os.path.basename(path) or "files")
        if _is_folder(path):
            self._folders[name] = os.path.realpath(path)
        else:
            self._files[name] = path
        return name

    def _free(self, name: str) -> str:
        taken = {*self._urls, *self._files, *self._folders}
        found, number = name, 2
        while found in taken:
            found, number = f"{name}-{number}", number + 1
        return found

    @property
    def waits(self) -> bool:
        """Whether reads mostly wait for servers."""
        return bool(self._urls)

    def locate(self, name: str) -> Located:
        """Return the location of a file.

        Parameters
        ----------
        name
            Parts joined by "/".

        Raises
        ------
        Refused
            404: the file does not exist, is not a regular file, is outside the folder or hidden,
            or the name is not valid.
        """
        if name in self._urls:
            return Located(name, self._urls[name], None)
        if name in self._files:
            return self._located(name, self._files[name])
        root, parts = self._inside(name)
        path = os.path.join(root, *parts)
        try:
            real = os.path.realpath(path, strict=True)
        except (OSError, ValueError):
            raise not_found() from None
        if not parts or not _is_within(real, root):
            raise not_found()
        return self._located(name, path)

    def _located(self, name: str, path: str) -> Located:
        try:
            status = os.stat(path)
        except FileNotFoundError:
            if path.lower().endswith(".fake"):
                return Located(name, as_source(path), None)
            raise not_found() from None
        except (OSError, ValueError):
            raise not_found() from None
        if stat.S_ISDIR(status.st_mode):
            if not is_store(path):
                raise not_found()
        elif not stat.S_ISREG(status.st_mode):
            raise not_found()
        return Located(name, as_source(path), FileStamp.of_status(status))

    def _inside(self, name: str) -> tuple[str, list[str]]:
        """Return the served folder of a name, and the parts of the name below it."""
        parts = _parts(name)
        if self._root is not None:
            return self._root, parts
        if parts and parts[0] in self._folders:
            return self._folders[parts[0]], parts[1:]
        raise not_found()

    def list(self, folder: str = "") -> Listing:
        """Return the content of a folder, without opening any file.

        Hidden files, and files with suffixes that no image has, are omitted.

        Raises
        ------
        Refused
            404: there is no such folder.
        """
        if not folder and self._root is None:
            names = sorted((*self._urls, *self._files))
            return Listing("", tuple(sorted(self._folders)), tuple(names))
        root, parts = self._inside(folder)
        path = os.path.join(root, *parts)
        folders: list[str] = []
        images: list[str] = []
        found = 0
        try:
            if not _is_within(os.path.realpath(path, strict=True), root):
                raise not_found()
            with os.scandir(path) as entries:
                for entry in entries:
                    kind = _kind(entry, root)
                    if kind is None:
                        continue
                    found += 1
                    if found > MOST_ENTRIES:
                        break
                    (folders if kind == "folder" else images).append(entry.name)
        except (OSError, ValueError):
            raise not_found() from None
        shown = "/".join(_parts(folder))
        return Listing(shown, tuple(sorted(folders)), tuple(sorted(images)), found > MOST_ENTRIES)

    def walk(self, folder: str = "", most: int = MOST_ENTRIES) -> Iterator[str]:
        """Yield names of images in a folder and those below it, at most `most`.

        Raises
        ------
        Refused
            404: there is no such folder.
        """
        waiting, count = [folder], 0
        visited: set[str] = set()
        while waiting:
            here = waiting.pop()
            listing = self.list(here)
            for name in listing.images:
                if count == most:
                    return
                count += 1
                yield f"{here}/{name}" if here else name
            for name in reversed(listing.folders):
                inner = f"{here}/{name}" if here else name
                root, parts = self._inside(inner)
                real = os.path.realpath(os.path.join(root, *parts))
                # A link to a parent folder would cause an endless loop.
                if real not in visited:
                    visited.add(real)
                    waiting.append(inner)


def _parts(name: str) -> list[str]:
    """Return the parts of a name; refuse hidden parts and parts that leave the folder."""
    if not name:
        return []
    parts = name.split("/")
    if len(name) > _LONGEST or not all(_is_part(part) for part in parts):
        raise not_found()
    return parts


def _is_part(part: str) -> bool:
    if not part or part.startswith(".") or "\\" in part or not part.isprintable():
        return False
    # Drives, alternate streams and devices of Windows, which also removes final dots and blanks.
    return os.name != "nt" or not (":" in part or part[-1] in ". " or _DEVICE.fullmatch(part))


def _is_within(path: str, root: str) -> bool:
    """Whether a path without symbolic links is inside a folder."""
    try:
        return os.path.commonpath((path, root)) == root
    except ValueError:
        return False


def _is_folder(path: str) -> bool:
    return os.path.isdir(path) and not is_store(path)


def is_store(path: str) -> bool:
    """Whether a folder is a Zarr store, and so one image."""
    return any(os.path.isfile(os.path.join(path, mark)) for mark in ZARR_MARKS)


def _kind(entry: os.DirEntry[str], root: str) -> str | None:
    """Return "folder" or "image", or None for entries that are not listed."""
    if not _is_part(entry.name):
        return None
    try:
        entry.name.encode()
        if entry.is_symlink() and not _is_within(os.path.realpath(entry.path, strict=True), root):
            return None
        if entry.is_dir():
            return "image" if is_store(entry.path) else "folder"
        if not entry.is_file():
            return None
    except (OSError, ValueError):
        return None
    suffix = os.path.splitext(entry.name)[1].lower()
    return None if suffix in _NO_IMAGES else "image"
