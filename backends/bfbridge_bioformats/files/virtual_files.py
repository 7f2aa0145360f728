"""Files as Java sees them: on disk, or mapped from a URL, an open file or memory.

Bio-Formats opens names. For what is not on disk it is given names in an empty temporary folder;
Java's Location is told to take the bytes of these names from here, block by block.
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
from typing import TYPE_CHECKING, Any

import numpy as np

from bfbridge.backend import OpenOptions
from bfbridge.errors import BfbridgeError, LimitExceeded
from bfbridge.limits import Limits
from bfbridge.runtime import forking
from bfbridge.storage.source import RandomAccess, Source, as_source
from bfbridge_bioformats.files.companions import refusal
from bfbridge_bioformats.files.mending import may_be_mended, mended
from bfbridge_bioformats.files.remote_siblings import MOST_SIBLINGS as _MOST_SIBLINGS
from bfbridge_bioformats.files.remote_siblings import remote_siblings
from bfbridge_bioformats.runtime.calls import Activity
from bfbridge_bioformats.runtime.machine import machine

if TYPE_CHECKING:
    from bfbridge_bioformats.files.archives import Package

__all__ = ["PACKED", "Files", "LocalFiles", "MappedFiles", "seen_by_java"]

log = logging.getLogger("bfbridge")

BLOCK = 1 << 18
_KEPT_BLOCKS = 256
# Of files on disk, of which there may be thousands.
_KEPT_OF_MENDED = 4
_HEAP_SHARE = 8
# Longest file that is copied to disk where a format cannot be read otherwise.
_MOST_COPIED = 4 << 30
_MOST_RETRIES = 64
_COPY_STEP = 8 << 20

# Suffixes of what Location unpacks by itself, in ways that `bfbridge_bioformats.files.archives`
# tells of.
PACKED = (".gz", ".bz2", ".zip")
_NOT_A_NAME = re.compile(r'[\\/:*?"<>|\0\ud800-\udfff]')


class Files:
    """What a data set's names stand for.

    Attributes
    ----------
    main_id
        The name that Java is given.
    name
        The name that the user gave, for messages.

    Parameters
    ----------
    name
        As above.
    options
        How the file is opened.
    activity
        Counts what Java reads.
    """

    main_id: str
    name: str
    # One for all: a failure is rare.
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
        """Let the current thread's Java code see the files of a FileMap; None: only the disk."""
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
        """Let go of the files that Java has opened through a FileMap which no reader took."""
        if table is not None:
            table.close()

    def shown(self, name: str) -> str:
        """Return a Java name as the user knows it."""
        return name

    def check_used(self, java: Any) -> None:
        """Refuse a data set with files that its main file must not draw in.

        A FileMap opens none of those, but some are opened later, past it.
        """
        if self._access is not None:
            self._raise(self._access.firstRefused(java.getUsedFiles()))

    def _raise_refusal(self, table: Any, *, failed: bool) -> None:
        """Raise what a FileMap refused to Java, which Java may have hidden."""
        if table is not None:
            self._raise(table.takeRefusal(failed))

    def _raise(self, refused: Any) -> None:
        if refused is not None:
            objection, _, companion = machine.text(refused).partition(": ")
            raise refusal(self.name, objection, companion)

    def _new_table(self, *, local: bool) -> Any:
        """Return a new FileMap that is held to what the data set may open, and counts reads."""
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
        """Raise what went wrong while Java fetched bytes, which Java may have hidden."""
        with self._failure_lock:
            failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _failed(self, error: BaseException) -> None:
        with self._failure_lock:
            self._failure = self._failure or error

    def mend_files(self, names: Sequence[str], limits: Limits) -> bool:
        """Have files that Bio-Formats misreads read another way; see `mending`.

        Returns
        -------
        bool
            Whether there are any that have not been read so: they are to be opened again.
        """
        del names, limits
        return False

    def find_missing(self, message: str) -> bool:
        """Look for a file that Java found missing; whether it is there now."""
        del message
        return False

    def to_disk(self) -> bool:
        """Copy the files to disk, where that is possible and may help; whether it was done."""
        return False

    def close(self) -> None:
        """Release everything."""


def seen_by_java(source: Source) -> bool:
    """Whether Java can open a file on disk by its name: not one whose bytes are no text.

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
        # A synthetic image has no file: its name alone says all, and becomes the image's name.
        self._exists = source.exists()
        self._mended: dict[str, _File] = {}
        self.main_id = os.path.abspath(source.name) if self._exists else source.filename

    def table(self) -> Any:
        """Return a FileMap that leads to the disk, and sees where files end too early."""
        if not self._exists:
            return None
        table = self._new_table(local=True)
        for file_id, file in self._mended.items():
            table.add(file_id, file.java(self._failed))
        return table

    def mend_files(self, names: Sequence[str], limits: Limits) -> bool:
        """As above; what is mended is mapped over the file on disk."""
        found = False
        for name in names:
            path = Path(name)
            if name in self._mended or not path.is_file():
                continue
            file = _File(name, partial(_Briefly, as_source(path)), limits)
            _ = file.access
            if file.is_mended:
                self._mended[name] = file
                found = True
            else:
                file.close()
        return found

    def shown(self, name: str) -> str:
        """Return a Java name as the user knows it: of a synthetic image without a folder."""
        return name if self._exists else self.main_id

    def close(self) -> None:
        """Release the files that are mended."""
        for file in self._mended.values():
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
        What the main file was unpacked from; its other files are siblings. Closed with this.
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
        # Only then may the others be files that are to be mended.
        self._limits = options.limits if may_be_mended(source.head(132)) else None
        self._package = package
        self._folder = Path(tempfile.mkdtemp(prefix="bfbridge-"))
        self._pid = os.getpid()
        self._on_disk = False
        self._files: dict[str, _File] = {}
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
        """Return a new FileMap, with one shared block cache a file; of copies, one of the disk."""
        table = self._new_table(local=self._on_disk)
        if self._on_disk:
            return table
        for file_id, file in self._files.items():
            table.add(file_id, file.java(self._failed))
        return table

    def release(self, table: Any) -> None:
        """As above; what was fetched for all readers is kept."""
        if self._on_disk:
            table.close()

    def shown(self, name: str) -> str:
        """Return the URL or name that the user gave for a mapped name."""
        file = self._files.get(name)
        return file.name if file is not None else name

    def find_missing(self, message: str) -> bool:
        """Map a sibling that Java did not find by the name in its message."""
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
        """Copy all files into the temporary folder: some formats are read by other libraries."""
        if self._on_disk:
            return False
        files = self._files
        if self._package is not None:
            # Those that Java has looked into: to unpack all that lie beside them takes long.
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
        """Forget the mapped files and remove the temporary folder."""
        for file in self._files.values():
            file.close()
        if self._package is not None:
            self._package.close()
        if os.getpid() == self._pid:
            # Not in a forked child: the folder is its parent's.
            shutil.rmtree(self._folder, ignore_errors=True)

    def _add(self, shown: str, opener: Callable[[], RandomAccess], name: str) -> str:
        place = self._folder.joinpath(*[_plain(part) for part in name.split("/")])
        file_id = str(place)
        if file_id not in self._files:
            self._files[file_id] = _File(shown, opener, self._limits)
            place.parent.mkdir(parents=True, exist_ok=True)
            # Readers list folders and ask whether names exist; the bytes come from the map. Empty,
            # so that code which goes to the disk by itself fails rather than reads zeros.
            place.touch()
        return file_id


class _File:
    """One mapped file, opened on need; its blocks are shared by all readers.

    Parameters
    ----------
    name
        As the user knows it.
    opener
        Opens it.
    limits
        Of what it may ask for, if it may be a DICOM file that is to be mended.
    """

    def __init__(
        self, name: str, opener: Callable[[], RandomAccess], limits: Limits | None
    ) -> None:
        self.name = name
        self.is_mended = False
        self._opener = opener
        self._limits = limits
        self._access: RandomAccess | None = None
        self._java: Any = None
        self._lock = forking.lock()

    @property
    def is_open(self) -> bool:
        """Whether anything was asked of it."""
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
            whole = None if self._limits is None else mended(access, self.name, self._limits)
        except BaseException:
            access.close()
            raise
        self.is_mended = whole is not None
        return whole or access

    @property
    def size(self) -> int:
        """In bytes."""
        return self.access.size

    def java(self, failed: Any) -> Any:
        """Return the Java source of this file; `failed` is called with what goes wrong."""
        if self._java is None:
            most = machine.max_memory() // _HEAP_SHARE // BLOCK
            fetcher = machine.implement("bfbridge.BlockSource$Fetcher", _Fetcher(self, failed))
            kept = _KEPT_OF_MENDED if self.is_mended else _KEPT_BLOCKS
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
    """A file on disk that is open only while it is read: a data set may have thousands."""

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
        """Nothing to release."""


class _Fetcher:
    """The interface bfbridge.BlockSource.Fetcher, in Python."""

    def __init__(self, file: _File, failed: Any) -> None:
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
                    f"{self._file.name}: {length} bytes at {position} are wanted, but only "
                    f"{len(data)} came; the file changed, or the connection broke."
                )
            return machine.bytes(data)
        except BaseException as error:
            self._failed(error)
            raise


def _plain(name: str) -> str:
    """Return a name that any file system takes."""
    return _NOT_A_NAME.sub("_", name) or "data"


def _siblings(source: Source, companions: Sequence[str]) -> Iterator[tuple[Source, str]]:
    """Files of the same folder that Java may look for, with their names."""
    if source.path is not None:
        with os.scandir(source.path.parent) as entries:
            # A link may lead out of the folder.
            beside = (entry.name for entry in entries if entry.is_file(follow_symlinks=False))
            for name in itertools.islice(beside, _MOST_SIBLINGS):
                if name != source.filename:
                    yield source.sibling(name), name
    if source.url is not None:
        yield from remote_siblings(source, companions)
