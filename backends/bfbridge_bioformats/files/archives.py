"""Compressed files and archives (.gz, .bz2, .zip): decompressed once, before Java opens them.

Bio-Formats decompresses a ``.gz`` or ``.bz2`` file again for each reader that tests it, and for
each backward seek. It reads the first image of a ``.zip`` file for every requested image
(loci.formats.in.ZipReader.openBytes), and does not return for a ``.zip`` file without entries
(loci.common.ZipHandle.populateLength).
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import IO, Any, Final, cast

from bfbridge.errors import BfbridgeError, UnreadableFile
from bfbridge.limits import Limits, check
from bfbridge.storage.source import RandomAccess, Source, as_source

__all__ = ["Package", "find_package"]

_STEP: Final = 1 << 20
# Bytes fetched from a URL at once.
_FETCHED: Final = 8 << 20
_MOST_ENTRIES: Final = 1000
_STREAMS: Final = (".gz", ".bz2")
_MAGIC: Final = {".gz": b"\x1f\x8b", ".bz2": b"BZh"}
# Errors of gzip, bz2 and zipfile: damage, truncation, a password, an unknown method.
_DAMAGE: Final = (
    EOFError,
    OSError,
    ValueError,
    RuntimeError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
)


class Package:
    """The contents of a compressed file. `close` removes the temporary files.

    Attributes
    ----------
    main
        The decompressed file to open; its name has the suffix that Bio-Formats tests.
    file
        The path or name of the compressed file, as in `used_files`.
    siblings
        Name (with "/" for folders), file as above, and opener of other files that may belong to it.
    """

    def __init__(self, source: Source, limits: Limits) -> None:
        self.file = _full_name(source)
        self._limits = limits
        self._open_files = contextlib.ExitStack()
        self.main: Source
        self.siblings: list[tuple[str, str, Callable[[], RandomAccess]]] = []
        try:
            if _suffix(source) == ".zip":
                self._zip(source)
            else:
                self._stream(source)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove the decompressed files."""
        self._open_files.close()

    def _stream(self, source: Source) -> None:
        self.main = Source(name=source.name, file=self._unpacked(source))
        if source.path is None:
            return
        stem = source.filename.partition(".")[0]
        with os.scandir(source.path.parent) as entries:
            # A link may point outside the folder.
            beside = (entry for entry in entries if entry.is_file(follow_symlinks=False))
            fit = (
                as_source(entry.path)
                for entry in beside
                if entry.name.partition(".")[0] == stem or entry.name.lower().endswith(_STREAMS)
            )
            found = [each for each in islice(fit, _MOST_ENTRIES) if each.name != source.name]
        self.siblings = [
            (each.filename, _full_name(each), partial(self._open_sibling, each)) for each in found
        ]

    def _open_sibling(self, source: Source) -> RandomAccess:
        if not _is_packed_stream(source):
            return source.open()
        return Source(name=source.name, file=self._unpacked(source)).open()

    def _unpacked(self, source: Source) -> IO[bytes]:
        with (
            self._unreadable_on_error(source.name),
            _buffered(source) as file,
            _unpacking(source, file) as stream,
        ):
            return self._copied(stream, source.name)

    def _zip(self, source: Source) -> None:
        with self._unreadable_on_error(source.name):
            file = self._open_files.enter_context(_buffered(source))
            archive = self._open_files.enter_context(zipfile.ZipFile(file))
        entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
        entries = [entry for entry in entries if not entry.is_dir() and _is_plain(entry.filename)]
        if not entries:
            raise UnreadableFile(f"{source.name}: this zip file contains no files.")
        # The choice of loci.formats.in.ZipReader.findZipEntries.
        stem = source.filename[: -len(".zip")]
        named = (entry for entry in entries if entry.filename.startswith(stem))
        main = next(named, entries[0])
        self.main = Source(name=self._name(main), file=self._entry(archive, main))
        folder, _, _ = main.filename.rpartition("/")
        for entry in entries[:_MOST_ENTRIES]:
            name = entry.filename.removeprefix(f"{folder}/" if folder else "")
            if entry is not main and (not folder or name != entry.filename):
                opener = partial(self._open_entry, archive, entry)
                self.siblings.append((name, self.file, opener))

    def _open_entry(self, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> RandomAccess:
        return Source(name=self._name(entry), file=self._entry(archive, entry)).open()

    def _entry(self, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> IO[bytes]:
        name = self._name(entry)
        check(entry.file_size, self._limits.unpacked_bytes, "length in bytes, unpacked,", name)
        with self._unreadable_on_error(name), archive.open(entry) as stream:
            file = self._copied(stream, name)
            if file.tell() != entry.file_size:
                raise zipfile.BadZipFile(f"{file.tell():,} bytes, not {entry.file_size:,}")
            return file

    def _name(self, entry: zipfile.ZipInfo) -> str:
        # A question mark would start the query of a URL.
        return f"{self.file.partition('?')[0]}/{entry.filename.replace('?', '_')}"

    def _copied(self, stream: IO[bytes], name: str) -> IO[bytes]:
        """Copy a stream to a temporary file without a name, which the system removes."""
        kept = tempfile.TemporaryFile(prefix="bfbridge-")  # noqa: SIM115 - `close` closes it
        file = self._open_files.enter_context(kept)
        length = 0
        while part := stream.read(_STEP):
            length += len(part)
            check(length, self._limits.unpacked_bytes, "length in bytes, unpacked,", name)
            try:
                file.write(part)
            except OSError as error:
                raise UnreadableFile(
                    f"{name}: too little space to decompress it in {tempfile.gettempdir()} "
                    f"({error.strerror}). Set TMPDIR to a folder with more space, or decompress it "
                    "yourself."
                ) from error
        if not length:
            raise UnreadableFile(f"{name}: it is empty (0 bytes when decompressed).")
        return file

    @staticmethod
    @contextlib.contextmanager
    def _unreadable_on_error(name: str) -> Iterator[None]:
        try:
            yield
        except BfbridgeError:
            raise
        except _DAMAGE as error:
            raise UnreadableFile(
                f"{name}: it cannot be unpacked ({error}); it is damaged or cut short, or packed "
                "in a way that is not supported. Copy or download it again, or unpack it yourself."
            ) from error


def find_package(source: Source, limits: Limits) -> Package | None:
    """Decompress a file that Bio-Formats would decompress, according to its suffix and first bytes.

    Parameters
    ----------
    source
        Any file.
    limits
        `Limits.unpacked_bytes` bounds each file.

    Returns
    -------
    Package or None
        None for a file that is not compressed.

    Raises
    ------
    UnreadableFile
        It is damaged, truncated or empty.
    LimitExceeded
        It is longer than the limit when decompressed.
    """
    if _suffix(source) == ".zip" or _is_packed_stream(source):
        return Package(source, limits)
    return None


def _full_name(source: Source) -> str:
    return source.name if source.path is None else os.path.abspath(source.path)


def _suffix(source: Source) -> str:
    return os.path.splitext(source.filename.lower())[1]


def _is_packed_stream(source: Source) -> bool:
    magic = _MAGIC.get(_suffix(source))
    return magic is not None and source.head(len(magic)) == magic


def _unpacking(source: Source, file: IO[bytes]) -> IO[bytes]:
    if _suffix(source) == ".gz":
        return cast("IO[bytes]", gzip.GzipFile(fileobj=file))
    return bz2.BZ2File(file)


def _is_plain(name: str) -> bool:
    """Whether the name of an entry stays inside its folder."""
    parts = name.replace("\\", "/").split("/")
    return not any(part in ("", ".", "..") or ":" in part for part in parts)


def _buffered(source: Source) -> io.BufferedReader:
    return io.BufferedReader(_ArchiveStream(source.open()), _FETCHED)


class _ArchiveStream(io.RawIOBase):
    """Random access as a file object."""

    def __init__(self, access: RandomAccess) -> None:
        super().__init__()
        self._access = access
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True: archives are read at any position."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read the next bytes."""
        length = min(len(buffer), max(self._access.size - self._position, 0))
        data = self._access.read_at(self._position, length)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._access.size}
        self._position = max(base[whence] + offset, 0)
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def close(self) -> None:
        """Release the file."""
        if not self.closed:
            self._access.close()
        super().close()
