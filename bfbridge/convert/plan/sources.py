"""The sources of a batch: files, folders, globs and file patterns; each data set once."""

from __future__ import annotations

import errno
import glob
import itertools
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from bfbridge.convert import url_folders as remote
from bfbridge.convert.locations import (
    Identities,
    Place,
    Storage,
    check_working_folder,
    is_report,
    is_url,
)
from bfbridge.convert.options import ConvertOptions
from bfbridge.convert.plan.grouping import (
    AHEAD,
    Found,
    Opened,
    Scan,
    Skipped,
    group_files,
    opener_for,
)
from bfbridge.convert.plan.naming import base_name, suffix_of
from bfbridge.convert.reports.record import reason_of
from bfbridge.errors import BfbridgeError, FileMissing, UnreadableFile
from bfbridge.files.file_pattern import FilePattern, is_pattern
from bfbridge.runtime.systems import folded_name
from bfbridge.storage.durable_io import ZARR_MARKS
from bfbridge.storage.ownership import is_partial
from bfbridge.storage.source import as_source, path_or_url

__all__ = [
    "Found",
    "Opened",
    "Scan",
    "Skipped",
    "find_sources",
    "is_one_image",
    "name_targets",
    "same_names",
]

EVERYTHING = (".*", ".+")
MARKS = re.compile(r"(_[ctzs]\d+)+$")
Listed = tuple[Found, bool]
"""A file or folder, and whether it was found by searching rather than named."""


def is_one_image(source: str) -> bool:
    """Return whether a source names one image, not a folder of them, a glob or a pattern.

    No request is sent: a URL is a folder if it ends with a slash.
    """
    source = os.fspath(path_or_url(source))
    if is_url(source):
        return not remote.is_folder_name(source)
    if os.path.isfile(source):
        return True
    if os.path.isdir(source):
        return _is_store(Path(source))
    return not (glob.has_magic(source) or is_pattern(source))


def find_sources(
    sources: Sequence[str],
    options: ConvertOptions,
    *,
    pattern: str | None = None,
    recursive: bool = True,
    group: bool = True,
    skipped: Skipped | None = None,
    made: Collection[str] = (),
    scan: Scan | None = None,
    looked: Callable[[int, int], None] = lambda done, total: None,
    opener: Callable[[str], Opened] | None = None,
    each: Callable[[str], None] = lambda path: None,
    ahead: int = AHEAD,
) -> list[Found]:
    """List the sources of a conversion, in a fixed order.

    Parameters
    ----------
    sources
        Files, URLs, image folders (Zarr), folders to search, globs (``*``, ``**``), and file
        patterns, whose last part has variables in braces.
    options
        How sources are opened.
    pattern
        A file pattern that names in searched folders must match.
    recursive
        Whether folders inside searched folders are searched too.
    group
        Whether files are opened to see which belong together, so that each data set is
        converted once. Otherwise each file is converted on its own.
    skipped
        Receives the files of searched folders that belong to others, or are not images.
    made
        `identity` of files and folders that are results of conversions; searches skip them.
    scan
        Results of earlier searches; the results of this one are added.
    looked
        Called with (files opened, files in all); (0, 0) while folders are searched.
    opener
        Opens a file in place of a reader with `options`; called in several threads.
    each
        Called with the path that was opened for each data set, in the order of the sources.
    ahead
        Number of files that are opened at once.

    Returns
    -------
    list of Found
        Those that cannot be opened have an ``error``: of several sources, also those that do not
        exist or cannot be searched.

    Raises
    ------
    FileMissing, UnreadableFile
        The only source does not exist or cannot be searched, or its glob or pattern matches
        nothing.
    """
    skipped = Skipped() if skipped is None else skipped
    matcher = None if pattern is None else FilePattern(pattern)
    looked(0, 0)
    listed: list[Listed] = []
    same = Identities()
    for given in sources:
        source = given
        try:
            check_working_folder(given)
            source = os.fspath(path_or_url(given))
            named = is_one_image(source)
            expanded = _listed(source, options, matcher, recursive, made, skipped)
            listed += [
                pair for pair in expanded
                if named or pair[0].error is not None or same(pair[0].path) not in made
            ]  # fmt: skip
        except Exception as error:
            if len(sources) == 1:
                raise _as_ours(source, error) from error
            # The other sources are converted all the same.
            failure = _as_ours(source, error)
            listed.append((Found(source, "", str(failure), type(failure).__name__), False))
    if not group:
        unique = {found.path: found for found, _ in listed}
        return list(unique.values())
    return group_files(listed, opener or opener_for(options), skipped, scan, looked, each, ahead)


def _as_ours(source: str, error: Exception) -> BfbridgeError:
    """Return the error of a source that cannot be searched, for any exception."""
    if isinstance(error, BfbridgeError):
        return error
    return UnreadableFile(f"{source}: cannot be searched ({reason_of(error)}).")


def _listed(
    source: str,
    options: ConvertOptions,
    matcher: FilePattern | None,
    recursive: bool,
    made: Collection[str],
    skipped: Skipped,
) -> list[Listed]:
    if is_url(source):
        return list(_at_url(source, options.source_storage, matcher, recursive, made))
    return list(_expand(source, matcher, recursive, made, skipped))


def _expand(
    source: str,
    matcher: FilePattern | None,
    recursive: bool,
    made: Collection[str],
    skipped: Skipped,
) -> Iterator[Listed]:
    """Yield files and whether they were found by searching rather than named."""
    path = Path(source)
    if path.is_file() or (path.is_dir() and _is_store(path)):
        yield Found(str(path)), False
    elif path.is_dir():
        yield from _searched(path, matcher, recursive, source, made, skipped)
    elif is_pattern(path.name) or (matcher is None and is_pattern(source)):
        if not path.parent.is_dir():
            raise FileMissing(f"{path.parent}: no such folder, so the pattern matches nothing.")
        yield from _searched(path.parent, FilePattern(path.name), False, source, made, skipped)
    elif glob.has_magic(source):
        names = sorted(glob.glob(str(path), recursive=True))
        wanted = [n for n in names if not _is_hidden(n) and _is_candidate(Path(n))]
        if not wanted:
            raise FileMissing(f"{source}: nothing matches.")
        for name in wanted:
            yield Found(name), False
    elif path.suffix.lower() == ".fake":
        yield Found(str(path)), False
    else:
        raise FileMissing(_why_missing(str(path)) or f"{source}: no such file or folder.")


def _at_url(
    source: str,
    storage: Storage,
    matcher: FilePattern | None,
    recursive: bool,
    made: Collection[str],
) -> Iterator[Listed]:
    """Yield the files of a URL, and whether they were found by searching."""
    if not remote.is_folder_name(source):
        place = as_source(source, storage)
        if (
            "::" in source
            or not place.is_dir()
            or any(place.child(mark).exists() for mark in ZARR_MARKS)
        ):
            yield Found(source), False
            return
    if "*" in source:
        matches = remote.matching(source, storage)
        if not matches:
            raise FileMissing(f"{source}: nothing matches.")
        yield from ((Found(url), False) for url in matches)
    else:
        walked = remote.walk(source, storage, recursive, made)
        listed = [Found(path, relative) for path, relative in walked]
        yield from _chosen(listed, matcher, source, source)


def _is_candidate(path: Path) -> bool:
    return path.is_file() or _is_store(path)


def _is_hidden(path: str) -> bool:
    name = os.path.basename(path)
    # A synthetic image is made only for a name that the user gives.
    synthetic = os.path.splitext(name)[1].lower() == ".fake"
    return name.startswith(".") or synthetic or is_partial(path) or is_report(name)


def _is_store(path: Path) -> bool:
    # Not Path.is_file, which raises where a folder may not be looked into.
    return any(os.path.isfile(path / mark) for mark in ZARR_MARKS)


def _searched(
    folder: Path,
    matcher: FilePattern | None,
    recursive: bool,
    shown: str,
    made: Collection[str],
    skipped: Skipped,
) -> Iterator[Listed]:
    walked = list(_walk(folder, folder, recursive, made, skipped))
    return _chosen(walked, matcher, str(folder), shown)


def _chosen(
    found: list[Found], matcher: FilePattern | None, folder: str, shown: str
) -> Iterator[Listed]:
    """Yield those of the files in a folder that a pattern matches, and folders that failed."""
    failed = [one for one in found if one.error is not None and os.path.isdir(one.path)]
    found = [one for one in found if one not in failed]
    if matcher is not None:
        names = {one.path: os.path.basename(one.path) for one in found}
        order = {name: i for i, name in enumerate(matcher.select(set(names.values())))}
        found = [one for one in found if names[one.path] in order]
        found.sort(key=lambda one: (one.folder, order[names[one.path]]))
        if not found and not failed:
            raise FileMissing(
                f"{shown}: no file name in {folder} matches the pattern {matcher.pattern!r}."
            )
    if not found and not failed:
        raise FileMissing(f"{shown}: there are no files in this folder.")
    for one in found:
        yield one, matcher is None or matcher.pattern in EVERYTHING
    for one in failed:
        yield one, False


def _walk(
    folder: Path, root: Path, recursive: bool, avoided: Collection[str], skipped: Skipped
) -> Iterator[Found]:
    """Yield files and Zarr stores below a folder, by name, with their folder from the root.

    Links that lead nowhere, and folders that cannot be searched, are yielded with their error.
    """
    relative = "" if folder == root else folder.relative_to(root).as_posix()
    folders: list[Path] = []
    try:
        with os.scandir(folder) as listed:
            entries = sorted(listed, key=lambda entry: entry.name)
    except OSError as error:
        reason = f"{folder}: cannot be searched ({error.strerror})."
        if folder == root:
            raise UnreadableFile(reason) from error
        yield Found(str(folder), relative, reason, "UnreadableFile")
        return
    for entry in entries:
        if _is_hidden(entry.path):
            continue
        missing = _why_missing(entry.path) if entry.is_symlink() else None
        if missing is not None:
            yield Found(entry.path, relative, missing, "FileMissing")
        elif os.path.isfile(entry.path) or (
            os.path.isdir(entry.path) and _is_store(Path(entry.path))
        ):
            yield Found(entry.path, relative)
        elif os.path.isdir(entry.path):
            folders.append(Path(entry.path))
        else:
            skipped.reasons[entry.path] = "no image: this is a pipe, device or socket"
    if recursive:
        # A link to a parent folder would cause an endless loop.
        avoided = {*avoided, os.path.realpath(folder)}
        for inner in folders:
            if os.path.realpath(inner) not in avoided:
                yield from _walk(inner, root, recursive, avoided, skipped)


def _why_missing(path: str) -> str | None:
    """Return why a symbolic link has no target; None if it has one, or is not a link."""
    if not os.path.islink(path):
        return None
    try:
        os.stat(path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            return f"{path}: this symbolic link leads back to itself."
        if isinstance(error, FileNotFoundError):
            return f"{path}: this symbolic link leads to {os.readlink(path)}, which is not there."
        return f"{path}: this symbolic link cannot be followed ({error.strerror})."
    return None


def name_targets(
    found: Sequence[Found], folder: Place, suffix: str, split: Sequence[str] = ()
) -> list[Place]:
    """Name the new file of each source: its folder and base name, with the new suffix.

    Sources with the same name get the shortest names that differ: first by the
    folders in which they differ (``a/img.ome.tif``, ``b/img.ome.tif``), then by their whole names
    (``img.czi.ome.tif``), then by numbers. A source that has the new suffix already keeps its
    plain name.

    Parameters
    ----------
    found
        The sources.
    folder, suffix
        Where the new files go, and their suffix.
    split
        Axes along which sources are split into several files, whose names must not meet either.
    """
    names = [Path(f.folder, base_name(f.path)) for f in found]
    for group in _meeting(names, split):
        inner = _inner_folders([found[i] for i in group])
        if len(set(inner)) > 1:
            for number, deeper in zip(group, inner, strict=True):
                names[number] = deeper / names[number].name
    for group in _meeting(names, split):
        for number in group:
            last = _last(found[number].path)
            if suffix_of(last).lower() != suffix.lower():
                names[number] = names[number].with_name(last)
    for group in _meeting(names, split):
        for number in group[1:]:
            names[number] = _numbered(names[number], names)
    return [folder / name.with_name(name.name + suffix) for name in names]


def same_names(found: Sequence[Found]) -> dict[str, list[str]]:
    """Return the paths of sources that have the same folder and base name, by this name."""
    names: dict[str, list[Found]] = {}
    for one in found:
        name = Path(one.folder, base_name(one.path))
        names.setdefault(folded_name(str(name)), []).append(one)
    return {
        Path(group[0].folder, base_name(group[0].path)).as_posix(): [one.path for one in group]
        for group in names.values()
        if len(group) > 1
    }


def _numbered(name: Path, taken: Sequence[Path]) -> Path:
    used = {folded_name(str(path)) for path in taken}
    tries = (name.with_name(f"{name.name}-{count}") for count in itertools.count(2))
    return next(path for path in tries if folded_name(str(path)) not in used)


def _meeting(names: Sequence[Path], split: Sequence[str]) -> list[list[int]]:
    """Return the groups of names that are equal, or would be equal when sources are split."""
    folded = [folded_name(str(name)) for name in names]
    groups: dict[str, list[int]] = {}
    for number, name in enumerate(folded):
        plain = MARKS.sub("", name)
        groups.setdefault(plain if split and plain in folded else name, []).append(number)
    return [group for group in groups.values() if len(group) > 1]


def _inner_folders(found: Sequence[Found]) -> list[Path]:
    """Return the folders of sources, from the innermost one that they share."""
    folders = [_folders(f.path) for f in found]
    shared = 0
    for parts in zip(*folders, strict=False):
        if len(set(parts)) > 1:
            break
        shared += 1
    return [Path(*folder[shared:]) for folder in folders]


def _folders(path: str) -> list[str]:
    if is_url(path):
        return path.split("?", 1)[0].rstrip("/").split("/")[:-1]
    with suppress(OSError):  # there is no working directory any more
        path = os.path.abspath(path)
    return list(Path(path).parent.parts)


def _last(path: str) -> str:
    name = path.split("?", 1)[0].rstrip("/").replace("\\", "/").rsplit("/", 1)[-1]
    return name if suffix_of(name) else base_name(name)
