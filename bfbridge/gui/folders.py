"""The content of folders of this computer, for the list in which files are chosen."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from bfbridge.convert.locations import is_url
from bfbridge.convert.plan.grouping import NOT_ONLY_IMAGES
from bfbridge.errors import FileMissing, UnreadableFile
from bfbridge.serve.files.library import MOST_ENTRIES, is_store
from bfbridge.storage.signatures import IMAGE_SUFFIXES
from bfbridge.storage.source import path_or_url

__all__ = ["given_source", "is_folder", "list_folder", "places"]

_IMAGES: Final = frozenset(IMAGE_SUFFIXES)
_LONGEST_SUFFIX: Final = 2
"""Most parts of a suffix such as "ome.tif"."""
_WINDOWS_HIDDEN: Final = 2
"""FILE_ATTRIBUTE_HIDDEN."""


def given_source(text: str) -> str:
    """Return the absolute path, or the URL, that a user typed or pasted.

    Quotation marks around it, which Windows adds to copied paths, are dropped.

    Raises
    ------
    BadArgument
        It is empty, or cannot be a path.
    """
    text = text.strip()
    if len(text) > 2 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1]
    found = path_or_url(text)
    return os.path.abspath(found) if isinstance(found, Path) else found


def is_folder(source: str) -> bool:
    """Whether a source is a folder of files, rather than one image."""
    return not is_url(source) and os.path.isdir(source) and not is_store(source)


def list_folder(path: str, *, hidden: bool = False) -> dict[str, Any]:
    """Return the content of a folder. No file is opened.

    Parameters
    ----------
    path
        Absolute path of the folder.
    hidden
        Whether hidden files are listed.

    Returns
    -------
    dict
        ``path``; ``parent`` (None at the top); ``parts``: name and path of each folder above it and
        of itself; ``entries``: name, path, ``kind`` ("folder", "image" or "file"), ``label`` (what
        kind of file), size in bytes and time of the last change in milliseconds, None where
        unknown; ``truncated``: whether there are more than `MOST_ENTRIES`.

    Raises
    ------
    FileMissing
        There is no such folder.
    UnreadableFile
        It cannot be listed.
    """
    entries: list[dict[str, Any]] = []
    truncated = False
    try:
        with os.scandir(path) as found:
            for entry in found:
                record = _record(entry, hidden)
                if record is None:
                    continue
                if len(entries) == MOST_ENTRIES:
                    truncated = True
                    break
                entries.append(record)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileMissing(f"{path}: there is no such folder.") from error
    except OSError as error:
        raise UnreadableFile(f"{path}: cannot be listed ({error.strerror or error}).") from error
    here = Path(path)
    parts = [{"name": p.name or str(p), "path": str(p)} for p in (*reversed(here.parents), here)]
    return {
        "path": path,
        "parent": None if here.parent == here else str(here.parent),
        "parts": parts,
        "entries": sorted(entries, key=lambda e: (e["kind"] != "folder", e["name"].lower())),
        "truncated": truncated,
    }


def _record(entry: os.DirEntry[str], hidden: bool) -> dict[str, Any] | None:
    """Describe an entry; None if it is not listed."""
    name = entry.name
    try:
        # Names that are not Unicode cannot be part of a URL.
        name.encode()
        status = entry.stat()
    except (OSError, ValueError):
        return None
    if not hidden and (name.startswith(".") or _is_hidden_on_windows(status)):
        return None
    size: int | None = None
    suffix = _image_suffix(name)
    if stat.S_ISDIR(status.st_mode):
        store = is_store(entry.path)
        kind, label = ("image", (suffix or "store").upper()) if store else ("folder", "Folder")
    elif stat.S_ISREG(status.st_mode):
        size = status.st_size
        kind, label = ("file", "") if suffix is None else ("image", suffix.upper())
    else:
        return None
    modified = round(status.st_mtime * 1000)
    return {
        "name": name, "path": entry.path, "kind": kind, "label": label, "size": size,
        "modified": modified,
    }  # fmt: skip


def _image_suffix(name: str) -> str | None:
    """Return the suffix of an image, such as "ome.tif"; None for other files."""
    parts = name.lower().split(".")[1:]
    for count in range(min(_LONGEST_SUFFIX, len(parts)), 0, -1):
        suffix = ".".join(parts[-count:])
        if suffix in _IMAGES and f".{suffix}" not in NOT_ONLY_IMAGES:
            return suffix
    return None


def _is_hidden_on_windows(status: os.stat_result) -> bool:
    return bool(getattr(status, "st_file_attributes", 0) & _WINDOWS_HIDDEN)


def places(start: str) -> list[dict[str, str]]:
    """Return folders to begin with, name and path: home, the start, drives and mounted disks."""
    home = os.path.expanduser("~")
    found = {home: "Home"}
    for name in ("Desktop", "Documents", "Downloads"):
        found[os.path.join(home, name)] = name
    found.setdefault(start, os.path.basename(start) or start)
    found |= {path: path for path in _drives()}
    return [{"name": name, "path": path} for path, name in found.items() if os.path.isdir(path)]


def _drives() -> Iterator[str]:
    """Yield the tops of file systems, and the folders of removable and network disks."""
    if sys.platform == "win32":
        yield from (
            drive
            for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
            if os.path.exists(drive := f"{letter}:\\")
        )
        return
    yield "/"
    user = os.path.basename(os.path.expanduser("~"))
    for above in ("/Volumes", f"/media/{user}", f"/run/media/{user}"):
        try:
            yield from sorted(entry.path for entry in os.scandir(above) if entry.is_dir())
        except OSError:
            continue
