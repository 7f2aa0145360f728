"""Values of ND2 metadata, in the binary form that Nikon calls the lite variant.

An item is its type (1 byte), the length of its name in UTF-16 units (1 byte), its zero-terminated
name, and its value, little-endian. A level contains items, then an index of them.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any, Final

from bfbridge.errors import UnreadableFile, Unsupported
from bfbridge.limits import Limits, check

__all__ = ["decode_variant"]

_NUMBERS: Final = {
    1: struct.Struct("<?"), 2: struct.Struct("<i"), 3: struct.Struct("<I"), 4: struct.Struct("<q"),
    5: struct.Struct("<Q"), 6: struct.Struct("<d"), 7: struct.Struct("<Q"),
}  # fmt: skip
_STRING, _BYTES, _LEVEL, _COMPRESSED = 8, 9, 11, 76
_LENGTH: Final = struct.Struct("<Q")
_LEVEL_HEAD: Final = struct.Struct("<IQ")
# Bytes before the zlib stream of a compressed item: its type, and ten that are not needed.
_BEFORE_STREAM: Final = 12


def decode_variant(data: bytes, where: str, limits: Limits) -> dict[str, Any]:
    """Decode the metadata of one chunk.

    Parameters
    ----------
    data
        The chunk's bytes.
    where
        The chunk and its file, for messages.
    limits
        `xml_bytes` limits the decompressed length, `xml_depth` the nesting, `directories` the
        number of items.

    Returns
    -------
    dict
        Values by name: bool, int, float, str, bytes, or, for a level, a dict, or a list if its
        items have no names. If a name occurs several times, the last value is kept.

    Raises
    ------
    Unsupported
        It is XML, as in old files, or has items of an unknown type.
    UnreadableFile
        It is damaged.
    LimitExceeded
        It has more than the limits allow.
    """
    if data[:1] == b"<":
        raise Unsupported("ND2 metadata as XML")
    if data[:1] == bytes([_COMPRESSED]):
        data = _decompressed(data, where, limits)
    return _VariantDecoder(data, where, limits).first()


def _decompressed(data: bytes, where: str, limits: Limits) -> bytes:
    stream = zlib.decompressobj()
    try:
        result = stream.decompress(data[_BEFORE_STREAM:], limits.xml_bytes + 1)
    except zlib.error as error:
        raise UnreadableFile(f"{where}: its compressed metadata are damaged ({error}).") from error
    check(len(result), limits.xml_bytes, "length of the metadata in bytes", where)
    if not stream.eof:
        raise UnreadableFile(f"{where}: its compressed metadata are cut short.")
    return result


class _Level:
    """A level while it is read: its name, its items, and the ends of the level and its index."""

    def __init__(self, name: str, end: int, after: int) -> None:
        self.name, self.end, self.after = name, end, after
        self._named: dict[str, Any] = {}
        self._unnamed: list[Any] = []

    def add(self, name: str, value: Any) -> None:
        if name:
            self._named[name] = value
        else:
            self._unnamed.append(value)

    @property
    def value(self) -> dict[str, Any] | list[Any]:
        return self._unnamed if self._unnamed and not self._named else self._named


class _VariantDecoder:
    def __init__(self, data: bytes, where: str, limits: Limits) -> None:
        self._data, self._where, self._limits = data, where, limits

    def first(self) -> dict[str, Any]:
        """Return the first item; data after it in the chunk are ignored."""
        size = len(self._data)
        open_levels: list[_Level] = []
        at = count = 0
        while True:
            inner = open_levels[-1] if open_levels else None
            if inner is not None and at >= inner.end:
                open_levels.pop()
                name, value, at = inner.name, inner.value, inner.after
            else:
                count += 1
                check(count, self._limits.directories, "number of metadata items", self._where)
                end = size if inner is None else inner.end
                kind, name, begin = self._head(at, end)
                if kind == _LEVEL:
                    level = self._level(name, at, begin, end)
                    open_levels.append(level)
                    depth, most = len(open_levels), self._limits.xml_depth
                    check(depth, most, "nesting depth of the metadata", self._where)
                    at = begin + _LEVEL_HEAD.size
                    continue
                value, at = self._value(kind, begin, end)
            if not open_levels:
                return {name: value}
            open_levels[-1].add(name, value)

    def _head(self, at: int, end: int) -> tuple[int, str, int]:
        """Return an item's type and name, and the position of its value."""
        self._need(at, 2, end)
        kind, units = self._data[at : at + 2]
        self._need(at, 2 + 2 * units, end)
        begin = at + 2 + 2 * units
        return kind, self._data[at + 2 : begin].decode("utf-16-le", "replace").rstrip("\0"), begin

    def _level(self, name: str, at: int, begin: int, end: int) -> _Level:
        count, length = self._unpack(_LEVEL_HEAD, begin, end)
        self._need(at, length + 8 * count, end)
        if at + length < begin + _LEVEL_HEAD.size:
            raise self._damaged(at)
        return _Level(name, at + length, at + length + 8 * count)

    def _value(self, kind: int, at: int, end: int) -> tuple[Any, int]:
        number = _NUMBERS.get(kind)
        if number is not None:
            return self._unpack(number, at, end)[0], at + number.size
        if kind == _STRING:
            return self._string(at, end)
        if kind == _BYTES:
            return self._bytes(at, end)
        raise Unsupported(f"ND2 metadata of type {kind}")

    def _string(self, at: int, end: int) -> tuple[str, int]:
        stop = self._data.find(b"\0\0", at, end)
        while stop >= 0 and (stop - at) % 2:
            stop = self._data.find(b"\0\0", stop + 1, end)
        if stop < 0:
            raise self._damaged(at)
        return self._data[at:stop].decode("utf-16-le", "replace"), stop + 2

    def _bytes(self, at: int, end: int) -> tuple[bytes, int]:
        (length,) = self._unpack(_LENGTH, at, end)
        begin = at + _LENGTH.size
        self._need(begin, length, end)
        return self._data[begin : begin + length], begin + length

    def _unpack(self, form: struct.Struct, at: int, end: int) -> tuple[Any, ...]:
        self._need(at, form.size, end)
        return form.unpack_from(self._data, at)

    def _need(self, at: int, length: int, end: int) -> None:
        if at + length > end:
            raise self._damaged(at)

    def _damaged(self, at: int) -> UnreadableFile:
        return UnreadableFile(f"{self._where}: its metadata are damaged at byte {at:,}.")
