"""A file made of parts: bytes of another file, unchanged, changed, or decompressed on demand."""

from __future__ import annotations

import bisect
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, count
from typing import Any, ClassVar, Final, Protocol

import numpy as np

from bfbridge.errors import MissingExtra, ReadFailed
from bfbridge.runtime import forking
from bfbridge.storage.source import RandomAccess

__all__ = [
    "Added",
    "Buffered",
    "DicomFrame",
    "DicomFrames",
    "DicomPart",
    "Joined",
    "Stretch",
    "Swapped",
]

_BLOCK: Final = 1 << 16
_KEPT_BYTES: Final = 64 << 20


class DicomPart(Protocol):
    """A byte range of the file that Java reads."""

    @property
    def length(self) -> int:
        """Length in bytes."""

    def read(self, inner: int, size: int) -> bytes:
        """Return bytes of this part; all of them exist."""


@dataclass
class Added:
    """Bytes that are not in the original file."""

    data: bytes

    @property
    def length(self) -> int:
        """Number of bytes."""
        return len(self.data)

    def read(self, inner: int, size: int) -> bytes:
        """Return some of them."""
        return self.data[inner : inner + size]


@dataclass
class Stretch:
    """Unchanged bytes of the original file."""

    access: RandomAccess
    at: int
    length: int

    def read(self, inner: int, size: int) -> bytes:
        """Read them."""
        return bytes(self.access.read_at(self.at + inner, size))


@dataclass
class Swapped(Stretch):
    """Bytes of the original file with the two bytes of each word swapped."""

    def read(self, inner: int, size: int) -> bytes:
        """Read whole words and crop."""
        first, last = inner // 2 * 2, -(-(inner + size) // 2) * 2
        words = bytearray(super().read(first, last - first).ljust(last - first, b"\0"))
        words[::2], words[1::2] = words[1::2], words[::2]
        return bytes(words[inner - first : inner - first + size])


class DicomFrames:
    """Decompresses frames. The most recent frames are cached: Java reads in small blocks.

    Parameters
    ----------
    access, name
        The file.
    shape
        Rows, columns and samples of a frame.
    dtype, stored
        Type of a sample, and number of its significant bits.
    planar
        Whether samples are stored one plane after the other.
    runs
        Whether frames are run-length encoded; otherwise they are JPEG 2000.
    """

    _kept: ClassVar[OrderedDict[tuple[int, int], bytes]] = OrderedDict()
    _lock: ClassVar = forking.lock()
    _numbers: ClassVar[Iterator[int]] = count()

    def __init__(
        self,
        access: RandomAccess,
        name: str,
        shape: tuple[int, int, int],
        dtype: np.dtype[Any],
        *,
        stored: int,
        planar: bool,
        runs: bool,
    ) -> None:
        self._access = access
        self._name = name
        self._shape = shape
        self._dtype = dtype
        self._stored = stored
        self._planar = planar
        self._runs = runs
        self._number = next(self._numbers)

    def frame(self, spans: tuple[tuple[int, int], ...]) -> bytes:
        """Return a frame, little-endian."""
        key = (self._number, spans[0][0])
        with self._lock:
            found = self._kept.get(key)
        if found is not None:
            return found
        found = self._unpacked(b"".join(bytes(self._access.read_at(*span)) for span in spans))
        with self._lock:
            self._kept[key] = found
            size = sum(map(len, self._kept.values()))
            while size > _KEPT_BYTES and len(self._kept) > 1:
                size -= len(self._kept.popitem(last=False)[1])
        return found

    def forget(self) -> None:
        """Remove the frames of this file from the cache."""
        with self._lock:
            for key in [key for key in self._kept if key[0] == self._number]:
                del self._kept[key]

    def _unpacked(self, data: bytes) -> bytes:
        try:
            import imagecodecs
        except ImportError as error:
            raise MissingExtra(
                f"{self._name}: compressed DICOM needs imagecodecs, which is missing ({error}). "
                "Install it with: python -m pip install 'bfbridge[bioformats]'"
            ) from error
        rows, columns, samples = self._shape
        try:
            if self._runs:
                kind = self._dtype.newbyteorder("<")
                wanted = rows * columns * samples * kind.itemsize
                raw = bytes(imagecodecs.dicomrle_decode(data, f"<u{kind.itemsize}", out=wanted))
                if len(raw) != wanted:
                    raise ValueError(f"it decodes to {len(raw):,} bytes, not {wanted:,}")
                pixels = np.frombuffer(raw, kind).reshape(samples, rows, columns)
            else:
                pixels = self._samples(imagecodecs.jpeg2k_decode(data, numthreads=1))
        except (RuntimeError, ValueError) as error:
            raise ReadFailed(f"{self._name}: a frame cannot be decompressed: {error}.") from error
        return (pixels if self._planar else np.moveaxis(pixels, 0, -1)).tobytes()

    def _samples(self, pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return decoded pixels as samples x rows x columns of the file's type (PS3.5, 8.2)."""
        pixels = pixels.reshape(*pixels.shape[:2], -1)
        if pixels.shape != self._shape:
            raise ValueError(f"it has shape {pixels.shape}, and the header declares {self._shape}")
        if self._dtype.kind == "i" and 0 < self._stored <= 32:
            # The stream may declare them as unsigned: the highest stored bit is the sign.
            half = 1 << (self._stored - 1)
            pixels = ((pixels.astype(np.int64) + half) & (2 * half - 1)) - half
        return np.moveaxis(pixels.astype(self._dtype.newbyteorder("<")), -1, 0)


@dataclass
class DicomFrame:
    """A decompressed frame."""

    decoder: DicomFrames
    spans: tuple[tuple[int, int], ...]
    length: int

    def read(self, inner: int, size: int) -> bytes:
        """Return a part of the frame."""
        return self.decoder.frame(self.spans)[inner : inner + size]


class Buffered:
    """Combines small sequential reads into a few large ones."""

    def __init__(self, access: RandomAccess) -> None:
        self._access = access
        self.size = access.size
        self._start = 0
        self._block = b""

    def read_at(self, offset: int, length: int) -> bytes:
        """Return `length` bytes, fewer at the end of the file."""
        first = offset - self._start
        if not 0 <= first <= first + length <= len(self._block):
            self._start, first = offset, 0
            self._block = bytes(self._access.read_at(offset, max(length, _BLOCK)))
        return self._block[first : first + length]

    def close(self) -> None:
        """Do nothing: the file belongs to the caller."""


class Joined:
    """Parts, one after the other, as one file.

    Parameters
    ----------
    access
        The original file; closed with this one.
    parts
        In the order of the result.
    """

    def __init__(self, access: RandomAccess, parts: list[DicomPart]) -> None:
        self._access = access
        self._parts = [part for part in parts if part.length]
        self._ends = list(accumulate(part.length for part in self._parts))
        self.size = self._ends[-1]

    def read_at(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes; fewer only at the end of the file."""
        found = []
        stop = min(offset + length, self.size)
        number = bisect.bisect_right(self._ends, offset)
        while offset < stop:
            part, end = self._parts[number], self._ends[number]
            size = min(stop, end) - offset
            found.append(part.read(offset - (end - part.length), size))
            offset += size
            number += 1
        return b"".join(found)

    def close(self) -> None:
        """Close the file, and remove its frames from the cache."""
        for decoder in {part.decoder for part in self._parts if isinstance(part, DicomFrame)}:
            decoder.forget()
        self._access.close()
