"""What a batch converts: files, folders, globs and file patterns; each data set once."""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bfbridge.atomic import is_partial
from bfbridge.convert import remote
from bfbridge.convert.naming import base_name, suffix_of
from bfbridge.convert.places import Place, Storage, identity, is_report, is_url
from bfbridge.convert.request import Request
from bfbridge.errors import (
    BadArgument,
    BfbridgeError,
    FileMissing,
    JarNotFound,
    JavaNotFound,
    MissingExtra,
    UnreadableFile,
)
from bfbridge.filepattern import FilePattern, is_pattern
from bfbridge.filesystem import ZARR_MARKS
from bfbridge.source import as_source

__all__ = ["Found", "Skipped", "find_sources", "is_one_image", "name_targets"]

EVERYTHING = (".*", ".+")
MARKS = re.compile(r"(_[ctzs]\d+)+$")
NATIVE = frozenset({".tif", ".tiff", ".tf2", ".tf8", ".btf", ".zarr", ".svs", ".ome"})
NOT_ONLY_IMAGES = frozenset(
    (  # noqa: SIM905 - read as a line of text
        ".txt .csv .tsv .xml .json .log .ini .cfg .htm .html .pdf .inf .db .dat .md .yaml .yml "
        ".xlsx .xls .zip .avi .mov .wav .env .nfo .par .pst .res .lab .labels .properties .script "
        ".top .map .lut .rec .raw .bin .hdr .ps .eps .mdb .exp .mod .pattern .v .cif .spc .ali"
    ).split()
)
"""Suffixes that also belong to other things; such a file in a folder may be no image at all."""


@dataclass(frozen=True)
class Found:
    """One source.

    Attributes
    ----------
    path
        What is opened: the main file of its data set.
    folder
        Folder relative to the one searched, which the new file keeps; "" for files named.
    error, error_type
        Why it cannot be opened, if that is known already.
    """

    path: str
    folder: str = ""
    error: str | None = None
    error_type: str | None = None


@dataclass
class Skipped:
    """Files of searched folders that are not converted, with the reason."""

    reasons: dict[str, str] = field(default_factory=dict)


def is_one_image(source: str) -> bool:
    """Tell whether a source names one image, not a folder of them, a glob or a pattern.

    No server is asked: a URL is a folder if it ends with a slash.
    """
    if is_url(source):
        return not remote.is_folder_name(source)
    if os.path.isfile(source):
        return True
    if os.path.isdir(source):
        return _is_store(Path(source))
    return not (glob.has_magic(source) or is_pattern(source))


def find_sources(
    sources: Sequence[str],
    request: Request,
    *,
    pattern: str | None = None,
    recursive: bool = True,
    group: bool = True,
    skipped: Skipped | None = None,
    made: Collection[str] = (),
    opener: Callable[[str], Sequence[str]] | None = None,
) -> list[Found]:
    """List what there is to convert, in a fixed order.

    Parameters
    ----------
    sources
        Files, URLs, image folders (Zarr), folders to search, globs (``*``, ``**``), and file
        patterns, whose last part has variables in braces.
    request
        How sources are opened.
    pattern
        A file pattern that names in searched folders must match.
    recursive
        Whether folders inside searched folders are searched too.
    group
        Whether files are opened to see which belong together, so that each data set is
        converted once. Without it every file stands for itself.
    skipped
        Gets the files of searched folders that belong to others, or are no images.
    made
        `identity` of files and folders that are results of conversions: searches pass them by.
    opener
        Returns the files of a data set, for tests.

    Raises
    ------
    FileMissing
        A source does not exist, or a glob or pattern matches nothing.
    """
    skipped = Skipped() if skipped is None else skipped
    matcher = None if pattern is None else FilePattern(pattern)
    listed: list[tuple[Found, bool]] = []
    for source in sources:
        if is_url(source):
            expanded = _at_url(source, request.source_storage, matcher, recursive, made)
        else:
            expanded = _expand(source, matcher, recursive, made)
        named = is_one_image(source)
        listed.extend(pair for pair in expanded if named or identity(pair[0].path) not in made)
    if not group:
        unique = {found.path: found for found, _ in listed}
        return list(unique.values())
    return _grouped(listed, opener or _opener(request), skipped)


def _expand(
    source: str, matcher: FilePattern | None, recursive: bool, made: Collection[str]
) -> Iterator[tuple[Found, bool]]:
    """Yield files and whether they were found by searching rather than named."""
    path = Path(source).expanduser()
    if path.is_file() or (path.is_dir() and _is_store(path)):
        yield Found(str(path)), False
    elif path.is_dir():
        yield from _searched(path, matcher, recursive, source, made)
    elif is_pattern(path.name) or (matcher is None and is_pattern(source)):
        if not path.parent.is_dir():
            raise FileMissing(f"{path.parent}: no such folder, so the pattern matches nothing.")
        yield from _searched(path.parent, FilePattern(path.name), False, source, made)
    elif glob.has_magic(source):
        names = sorted(glob.glob(str(path), recursive=True))
        wanted = [n for n in names if not _is_hidden(Path(n)) and _is_candidate(Path(n))]
        if not wanted:
            raise FileMissing(f"{source}: nothing matches.")
        for name in wanted:
            yield Found(name), False
    elif path.suffix.lower() == ".fake":
        yield Found(str(path)), False
    else:
        raise FileMissing(f"{source}: no such file or folder.")


def _at_url(
    source: str,
    storage: Storage,
    matcher: FilePattern | None,
    recursive: bool,
    made: Collection[str],
) -> Iterator[tuple[Found, bool]]:
    """Yield what a URL stands for, and whether it was found by searching rather than named."""
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
        listed = list(remote.walk(source, storage, recursive, made))
        yield from _chosen(listed, matcher, source, source)


def _is_candidate(path: Path) -> bool:
    return path.is_file() or _is_store(path)


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".") or is_partial(path) or is_report(path.name)


def _is_store(path: Path) -> bool:
    return any((path / mark).is_file() for mark in ZARR_MARKS)


def _searched(
    folder: Path,
    matcher: FilePattern | None,
    recursive: bool,
    shown: str,
    made: Collection[str],
) -> Iterator[tuple[Found, bool]]:
    walked = _walk(folder, folder, recursive, made)
    listed = [(str(path), relative) for path, relative in walked]
    return _chosen(listed, matcher, str(folder), shown)


def _chosen(
    found: list[tuple[str, str]], matcher: FilePattern | None, folder: str, shown: str
) -> Iterator[tuple[Found, bool]]:
    """Yield those of the files in a folder that a pattern matches."""
    if matcher is not None:
        names = {path: os.path.basename(path) for path, _ in found}
        order = {name: i for i, name in enumerate(matcher.select(set(names.values())))}
        found = [pair for pair in found if names[pair[0]] in order]
        found.sort(key=lambda pair: (pair[1], order[names[pair[0]]]))
        if not found:
            raise FileMissing(
                f"{shown}: no file name in {folder} matches the pattern {matcher.pattern!r}."
            )
    if not found:
        raise FileMissing(f"{shown}: there are no files in this folder.")
    for path, relative in found:
        yield Found(path, relative), matcher is None or matcher.pattern in EVERYTHING


def _walk(
    folder: Path, root: Path, recursive: bool, avoided: Collection[str]
) -> Iterator[tuple[Path, str]]:
    """Yield files and Zarr stores below a folder, by name, with their folder from the root."""
    relative = "" if folder == root else folder.relative_to(root).as_posix()
    folders: list[Path] = []
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise UnreadableFile(f"{folder}: cannot be searched ({error.strerror}).") from error
    for entry in entries:
        path = Path(entry.path)
        if _is_hidden(path):
            continue
        if entry.is_file():
            yield path, relative
        elif entry.is_dir():
            if _is_store(path):
                yield path, relative
            else:
                folders.append(path)
    if recursive:
        # A link to a folder above would be walked for ever.
        avoided = {*avoided, os.path.realpath(folder)}
        for inner in folders:
            if os.path.realpath(inner) not in avoided:
                yield from _walk(inner, root, recursive, avoided)


def _opener(request: Request) -> Callable[[str], Sequence[str]]:
    from bfbridge.reader import BioReader

    options = {"cache": 0, **request.reader_options}

    def used_files(path: str) -> Sequence[str]:
        with BioReader(path, max_workers=1, backend=request.backend, **options) as br:
            return br.used_files

    return used_files


def _grouped(
    listed: Sequence[tuple[Found, bool]],
    opener: Callable[[str], Sequence[str]],
    skipped: Skipped,
) -> list[Found]:
    chosen: list[Found] = []
    owner: dict[str, str] = {}
    named = {identity(found.path): found for found, _ in listed}
    taken: set[str] = set()
    for found, searched in listed:
        key = identity(found.path)
        if key in taken:
            continue
        if key in owner:
            skipped.reasons[found.path] = f"belongs to {owner[key]}"
            continue
        try:
            used = opener(found.path)
        except BfbridgeError as error:
            if searched and not _must_be_image(found.path, error):
                skipped.reasons[found.path] = f"no image: {error}"
            else:
                chosen.append(Found(found.path, found.folder, str(error), type(error).__name__))
                taken.add(key)
            continue
        main = found
        if used and identity(used[0]) in named and identity(used[0]) != key:
            main = named[identity(used[0])]
            skipped.reasons[found.path] = f"belongs to {main.path}"
        taken.update((key, identity(main.path)))
        chosen.append(main)
        owner.update({identity(path): main.path for path in used})
    return chosen


def _must_be_image(path: str, error: BfbridgeError) -> bool:
    """Whether a file that cannot be opened is a damaged image rather than none at all."""
    if isinstance(error, (MissingExtra, JavaNotFound, JarNotFound)):
        return True
    suffix = os.path.splitext(path)[1].lower()
    return suffix not in NOT_ONLY_IMAGES and suffix in _image_suffixes()


def _image_suffixes() -> frozenset[str]:
    from bfbridge.registry import find

    global _known
    if _known is None:
        known = set(NATIVE)
        try:
            for known_format in find("bioformats").load().formats():
                known.update(f".{suffix.lower()}" for suffix in known_format.suffixes)
        except BfbridgeError:
            return frozenset(known)
        _known = frozenset(known)
    return _known


_known: frozenset[str] | None = None


def name_targets(
    found: Sequence[Found], folder: Place, suffix: str, split: Sequence[str] = ()
) -> list[Place]:
    """Name the new file of each source: its folder and base name, with the new suffix.

    Sources that would get the same name are told apart by as little as it takes: first by the
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

    Raises
    ------
    BadArgument
        `suffix` does not begin with a dot.
    """
    if not suffix.startswith("."):
        raise BadArgument(f"suffix={suffix!r}: give a suffix such as .ome.tif or .ome.zarr.")
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


def _numbered(name: Path, taken: Sequence[Path]) -> Path:
    lowered = {str(path).lower() for path in taken}
    tries = (name.with_name(f"{name.name}-{count}") for count in itertools.count(2))
    return next(path for path in tries if str(path).lower() not in lowered)


def _meeting(names: Sequence[Path], split: Sequence[str]) -> list[list[int]]:
    """Return the groups of names that are the same, or would be when sources are split."""
    # Some file systems do not tell upper from lower case.
    lowered = [str(name).lower() for name in names]
    groups: dict[str, list[int]] = {}
    for number, name in enumerate(lowered):
        plain = MARKS.sub("", name)
        groups.setdefault(plain if split and plain in lowered else name, []).append(number)
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
    return list(Path(os.path.abspath(path)).parent.parts)


def _last(path: str) -> str:
    name = path.split("?", 1)[0].rstrip("/").replace("\\", "/").rsplit("/", 1)[-1]
    return name if suffix_of(name) else base_name(name)
