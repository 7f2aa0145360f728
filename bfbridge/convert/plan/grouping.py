"""The search for data sets of several files: each file is opened to get the files of its data set.

The results are stored in the report, so that the next part or run of the batch does not open the
files again. A result is valid while the folder of a file has the same files with the same sizes and
times.
"""

from __future__ import annotations

import contextvars
import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import bfbridge
from bfbridge.convert.locations import Identities, is_url
from bfbridge.convert.options import ConvertOptions
from bfbridge.convert.plan.kept_readers import KeptReaders
from bfbridge.convert.reports.record import from_json, reason_of, stamp
from bfbridge.errors import (
    BfbridgeError,
    JarNotFound,
    JavaNotFound,
    MissingExtra,
    UnknownFormat,
)
from bfbridge.registry import BACKENDS
from bfbridge.storage.signatures import ZARR_KEYS

__all__ = ["AHEAD", "Found", "Opened", "Scan", "Skipped", "group_files", "opener_for"]

NATIVE = frozenset(
    {f".{suffix.rpartition('.')[2]}" for entry in BACKENDS for suffix in entry.suffixes}
    # Slides, and the companion files of OME-TIFF.
    | {".svs", ".ome"}
)
"""Suffixes of images that are read without Bio-Formats."""
NOT_ONLY_IMAGES = frozenset(
    (  # noqa: SIM905 - read as a line of text
        ".txt .csv .tsv .xml .json .log .ini .cfg .htm .html .pdf .inf .db .dat .md .yaml .yml "
        ".xlsx .xls .zip .avi .mov .wav .env .nfo .par .pst .res .lab .labels .properties .script "
        ".top .map .lut .rec .raw .bin .hdr .ps .eps .mdb .exp .mod .v .cif .spc .ali"
    ).split()
)
"""Suffixes that other kinds of files have too; such a file may not be an image."""
IMAGES_IF_BINARY = frozenset({".map", ".rec", ".ali", ".mov", ".avi"})
"""Suffixes of which binary files are images, even if no reader recognises the content."""
TEXT_LENGTH = 4096
AHEAD = 8
"""Files that a search opens at once while opening waits for storage."""
WAITING, WAITING_SECONDS = 4, 1e-3
"""Opening waits if it takes this many times the time of the processor, and this much longer."""


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
    pixel_bytes
        Bytes of decoded pixels at full size; 0 where that is not known.
    """

    path: str
    folder: str = ""
    error: str | None = None
    error_type: str | None = None
    pixel_bytes: int = 0


@dataclass
class Skipped:
    """Files of searched folders that are not converted, with the reason."""

    reasons: dict[str, str] = field(default_factory=dict)


@dataclass
class Opened:
    """The result of opening a file.

    Attributes
    ----------
    files
        All files of its data set, the main file first.
    pixel_bytes
        Bytes of decoded pixels at full size.
    unknown
        The reason if no reader recognises the content.
    """

    files: list[str] = field(default_factory=list)
    pixel_bytes: int = 0
    unknown: str | None = None


@dataclass
class _Entry:
    """Metadata of one file, and the files and folders that they depend on."""

    opened: Opened
    stamps: list[dict[str, Any]]
    folder: str


class Scan:
    """Results of opening files, in this run and in earlier ones.

    Parameters
    ----------
    options
        The conversion options; results of scans with other reader options are not used.
    earlier
        `as_dict` of earlier scans, from reports.
    """

    def __init__(self, options: ConvertOptions, earlier: Sequence[Any] = ()) -> None:
        settings = {
            "version": bfbridge.__version__,
            "backend": options.backend,
            "options": repr(sorted(options.reader_arguments.items(), key=lambda item: item[0])),
        }
        self._key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]
        self._known: dict[str, Any] = {}
        self._identity = Identities()
        self._entries: dict[str, _Entry] = {}
        self._folders: dict[str, str] = {}
        self.is_new = False
        for scan in earlier:
            if isinstance(scan, dict) and scan.get("key") == self._key:
                files = scan.get("files")
                self._known.update(files if isinstance(files, dict) else {})

    def get(self, path: str) -> Opened | None:
        """Return the result of an earlier run for a file, if the file has not changed."""
        if not self._known or is_url(path):
            return None
        place = self._identity(path)
        parsed = self._known.get(place)
        if parsed is None:
            return None
        try:
            entry: _Entry = from_json(parsed, _Entry)
            stamps = stamp([one["path"] for one in entry.stamps], {})
        except (ValueError, KeyError, OSError, TypeError):
            return None
        if stamps != entry.stamps or entry.folder != self._folder(path):
            return None
        self._entries[place] = entry
        return entry.opened

    def put(self, path: str, opened: Opened) -> None:
        """Keep what a file was found to be."""
        if not is_url(path) and not any(map(is_url, opened.files)):
            files = dict.fromkeys(file for one in (path, *opened.files) for file in _deciding(one))
            stamps = stamp(list(files), {})
            self._entries[self._identity(path)] = _Entry(opened, stamps, self._folder(path))
            self.is_new = True

    def as_dict(self) -> dict[str, Any]:
        """Return the scan as plain data."""
        files = {
            path: {"opened": vars(entry.opened), "stamps": entry.stamps, "folder": entry.folder}
            for path, entry in self._entries.items()
        }
        return {"key": self._key, "files": files}

    def _folder(self, path: str) -> str:
        """Return a digest of the files in a file's folder: a new one may belong to its data set."""
        folder = os.path.dirname(self._identity(path))
        if folder not in self._folders:
            with os.scandir(folder) as entries:
                listed = sorted(
                    (entry.name, status.st_size, status.st_mtime_ns)
                    for entry in entries
                    if not entry.name.startswith(".") and entry.is_file(follow_symlinks=False)
                    for status in (entry.stat(follow_symlinks=False),)
                )
            text = json.dumps(listed)
            self._folders[folder] = hashlib.sha256(text.encode()).hexdigest()[:16]
        return self._folders[folder]


def _deciding(path: str) -> list[str]:
    """Return the files whose content decides what a source is; of a store, its documents."""
    return [os.path.join(path, key) for key in ZARR_KEYS] if os.path.isdir(path) else [path]


def opener_for(options: ConvertOptions, kept: KeptReaders | None = None) -> Callable[[str], Opened]:
    """Return a function that opens a file and returns the files of its data set.

    Readers that `kept` takes stay usable for the conversion of the file.
    """
    from bfbridge.reader import BioReader

    arguments = {"cache": 0, **options.reader_arguments}
    workers = options.workers

    def opened(path: str) -> Opened:
        br = BioReader(path, max_workers=workers, backend=options.backend, **arguments)
        is_kept = False
        try:
            count = sum(_pixel_bytes(view) for view in br.series)
            # A store is one entry, because it may contain a million files.
            store = os.path.isdir(path)
            found = Opened([path] if store else list(br.used_files), count)
            is_kept = kept is not None and kept.keep(path, br)
        finally:
            if not is_kept:
                br.close()
        return found

    return opened


def _pixel_bytes(view: Any) -> int:
    count = view.dtype.itemsize
    for size in view.sizes.values():
        count *= size
    return int(count)


def group_files(
    listed: Sequence[tuple[Found, bool]],
    opener: Callable[[str], Opened],
    skipped: Skipped,
    scan: Scan | None = None,
    looked: Callable[[int, int], None] = lambda done, total: None,
    each: Callable[[str], None] = lambda path: None,
    ahead: int = AHEAD,
) -> list[Found]:
    """Return each data set once.

    Parameters
    ----------
    listed
        Files, and whether each was found by searching rather than named.
    opener
        Opens a file; called in several threads.
    skipped
        Gets the files of searched folders that belong to others, or are no images.
    scan
        What earlier runs found; it gets what this one finds.
    looked
        Called with (files opened, files in all).
    each
        Called with the path that was opened for each data set, in the order of the files.
    ahead
        Number of files that are opened at once.
    """
    chosen: dict[str, Found] = {}
    owner: dict[str, str] = {}
    same = Identities()
    named = {same(found.path): found for found, _ in listed if found.error is None}

    def is_open(path: str) -> bool:
        return same(path) in chosen or same(path) in owner

    paths = [found.path if found.error is None else "" for found, _ in listed]
    with closing(_Ahead(paths, opener, scan, is_open, ahead)) as openings:
        for number, (found, searched) in enumerate(listed):
            looked(number, len(listed))
            if found.error is not None:
                _note(found, None, searched, chosen, skipped)
                continue
            key = same(found.path)
            if key in chosen:
                continue
            if key in owner:
                skipped.reasons[found.path] = f"belongs to {owner[key]}"
                continue
            try:
                opened = openings.open(number)
            except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
                failed = replace(found, error=reason_of(error), error_type=type(error).__name__)
                _note(failed, error, searched, chosen, skipped)
                continue
            main = named.get(same(opened.files[0]), found) if opened.files else found
            if main is not found:
                skipped.reasons[found.path] = f"belongs to {main.path}"
            if same(main.path) not in chosen:
                chosen[same(main.path)] = replace(main, pixel_bytes=opened.pixel_bytes)
                each(found.path)
            owner.update({same(path): main.path for path in opened.files})
    looked(len(listed), len(listed))
    return list(chosen.values())


class _Ahead:
    """Opens files in their order; after a file that is a data set, the next ones in threads.

    Threads are used after a file whose opening waited, for a disk or a server. Otherwise they would
    wait for each other (the GIL), which takes longer than opening the files one after the other.

    Parameters
    ----------
    paths
        The files; "" for those that are not opened.
    opener
        Opens a file; called in threads for names that the native readers have.
    scan
        What earlier runs found; it gets what this one finds.
    is_open
        Whether the data set of a file was opened, so that the file is not.
    count
        Number of files that are opened at once.
    """

    def __init__(
        self,
        paths: Sequence[str],
        opener: Callable[[str], Opened],
        scan: Scan | None,
        is_open: Callable[[str], bool],
        count: int,
    ) -> None:
        self._count = count
        self._paths, self._opener, self._scan, self._is_open = paths, opener, scan, is_open
        self._next = 0
        # Of a data set of many files, one is opened: its other files are not opened ahead.
        self._singles = False
        self._waits = False
        self._known: dict[int, Opened] = {}
        self._running: dict[int, Future[tuple[Opened, bool]]] = {}
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="bfbridge-search")

    def open(self, number: int) -> Opened:
        """Return what a file is; numbers must grow."""
        path = self._paths[number]
        self._advance(number)
        known = self._known.pop(number, None)
        if known is None:
            running = self._running.pop(number, None)
            try:
                known, waited = _timed(self._opener, path) if running is None else running.result()
                self._waits = self._waits or waited
            except UnknownFormat as error:
                # Java tries all its readers, which takes longer than opening an image.
                known = Opened(unknown=str(error))
            if self._scan is not None:
                self._scan.put(path, known)
        self._singles = len(known.files) == 1
        if known.unknown is not None:
            raise UnknownFormat(known.unknown)
        return known

    def close(self) -> None:
        """Wait for the files that are being opened; open no others."""
        self._pool.shutdown(cancel_futures=True)

    def _advance(self, number: int) -> None:
        """Start to open the files that follow one, and forget those before it."""
        for passed in [n for n in self._running if n < number]:
            # Its data set was opened by another of its files in the meantime.
            self._running.pop(passed).cancel()
        for passed in [n for n in self._known if n < number]:
            del self._known[passed]
        first = max(self._next, number)
        count = self._count if self._singles and self._waits else 1
        self._next = max(first, min(number + count, len(self._paths)))
        for each in range(first, self._next):
            path = self._paths[each]
            if not path or self._is_open(path):
                continue
            known = None if self._scan is None else self._scan.get(path)
            if known is not None:
                self._known[each] = known
            elif each > number and os.path.splitext(path.rstrip("/"))[1].lower() in NATIVE:
                context = contextvars.copy_context()
                self._running[each] = self._pool.submit(context.run, _timed, self._opener, path)


def _timed(opener: Callable[[str], Opened], path: str) -> tuple[Opened, bool]:
    """Return what a file is, and whether opening it waited for most of the time."""
    begun, worked = time.perf_counter(), time.thread_time()
    opened = opener(path)
    worked = time.thread_time() - worked
    return opened, time.perf_counter() - begun > WAITING * worked + WAITING_SECONDS


def _note(
    found: Found,
    error: Exception | None,
    searched: bool,
    chosen: dict[str, Found],
    skipped: Skipped,
) -> None:
    """Note a file that cannot be opened: as a failure, or as no image."""
    if searched and not _must_be_image(found.path, error):
        skipped.reasons[found.path] = f"no image: {found.error}"
    else:
        chosen.setdefault(f"{found.path}\0{found.error}", found)


def _must_be_image(path: str, error: Exception | None) -> bool:
    """Whether a file that cannot be opened is a damaged image rather than none at all.

    Parameters
    ----------
    path
        The file.
    error
        What opening it raised; None where it is a link that leads nowhere.
    """
    suffix = os.path.splitext(path)[1].lower()
    if error is None:
        return suffix in IMAGES_IF_BINARY or suffix in _image_suffixes() - NOT_ONLY_IMAGES
    if suffix not in NOT_ONLY_IMAGES:
        needs = isinstance(error, (MissingExtra, JavaNotFound, JarNotFound))
        return needs or suffix in _image_suffixes()
    if _is_text(path):
        return False
    return suffix in IMAGES_IF_BINARY or not isinstance(error, UnknownFormat)


def _is_text(path: str) -> bool:
    """Whether a file begins as text does; False where it cannot be read."""
    try:
        with open(path, "rb") as file:
            data = file.read(TEXT_LENGTH)
    except OSError:
        return False
    if b"\0" in data:
        return False
    text = data.decode("utf-8", "replace")
    odd = sum(
        ch == "\N{REPLACEMENT CHARACTER}" or (ch < " " and ch not in "\t\n\r\f") for ch in text
    )
    # In text of other encodings, some characters are not valid UTF-8.
    return odd * 20 <= len(text)


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
