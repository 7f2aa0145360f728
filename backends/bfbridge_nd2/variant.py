"""Values of ND2 metadata: the binary form that Nikon calls the lite variant.

An item is its type (1 byte), the length of its name in UTF-16 units (1 byte), its name with an end
of zeros, and its value, little-endian. A level holds items, and an index of them after the last.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any, Final

from bfbridge.errors import UnreadableFile, Unsupported
from bfbridge.limits import Limits, check

__all__ = ["decode"]

_NUMBERS: Final = {
    1: struct.Struct("<?"), 2: struct.Struct("<i"), 3: struct.Struct("<I"), 4: struct.Struct("<q"),
    5: struct.Struct("<Q"), 6: struct.Struct("<d"), 7: struct.Struct("<Q"),
}  # fmt: skip
_STRING, _BYTES, _LEVEL, _COMPRESSED = 8, 9, 11, 76
_LENGTH: Final = struct.Struct("<Q")
_LEVEL_HEAD: Final = struct.Struct("<IQ")
# Bytes before the zlib stream of a compressed item: its type, and ten that nothing needs.
_BEFORE_STREAM: Final = 12


def decode(data: bytes, where: str, limits: Limits) -> dict[str, Any]:
    """Decode the metadata of one chunk.

    Parameters
    ----------
    data
        The chunk's bytes.
    where
        The chunk and its file, for messages.
    limits
        `xml_bytes` bounds what is decompressed, `xml_depth` the nesting, `directories` the number
        of items.

    Returns
    -------
    dict
        Values by name: bool, int, float, str, bytes, or of a level a dict, or a list where its
        items have no names. Of items of one name the last is kept.

    Raises
    ------
    Unsupported
        It is XML, as old files have it, or has items of an unknown type.
    UnreadableFile
        It is damaged.
    LimitExceeded
        It has more than the limits allow.
    """
    if data[:1] == b"<":
        raise Unsupported("ND2 metadata as XML")
    if data[:1] == bytes([_COMPRESSED]):
        data = _decompressed(data, where, limits)
    return _Decoder(data, where, limits).first()


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


class _Decoder:
    def __init__(self, data: bytes, where: str, limits: Limits) -> None:
        self._data, self._where, self._limits = data, where, limits
        self._count = 0

    def first(self) -> dict[str, Any]:
        """Return the first item: what a chunk has after it is nobody's."""
        name, value, _ = self._item(0, len(self._data), 0)
        return {name: value}

    def _items(self, at: int, end: int, depth: int) -> Any:
        """Return the items from `at` to `end`."""
        check(depth, self._limits.xml_depth, "nesting depth of the metadata", self._where)
        named: dict[str, Any] = {}
        unnamed: list[Any] = []
        while at < end:
            name, value, at = self._item(at, end, depth)
            if name:
                named[name] = value
            else:
                unnamed.append(value)
        return unnamed if unnamed and not named else named

    def _item(self, begin: int, end: int, depth: int) -> tuple[str, Any, int]:
        """Return an item's name and value, and where the next begins."""
        self._count += 1
        check(self._count, self._limits.directories, "number of metadata items", self._where)
        self._need(begin, 2, end)
        kind, units = self._data[begin : begin + 2]
        self._need(begin, 2 + 2 * units, end)
        at = begin + 2 + 2 * units
        name = self._data[begin + 2 : at].decode("utf-16-le", "replace").rstrip("\0")
        return name, *self._value(kind, begin, at, end, depth)

    def _value(self, kind: int, begin: int, at: int, end: int, depth: int) -> tuple[Any, int]:
        number = _NUMBERS.get(kind)
        if number is not None:
            return self._unpack(number, at, end)[0], at + number.size
        other: dict[int, Callable[[], tuple[Any, int]]] = {
            _STRING: lambda: self._string(at, end),
            _BYTES: lambda: self._bytes(at, end),
            _LEVEL: lambda: self._level(begin, at, end, depth),
        }
        if kind not in other:
            raise Unsupported(f"ND2 metadata of type {kind}")
        return other[kind]()

    def _level(self, begin: int, at: int, end: int, depth: int) -> tuple[Any, int]:
        count, length = self._unpack(_LEVEL_HEAD, at, end)
        first = at + _LEVEL_HEAD.size
        self._need(begin, length + 8 * count, end)
        if begin + length < first:
            raise self._damaged(begin)
        return self._items(first, begin + length, depth + 1), begin + length + 8 * count

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
