"""Files as Java sees them: on disk, or mapped from a URL, an open file or memory.

Bio-Formats opens files by name. Files that are not on disk have names in an empty temporary folder,
and Java's Location reads the bytes of these names from here, in blocks.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bfbridge.backend import OpenOptions
from bfbridge.errors import BfbridgeError, LimitExceeded
from bfbridge.limits import Limits
from bfbridge.runtime import forking
from bfbridge.storage.source import RandomAccess, Source, as_source
from bfbridge_bioformats.files.companions import refusal
from bfbridge_bioformats.files.corrections import corrected, may_need_correction
from bfbridge_bioformats.files.remote_siblings import MOST_SIBLINGS as _MOST_SIBLINGS
from bfbridge_bioformats.files.remote_siblings import remote_siblings
from bfbridge_bioformats.runtime.calls import Activity
from bfbridge_bioformats.runtime.machine import machine

if TYPE_CHECKING:
    from bfbridge_bioformats.files.archives import Package

__all__ = ["PACKED", "Files", "LocalFiles", "Lookups", "MappedFiles", "seen_by_java"]

log = logging.getLogger("bfbridge")

BLOCK = 1 << 18
_KEPT_BLOCKS = 256
# For files on disk; there may be thousands.
_KEPT_OF_CORRECTED = 4
_HEAP_SHARE = 8
# Longest file that is copied to disk if a format cannot be read otherwise.
_MOST_COPIED = 4 << 30
_MOST_RETRIES = 64
_COPY_STEP = 8 << 20

# Suffixes of files that Location decompresses itself; see `bfbridge_bioformats.files.archives`.
PACKED = (".gz", ".bz2", ".zip")
_NOT_A_NAME = re.compile(r'[\\/:*?"<>|\0\ud800-\udfff]')


class Lookups(NamedTuple):
    """What Java looked up while it opened a file.

    Attributes
    ----------
    names
        Absolute names of files and folders, and names that do not exist.
    tree
        Real paths of the folders that the files of the data set are in, at any depth; None for any
        folders.
    """

    names: Sequence[str]
    tree: Sequence[str] | None


class Files:
    """The files of a data set, as Java names them.

    Attributes
    ----------
    main_id
        The name that Java opens.
    name
        The name that the user gave, for messages.

    Parameters
    ----------
    name
        As above.
    options
        How the file is opened.
    activity
        Counts the bytes that Java reads.
    """

    main_id: str
    name: str
    # Shared by all tables: failures are rare.
    _failure_lock = forking.lock()

    def __init__(self, name: str, options: OpenOptions, activity: Activity) -> None:
        self.name = name
        self._options = options
        self._activity = activity
        self._access: Any = None
        self._counter: Any = None
        self._failure: BaseException | None = None

    @contextlib.contextmanager
    def using(self, table: Any) -> Iterator[None]:
        """Make the files of a FileMap visible to Java in this thread; None: only files on disk."""
        if table is None:
            yield
            return
        location = machine.type("loci.common.Location")
        before = location.getIdMap()
        location.setIdMap(table)
        failed = True
        try:
            yield
            failed = False
        finally:
            location.setIdMap(before)
            self._raise_refusal(table, failed=failed)
            self.raise_failure()

    def table(self) -> Any:
        """Return a new FileMap for one Java reader, or None."""
        return None

    def release(self, table: Any) -> None:
        """Close the files that Java opened through a FileMap that no reader uses."""
        if table is not None:
            table.close()

    def take_lookups(self, table: Any) -> Lookups | None:
        """Return the names that Java looked up through a FileMap, and record no more.

        None if they are not recorded: the index is not used, or these are not files on disk.
        """
        del table
        return None

    def shown(self, name: str) -> str:
        """Return the name that the user gave for a Java name."""
        return name

    def check_used(self, java: Any) -> None:
        """Refuse a data set with files that its main file must not include.

        A FileMap refuses to open such files, but some are opened later without it.
        """
        if self._access is not None:
            self._raise(self._access.firstRefused(java.getUsedFiles()))

    def _raise_refusal(self, table: Any, *, failed: bool) -> None:
        """Raise the refusal of a FileMap, which Java may have hidden."""
        if table is not None:
            self._raise(table.takeRefusal(failed))

    def _raise(self, refused: Any) -> None:
        if refused is not None:
            objection, _, companion = machine.text(refused).partition(": ")
            raise refusal(self.name, objection, companion)

    def _new_table(self, *, local: bool) -> Any:
        """Return a new FileMap that opens only the allowed files, and counts reads."""
        if self._access is None:
            self._access = machine.type("bfbridge.Access")(
                self.main_id, self._options.allow_outside
            )
            self._counter = machine.type("java.nio.ByteBuffer").allocateDirect(8)
            self._activity.use(np.asarray(memoryview(self._counter)).view(np.int64))
        table = machine.type("bfbridge.FileMap")(local, self._access)
        table.countIn(self._counter)
        return table

    def raise_failure(self) -> None:
        """Raise the error that occurred while Java fetched bytes, which Java may have hidden."""
        with self._failure_lock:
            failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _failed(self, error: BaseException) -> None:
        with self._failure_lock:
            self._failure = self._failure or error

    def correct_files(self, names: Sequence[str], limits: Limits) -> bool:
        """Correct files that Bio-Formats reads incorrectly; see `corrections`.

        Returns
        -------
        bool
            Whether files were corrected now; they must be opened again.
        """
        del names, limits
        return False

    def find_missing(self, message: str) -> bool:
        """Look for a file that Java did not find; return whether it was found."""
        del message
        return False

    def to_disk(self) -> bool:
        """Copy the files to disk, if that is possible and may help; return whether it was done."""
        return False

    def close(self) -> None:
        """Release everything."""


def seen_by_java(source: Source) -> bool:
    """Whether Java can open a file on disk by its name. Java cannot open names that are not text.

    In a locale such as C, Java opens ASCII names only.
    """
    name = os.path.abspath(source.name)
    if name.isascii() or not source.exists():
        return True
    try:
        return bool(machine.type("java.io.File")(name).isFile())
    except UnicodeEncodeError:
        return False


class LocalFiles(Files):
    """Files on disk, or the name of a synthetic image."""

    def __init__(self, source: Source, options: OpenOptions, activity: Activity) -> None:
        super().__init__(source.name, options, activity)
        # A synthetic image has no file; its name contains the parameters, and is the image's name.
        self._exists = source.exists()
        self._corrected: dict[str, _VirtualFile] = {}
        self._records_lookups = bool(options.index)
        self.main_id = os.path.abspath(source.name) if self._exists else source.filename

    def table(self) -> Any:
        """Return a FileMap for files on disk, which detects truncated files."""
        if not self._exists:
            return None
        table = self._new_table(local=True)
        for file_id, file in self._corrected.items():
            table.add(file_id, file.java(self._failed))
        if self._records_lookups:
            table.recordLookups()
        return table

    def take_lookups(self, table: Any) -> Lookups | None:
        """Return the names that were looked up, for files on disk; see `Files.take_lookups`."""
        self._records_lookups = False
        found = None if table is None else table.takeLookups()
        if found is None:
            return None
        names = [name for name in machine.text(found).split("\0") if os.path.isabs(name)]
        folders = self._access.folders()
        return Lookups(names, None if folders is None else [str(folder) for folder in folders])

    def correct_files(self, names: Sequence[str], limits: Limits) -> bool:
        """Replace the file on disk by the corrected file; see `Files.correct_files`."""
        found = False
        for name in names:
            path = Path(name)
            if name in self._corrected or not path.is_file():
                continue
            file = _VirtualFile(name, partial(_Briefly, as_source(path)), limits)
            _ = file.access
            if file.is_corrected:
                self._corrected[name] = file
                found = True
            else:
                file.close()
        return found

    def shown(self, name: str) -> str:
        """Return the name that the user gave; of a synthetic image, without a folder."""
        return name if self._exists else self.main_id

    def close(self) -> None:
        """Close the corrected files."""
        for file in self._corrected.values():
            file.close()


class MappedFiles(Files):
    """Files that are not on disk.

    Parameters
    ----------
    source
        The main file.
    companions
        Names, relative to its folder, that its metadata mentions.
    options
        How the file is opened.
    activity
        Counts what Java reads.
    package
        The archive that contains the main file; its other files are siblings. Closed with this.
    """

    def __init__(
        self,
        source: Source,
        companions: Sequence[str],
        options: OpenOptions,
        activity: Activity,
        package: Package | None = None,
    ) -> None:
        super().__init__(source.name, options, activity)
        self._source = source
        # The other files are corrected only if the main file is of such a format.
        self._limits = options.limits if may_need_correction(source.head(132)) else None
        self._package = package
        self._folder = Path(tempfile.mkdtemp(prefix="bfbridge-"))
        self._pid = os.getpid()
        self._on_disk = False
        self._files: dict[str, _VirtualFile] = {}
        try:
            shown = source.name if package is None else package.file
            self.main_id = self._add(shown, source.open, _plain(source.filename))
            for sibling, name in _siblings(source, companions):
                self._add(sibling.name, sibling.open, name)
            for name, shown, opener in package.siblings if package is not None else ():
                self._add(shown, opener, name)
        except BaseException:
            self.close()
            raise

    def table(self) -> Any:
        """Return a new FileMap with one block cache per file, shared by all readers."""
        table = self._new_table(local=self._on_disk)
        if self._on_disk:
            return table
        for file_id, file in self._files.items():
            table.add(file_id, file.java(self._failed))
        return table

    def release(self, table: Any) -> None:
        """Close a table of files on disk; fetched blocks stay in memory for all readers."""
        if self._on_disk:
            table.close()

    def shown(self, name: str) -> str:
        """Return the URL or name that the user gave for a mapped name."""
        file = self._files.get(name)
        return file.name if file is not None else name

    def find_missing(self, message: str) -> bool:
        """Map a sibling that Java did not find, by the name in its message."""
        if self._on_disk or self._source.path is not None or len(self._files) > _MOST_RETRIES:
            return False
        found = re.search(re.escape(str(self._folder)) + r"[/\\]([^\s:*?\"<>|()]+)", message)
        if found is None or str(self._folder / found.group(1)) in self._files:
            return False
        name = found.group(1).replace("\\", "/")
        if ".." in name.split("/"):
            return False
        with contextlib.suppress(BfbridgeError):
            sibling = self._source.sibling(name)
            if sibling.exists() and not sibling.is_dir():
                self._add(sibling.name, sibling.open, name)
                return True
        return False

    def to_disk(self) -> bool:
        """Copy all files into the temporary folder, for formats that other libraries read."""
        if self._on_disk:
            return False
        files = self._files
        if self._package is not None:
            # Only files that Java opened: decompressing all files in the folder takes long.
            files = {name: file for name, file in files.items() if file.is_open}
        total = sum(file.size for file in files.values())
        if total > _MOST_COPIED:
            log.debug("%s: %d bytes are too many to copy", self._source.name, total)
            return False
        for file_id, file in files.items():
            file.copy_to(Path(file_id))
        self._on_disk = True
        return True

    def close(self) -> None:
        """Close the mapped files and remove the temporary folder."""
        for file in self._files.values():
            file.close()
        if self._package is not None:
            self._package.close()
        if os.getpid() == self._pid:
            # Not in a forked child: the folder belongs to the parent.
            shutil.rmtree(self._folder, ignore_errors=True)

    def _add(self, shown: str, opener: Callable[[], RandomAccess], name: str) -> str:
        place = self._folder.joinpath(*[_plain(part) for part in name.split("/")])
        file_id = str(place)
        if file_id not in self._files:
            self._files[file_id] = _VirtualFile(shown, opener, self._limits)
            place.parent.mkdir(parents=True, exist_ok=True)
            # Readers list folders and test whether names exist; the bytes come from the map.
            # The files are empty, so that code which opens them directly fails.
            place.touch()
        return file_id


class _VirtualFile:
    """One mapped file, opened when it is first needed; its blocks are shared by all readers.

    Parameters
    ----------
    name
        The name that the user gave.
    opener
        Function that opens it.
    limits
        Limits on what the file declares, if it may need correction; otherwise None.
    """

    def __init__(
        self, name: str, opener: Callable[[], RandomAccess], limits: Limits | None
    ) -> None:
        self.name = name
        self.is_corrected = False
        self._opener = opener
        self._limits = limits
        self._access: RandomAccess | None = None
        self._java: Any = None
        self._lock = forking.lock()

    @property
    def is_open(self) -> bool:
        """Whether the file has been opened."""
        return self._access is not None

    @property
    def access(self) -> RandomAccess:
        """The open file."""
        with self._lock:
            if self._access is None:
                self._access = self._open()
            return self._access

    def _open(self) -> RandomAccess:
        access = self._opener()
        try:
            whole = None if self._limits is None else corrected(access, self.name, self._limits)
        except BaseException:
            access.close()
            raise
        self.is_corrected = whole is not None
        return whole or access

    @property
    def size(self) -> int:
        """Size of the file in bytes."""
        return self.access.size

    def java(self, failed: Any) -> Any:
        """Return the Java source of this file; `failed` is called with errors."""
        if self._java is None:
            most = machine.max_memory() // _HEAP_SHARE // BLOCK
            fetcher = machine.implement("bfbridge.BlockSource$Fetcher", _Fetcher(self, failed))
            kept = _KEPT_OF_CORRECTED if self.is_corrected else _KEPT_BLOCKS
            self._java = machine.type("bfbridge.BlockSource")(fetcher, BLOCK, min(kept, most))
        return self._java

    def copy_to(self, place: Path) -> None:
        """Write the whole file to disk."""
        with place.open("wb") as target:
            for offset in range(0, self.size, _COPY_STEP):
                target.write(self.access.read_at(offset, min(_COPY_STEP, self.size - offset)))

    def close(self) -> None:
        """Release the file."""
        if self._access is not None:
            self._access.close()


class _Briefly:
    """A file on disk that is open only while it is read; a data set may have thousands."""

    def __init__(self, source: Source) -> None:
        self._source = source
        access = source.open()
        self.size = access.size
        access.close()

    def read_at(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes; fewer only at the end of the file."""
        access = self._source.open()
        try:
            return bytes(access.read_at(offset, length))
        finally:
            access.close()

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


class _Fetcher:
    """The interface bfbridge.BlockSource.Fetcher, in Python."""

    def __init__(self, file: _VirtualFile, failed: Any) -> None:
        self._file = file
        self._failed = failed

    def length(self) -> int:
        """Size of the file in bytes."""
        try:
            return self._file.size
        except BaseException as error:
            self._failed(error)
            raise

    def fetch(self, position: int, length: int) -> Any:
        """Return exactly these bytes."""
        try:
            data = self._file.access.read_at(int(position), int(length))
            if len(data) != length:
                raise LimitExceeded(
                    f"{self._file.name}: {length} bytes at {position} were requested, but only "
                    f"{len(data)} arrived; the file changed, or the connection was lost."
                )
            return machine.bytes(data)
        except BaseException as error:
            self._failed(error)
            raise


def _plain(name: str) -> str:
    """Return a name that is valid on every file system."""
    return _NOT_A_NAME.sub("_", name) or "data"


def _siblings(source: Source, companions: Sequence[str]) -> Iterator[tuple[Source, str]]:
    """Yield files of the same folder that Java may look for, with their names."""
    if source.path is not None:
        with os.scandir(source.path.parent) as entries:
            # A link may point outside the folder.
            beside = (entry.name for entry in entries if entry.is_file(follow_symlinks=False))
            for name in itertools.islice(beside, _MOST_SIBLINGS):
                if name != source.filename:
                    yield source.sibling(name), name
    if source.url is not None:
        yield from remote_siblings(source, companions)
