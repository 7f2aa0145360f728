"""A quick check for entry points, without importing ``importlib.metadata``, which is slow."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import lru_cache
from importlib.machinery import PathFinder

__all__ = ["held_search_path", "may_have", "search_path"]

_FOLDERS = (".dist-info", ".egg-info")


_held: ContextVar[tuple[tuple[str, int], ...] | None] = ContextVar(
    "bfbridge_held_search_path", default=None
)


def search_path() -> tuple[tuple[str, int], ...]:
    """Return the folders of ``sys.path`` and when each changed last, by an installation for one."""
    held = _held.get()
    if held is not None:
        return held
    found = []
    for folder in sys.path:
        try:
            changed = os.stat(folder or ".").st_mtime_ns
        except OSError:
            changed = 0
        found.append((folder, changed))
    return tuple(found)


@contextmanager
def held_search_path() -> Iterator[None]:
    """Look at the folders once for this block: what is installed meanwhile is not used in it.

    Otherwise every file that is opened or written looks at all of them.
    """
    token = _held.set(search_path())
    try:
        yield
    finally:
        _held.reset(token)


@lru_cache(maxsize=1)
def may_have(group: str, path: tuple[tuple[str, int], ...]) -> bool:
    """Return whether an installed distribution may have entry points of a group.

    `path` are the folders of ``sys.path`` with the time of their last change; the result is kept
    while they are the same. The files ``entry_points.txt`` in them are searched for the name.
    True if distributions may also be elsewhere: in archives, eggs, or those of other finders.
    """
    for finder in sys.meta_path:
        if finder is not PathFinder and hasattr(finder, "find_distributions"):
            return True
    wanted = group.encode()
    return any(_mentions(folder or ".", wanted) for folder, _ in path)


def _mentions(folder: str, wanted: bytes) -> bool:
    """Whether a folder of ``sys.path`` contains a distribution with this text in its file."""
    if folder.endswith(".egg") or os.path.isfile(folder):
        return True
    with suppress(OSError):
        for name in os.listdir(folder):
            if name.endswith(".egg"):
                return True
            if not name.endswith(_FOLDERS):
                continue
            with (
                suppress(OSError),
                open(os.path.join(folder, name, "entry_points.txt"), "rb") as file,
            ):
                if wanted in file.read():
                    return True
    return False
