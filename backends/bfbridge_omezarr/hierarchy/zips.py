"""Stores in one zip file, and the type of store of a source."""

from __future__ import annotations

import errno
import logging
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from bfbridge.errors import (
    BfbridgeError,
    FileMissing,
    LimitExceeded,
    ReadFailed,
    UnreadableFile,
    Unsupported,
)
from bfbridge.storage.journal import COMMIT, FOLDER, NEW, find_interrupted, parse_record
from bfbridge_omezarr.hierarchy.remote import RemoteStore
from bfbridge_omezarr.hierarchy.store import FolderStore, Stamped, Store, too_long

if TYPE_CHECKING:
    from bfbridge.limits import Limits
    from bfbridge.runtime.thread_buffer import ThreadBuffer
    from bfbridge.storage.source import RandomAccess, Source

__all__ = ["ZipStore", "open_store"]

log = logging.getLogger("bfbridge.omezarr")
_DAMAGE: Final = (
    zipfile.BadZipFile,
    ValueError,
    OSError,
    EOFError,
    NotImplementedError,
    struct.error,
)


class ZipStore(Store):
    """A zip file with one store, at its root (RFC-9, ".ozx") or in a folder.

    The entries' positions are read once; entries are then read from any thread by their offset.
    """

    def __init__(self, access: RandomAccess, name: str, limits: Limits) -> None:
        self.name = name
        self._access = access
        try:
            with zipfile.ZipFile(_AccessFile(access)) as archive:
                if len(archive.filelist) > limits.directories * 16:
                    raise LimitExceeded(f"{name}: a zip file of {len(archive.filelist):,} entries.")
                entries = {info.filename: info for info in archive.filelist if not info.is_dir()}
        except BfbridgeError:
            raise
        except _DAMAGE as error:
            raise UnreadableFile(f"{name}: the zip file is damaged ({error}).") from error
        base = _zip_base(entries, name)
        if base is None:
            raise Unsupported("a zip file that contains no Zarr store")
        self._entries = {
            file[len(base) :]: info for file, info in entries.items() if file.startswith(base)
        }
        self._apply_journal(limits)

    def _apply_journal(self, limits: Limits) -> None:
        """Use the new files of a change that was committed but not applied before zipping."""
        data = self.get(COMMIT, limits.xml_bytes)
        if data is not None:
            for key in parse_record(data, self.label(COMMIT))["removed"]:
                self._entries.pop(key, None)
            new = {k: info for k, info in self._entries.items() if k.startswith(f"{NEW}/")}
            self._entries |= {key[len(NEW) + 1 :]: info for key, info in new.items()}
        for key in [key for key in self._entries if key.startswith(f"{FOLDER}/")]:
            del self._entries[key]

    def get(self, key: str, limit: int) -> bytes | None:
        info = self._entries.get(key)
        if info is None:
            return None
        if info.file_size > limit:
            raise too_long(self.label(key), info.file_size, limit)
        start = self._data_start(info, key)
        stored = self._exactly(start, info.compress_size, key)
        data = stored
        if info.compress_type != zipfile.ZIP_STORED:
            data = self._inflate(info, stored, key)
        if len(data) != info.file_size or zlib.crc32(data) != info.CRC:
            raise ReadFailed(f"{self.label(key)}: damaged in the zip file (checksum or length).")
        return data

    def get_range(self, key: str, start: int, length: int) -> bytes | None:
        info = self._entries.get(key)
        if info is None:
            return None
        begin = max(0, info.file_size + start) if start < 0 else min(start, info.file_size)
        length = min(length, info.file_size - begin)
        if info.compress_type != zipfile.ZIP_STORED:
            data = self.get(key, info.file_size)
            return None if data is None else data[begin : begin + length]
        # The checksum is that of the whole entry; parts rely on the checksum of the shard index.
        return self._exactly(self._data_start(info, key) + begin, length, key)

    def read_stamped(
        self, key: str, start: int, length: int, buffer: ThreadBuffer
    ) -> Stamped | None:
        del buffer
        data = self.get_range(key, start, length)
        return None if data is None else Stamped(data, self.stamp(key))

    def size(self, key: str) -> int | None:
        return self._entries[key].file_size if key in self._entries else None

    def stamp(self, key: str) -> object:
        # The positions of entries were read once; a zip file is not changed in place.
        return self._entries[key].CRC if key in self._entries else None

    def keys(self) -> Iterator[str]:
        yield from sorted(self._entries)

    def close(self) -> None:
        self._access.close()

    def _exactly(self, start: int, length: int, key: str) -> bytes:
        if start + length > self._access.size:
            raise ReadFailed(f"{self.label(key)}: is beyond the end of the zip file.")
        return bytes(self._access.read_at(start, length))

    def _data_start(self, info: zipfile.ZipInfo, key: str) -> int:
        if info.flag_bits & 0x1:
            raise ReadFailed(f"{self.label(key)}: is encrypted, which is not supported.")
        head = self._exactly(info.header_offset, 30, key)
        if head[:4] != b"PK\x03\x04":
            raise ReadFailed(f"{self.label(key)}: damaged in the zip file (no entry there).")
        name_length, extra_length = struct.unpack("<HH", head[26:30])
        return int(info.header_offset + 30 + name_length + extra_length)

    def _inflate(self, info: zipfile.ZipInfo, stored: bytes, key: str) -> bytes:
        if info.compress_type != zipfile.ZIP_DEFLATED:
            raise ReadFailed(
                f"{self.label(key)}: zip compression {info.compress_type} is not supported; store "
                "the chunks uncompressed in the zip file."
            )
        try:
            # One byte above the declared size detects a stream that is longer.
            return zlib.decompressobj(-15).decompress(stored, info.file_size + 1)
        except zlib.error as error:
            raise ReadFailed(f"{self.label(key)}: damaged in the zip file ({error}).") from error


def _zip_base(entries: Mapping[str, Any], where: str) -> str | None:
    """Return the folder of the store in a zip file ("" or "name/"), or None.

    It is the outermost folder that contains a Zarr document; files beside it ("README.txt", the
    "__MACOSX" that macOS adds) do not matter.
    """
    names = {"zarr.json", ".zgroup", ".zarray", ".zattrs"}
    if not names.isdisjoint(entries):
        return ""
    split = (file.rpartition("/") for file in entries)
    bases = {folder + slash for folder, slash, name in split if name in names}
    top = min((base.count("/") for base in bases), default=0)
    outermost = [base for base in bases if base.count("/") == top]
    if len(outermost) > 1:
        some = ", ".join(sorted(outermost)[:3])
        raise UnreadableFile(
            f"{where}: a zip file with {len(outermost)} Zarr stores in it ({some}). Unpack it and "
            "open each store separately."
        )
    return outermost[0] if outermost else None


class _AccessFile:
    """The file interface that `zipfile` needs, over `RandomAccess`."""

    def __init__(self, access: RandomAccess) -> None:
        self._access = access
        self._position = 0

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (0, self._position, self._access.size)[whence]
        if base + offset < 0:
            # zipfile expects this error for files that are shorter than its records.
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._position = base + offset
        return self._position

    def read(self, length: int = -1) -> bytes:
        rest = max(0, self._access.size - self._position)
        count = rest if length < 0 else min(length, rest)
        data = bytes(self._access.read_at(self._position, count))
        self._position += len(data)
        return data

    def close(self) -> None:
        """Do nothing: the file belongs to the store."""


def open_store(source: Source, limits: Limits, allow_outside: bool) -> Store:
    """Return the store of a source.

    Raises
    ------
    FileMissing
        There is no such file or folder.
    Unsupported
        It is neither a folder nor a zip file.
    """
    if source.path is not None and source.path.is_dir():
        interrupted = find_interrupted(source.path)
        if interrupted is not None and interrupted.committed:
            log.warning("%s", interrupted)
        return FolderStore(str(source.path), source.name, allow_outside)
    zipped = source.filename.lower().endswith((".zip", ".ozx"))
    if source.url is not None and not zipped:
        return RemoteStore(source)
    if source.path is not None and not source.path.exists():
        raise FileMissing(f"{source.name}: no such file or folder.")
    access = source.open()
    try:
        if bytes(access.read_at(0, 4)) not in (b"PK\x03\x04", b"PK\x05\x06"):
            raise Unsupported("neither a folder nor a zip file")
        return ZipStore(access, source.name, limits)
    except BaseException:
        access.close()
        raise
