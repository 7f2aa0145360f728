"""The codecs of a plain install: imagecodecs, or what zlib and numpy can do in its place.

Without imagecodecs, files are read and written that are uncompressed or compressed with deflate,
with any predictor. Other compressions raise `MissingExtra` when a segment is decoded or encoded.
"""

from __future__ import annotations

import zlib
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np

from bfbridge.errors import INSTALL, MissingExtra

__all__ = ["BasicCodecs", "imagecodecs"]

Array = np.ndarray[Any, np.dtype[Any]]


class BasicCodecs:
    """The functions of imagecodecs that zlib and numpy can replace, with the same arguments."""

    TIFF = SimpleNamespace(available=False)

    @staticmethod
    def deflate_decode(data: Any, *, out: Array) -> Array:
        """Decompress zlib's format into `out`; return what was filled.

        Raises
        ------
        RuntimeError
            The data is damaged, or longer than `out`.
        """
        stream = zlib.decompressobj()
        try:
            found = stream.decompress(data, len(out) + 1)
        except zlib.error as error:
            raise RuntimeError(f"zlib: {error}") from error
        if len(found) > len(out):
            raise RuntimeError("zlib: more bytes than the pixels need")
        out[: len(found)] = np.frombuffer(found, np.uint8)
        return out[: len(found)]

    @staticmethod
    def deflate_encode(data: Any, level: int) -> bytes:
        """Compress in zlib's format; libdeflate's levels above 9 are 9."""
        return zlib.compress(data, min(level, 9))

    @staticmethod
    def bitorder_decode(data: bytes) -> bytes:
        """Reverse the bits of each byte."""
        bits = np.unpackbits(np.frombuffer(data, np.uint8).reshape(-1, 1), axis=1)
        return np.packbits(bits[:, ::-1], axis=1).tobytes()

    @staticmethod
    def delta_encode(pixels: Array, *, axis: int, out: Array) -> Array:
        """Write differences to the neighbour along `axis` 1 into `out`."""
        values, target = _as_integers(pixels), _as_integers(out)
        differences = values[:, 1:] - values[:, :-1]
        target[:, :1] = values[:, :1]
        target[:, 1:] = differences
        del axis
        return out

    @staticmethod
    def delta_decode(pixels: Array, *, axis: int, out: Array) -> Array:
        """Sum differences along `axis` 1 into `out`."""
        values = _as_integers(pixels)
        _as_integers(out)[...] = np.cumsum(values, axis=axis, dtype=values.dtype)
        return out

    @staticmethod
    def floatpred_encode(pixels: Array, *, axis: int) -> Array:
        """Return rows (Y, X, samples) as TIFF technical note 3 stores them."""
        del axis
        rows, columns, samples = pixels.shape
        size = pixels.itemsize
        big = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder(">")))
        planes = big.view(np.uint8).reshape(rows, columns * samples, size).transpose(0, 2, 1)
        flat = np.ascontiguousarray(planes).reshape(rows, -1)
        stored = flat.copy()
        stored[:, samples:] -= flat[:, :-samples]
        return stored.view(pixels.dtype).reshape(pixels.shape)

    @staticmethod
    def floatpred_decode(pixels: Array, *, axis: int) -> Array:
        """Return the values of rows (Y, X, samples) that TIFF technical note 3 describes."""
        del axis
        rows, columns, samples = pixels.shape
        size = pixels.itemsize
        flat = np.ascontiguousarray(pixels).view(np.uint8).reshape(rows, -1, samples)
        planes = np.cumsum(flat, axis=1, dtype=np.uint8).reshape(rows, size, columns * samples)
        big = np.ascontiguousarray(planes.transpose(0, 2, 1)).view(pixels.dtype.newbyteorder(">"))
        return big.reshape(pixels.shape).astype(pixels.dtype.newbyteorder("="))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*_: Any, **__: Any) -> NoReturn:
            raise MissingExtra(
                f"{name.replace('_', ' ')} needs imagecodecs, which is not installed; uncompressed "
                f"and deflate TIFFs do not. Install it with: {INSTALL}"
            )

        return missing


def _as_integers(array: Array) -> Array:
    """Return floats as the integers of their bits, which differences are taken of."""
    return array.view(f"u{array.itemsize}") if array.dtype.kind == "f" else array


try:
    import imagecodecs
except ImportError:
    imagecodecs = BasicCodecs()
