"""Which files at URLs belong to a file: those beside it, and in the folder of its data."""

from __future__ import annotations

import contextlib
import logging
import posixpath
from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import unquote

from bfbridge.errors import BfbridgeError, LimitExceeded, UnreadableFile
from bfbridge.storage.remote.url_chain import UrlChain
from bfbridge.storage.source import Source

__all__ = ["MOST_SIBLINGS", "remote_siblings"]

log = logging.getLogger("bfbridge")

MOST_SIBLINGS: Final = 1000
_MOST_IN_SET: Final = 20_000
# Companions by suffix, for servers that do not list.
_PARTNERS: Final = {
    ".ics": ".ids", ".ids": ".ics", ".hdr": ".img", ".img": ".hdr", ".nhdr": ".raw",
}  # fmt: skip
# Folders that hold the pixels: CellSensReader, FV1000Reader and SlideBook7Reader of Bio-Formats.
_FOLDERS: Final = {".vsi": "_{stem}_", ".oif": "{name}.files", ".sldy": "{stem}.dir"}
# Formats of several files with names that only a listing tells; without them Bio-Formats finds
# fewer images, and reports no error.
_SETS: Final = frozenset({
    *_FOLDERS, ".mlf", ".mrf", ".mes", ".wpi", ".htd", ".xdce", ".nd", ".stk", ".lei", ".afi",
    ".vms", ".mvd2", ".flex", ".xlef", ".c01",
})  # fmt: skip


def remote_siblings(source: Source, companions: Sequence[str]) -> Iterator[tuple[Source, str]]:
    """Return the files that Java may look for, with their names relative to the file's folder.

    Parameters
    ----------
    source
        Of a URL.
    companions
        Names that the file mentions.

    Raises
    ------
    UnreadableFile
        The format consists of several files, and the server does not list the folder.
    LimitExceeded
        The format consists of several files, and there are too many beside this one.
    """
    names = [name.replace("\\", "/") for name in companions]
    stem, suffix = posixpath.splitext(source.filename)
    is_set = suffix.lower() in _SETS
    on_web = UrlChain.of(source.url or "").link.startswith(("http://", "https://"))
    if on_web and not is_set:
        # Listing a web page is a guess, and may be large: only likely names are requested.
        partner = _PARTNERS.get(suffix.lower())
        if partner is not None:
            names.append(stem + partner)
        yield from _known(source, names)
        return
    try:
        found = _files_of(source, suffix, is_set=is_set)
    # fsspec's file systems raise errors of their own libraries.
    except Exception as error:
        log.debug("%s: its folder cannot be listed: %s", source.name, error)
        if is_set:
            raise UnreadableFile(
                f"{source.name}: {suffix} files belong to a set of files, and the server does not "
                f"list their folder ({error}). Download the folder, or use a server that lists."
            ) from error
        yield from _known(source, names)
        return
    if is_set and len(found) > _MOST_IN_SET:
        raise LimitExceeded(
            f"{source.name}: {suffix} files belong to a set of files, and there are {len(found)} "
            f"files beside it; at most {_MOST_IN_SET} are read from a URL. Download the folder."
        )
    for name in found if is_set else found[:MOST_SIBLINGS]:
        if name != source.filename:
            yield source.sibling(name), name


def _files_of(source: Source, suffix: str, *, is_set: bool) -> list[str]:
    """Return the files beside a file and those in the folder of its data, by listing."""
    entries = _entries(source, "")
    if is_set and source.filename not in entries:
        raise FileNotFoundError("the list does not contain the file itself")
    found = [name for name, is_folder in entries.items() if not is_folder]
    pattern = _FOLDERS.get(suffix.lower())
    if pattern is None:
        return found
    folder = pattern.format(stem=source.filename.removesuffix(suffix), name=source.filename)
    # A VSI may have all images in itself; `cellsens.check_all_stacks` finds out.
    if folder in entries or suffix.lower() != ".vsi":
        found += _below(source, folder)
    return [name for name in found if name != folder]


def _known(source: Source, names: Sequence[str]) -> Iterator[tuple[Source, str]]:
    """Files of these names, if there are any."""
    for name in dict.fromkeys(names):
        with contextlib.suppress(BfbridgeError):
            sibling = source.sibling(name)
            if sibling.exists():
                yield sibling, name


def _below(source: Source, folder: str) -> list[str]:
    """Names of all files below a folder."""
    found: list[str] = []
    waiting = [folder]
    while waiting and len(found) <= _MOST_IN_SET:
        inner = waiting.pop()
        for name, is_folder in _entries(source, inner).items():
            (waiting if is_folder else found).append(f"{inner}/{name}")
    return found


def _entries(source: Source, folder: str) -> dict[str, bool]:
    """Names in a folder relative to the file's, and whether each is a folder."""
    beside = source.sibling(f"{folder}/x" if folder else "x")
    filesystem, path = beside.located()
    above = posixpath.dirname(path.partition("?")[0])
    found: dict[str, bool] = {}
    entries: list[dict[str, Any]] = filesystem.ls(above + "/" * ("://" in above), detail=True)
    for entry in entries:
        whole = str(entry["name"]).partition("?")[0].partition("#")[0]
        is_folder = entry.get("type") == "directory" or whole.endswith("/")
        parent, _, name = whole.rstrip("/").rpartition("/")
        # Web pages link to other places as well.
        if name and parent.strip("/") == above.strip("/"):
            found[unquote(name) if "://" in above else name] = is_folder
    return found
