"""The files and image stores in folders and globs at URLs."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from bfbridge.convert.locations import Storage, is_report
from bfbridge.errors import BfbridgeError, FileMissing, UnreadableFile
from bfbridge.registry import is_folder_format
from bfbridge.storage.durable_io import ZARR_MARKS
from bfbridge.storage.remote.fsspec_paths import root_of
from bfbridge.storage.source import as_source

__all__ = ["is_folder_name", "listed", "matching", "walk"]


def is_folder_name(url: str) -> bool:
    """Whether a URL is a glob or a folder, by its name alone.

    No request is sent: the name of a folder ends with a slash. A question mark begins a
    query, and only ``*`` makes a glob. A chain ("zip://a.tif::s3://bucket/x.zip") is one file.
    """
    if "::" in url:
        return False
    return "*" in url or (url.endswith("/") and not is_folder_format(url))


def matching(url: str, storage: Storage) -> list[str]:
    """Return the files and Zarr stores that a glob matches, sorted.

    Raises
    ------
    UnreadableFile
        The server does not list.
    """
    there = as_source(url, storage).filesystem()
    try:
        found = there.glob(url, detail=True)
    except Exception as error:
        raise _cannot_list(url, error) from error
    protocol = url.split("://", 1)[0]
    named = {_named(protocol, path): info for path, info in found.items()}
    return sorted(
        name for name, info in named.items()
        if info["type"] == "file" or _marks(_listed(there, name))
    )  # fmt: skip


def walk(
    url: str, storage: Storage, recursive: bool, avoided: Collection[str] = ()
) -> Iterator[tuple[str, str]]:
    """Yield files and Zarr stores below a folder, by name, with their folder from the first.

    Excluded folders are skipped.

    Raises
    ------
    FileMissing
        There is no such folder.
    UnreadableFile
        The server does not list.
    """
    there = as_source(url, storage).filesystem()
    yield from _walk(there, url.rstrip("/"), "", recursive, avoided)


def _walk(
    there: Any, folder: str, relative: str, recursive: bool, avoided: Collection[str]
) -> Iterator[tuple[str, str]]:
    inner: list[str] = []
    for name, is_folder in sorted(_listed(there, folder).items()):
        path = f"{folder}/{name}"
        if name.startswith(".") or is_report(name) or path in avoided:
            continue
        if not is_folder or _marks(_listed(there, path)):
            yield path, relative
        else:
            inner.append(name)
    if recursive:
        for name in inner:
            deeper = f"{relative}/{name}".lstrip("/")
            yield from _walk(there, f"{folder}/{name}", deeper, recursive, avoided)


def listed(url: str, storage: Storage) -> list[str]:
    """Return the names in a folder.

    Raises
    ------
    FileMissing
        There is no such folder.
    UnreadableFile
        The server does not list.
    """
    return sorted(_listed(as_source(url, storage).filesystem(), url.rstrip("/")))


def _listed(there: Any, folder: str) -> dict[str, bool]:
    """Names in a folder, and whether each is a folder."""
    try:
        found = there.ls(folder, detail=True)
    except FileNotFoundError as error:
        raise FileMissing(f"{folder}: no such file or folder.") from error
    except Exception as error:
        raise _cannot_list(folder, error) from error
    names: dict[str, bool] = {}
    root = root_of(there, folder)
    for info in found:
        path = str(info["name"]).split("?", 1)[0].rstrip("/")
        # Some stores list the folder itself, as an object without bytes; web pages link elsewhere.
        if path.startswith(f"{root}/") and "/" not in path[len(root) + 1 :]:
            names[path[len(root) + 1 :]] = info["type"] == "directory"
    return names


def _marks(names: dict[str, bool]) -> bool:
    return not ZARR_MARKS.isdisjoint(names)


def _named(protocol: str, path: str) -> str:
    return path if "://" in path else f"{protocol}://{path.lstrip('/')}"


def _cannot_list(url: str, error: Exception) -> BfbridgeError:
    if isinstance(error, BfbridgeError):
        return error
    return UnreadableFile(f"{url}: cannot be listed ({type(error).__name__}: {error}).")
