"""Computed levels of large images, kept in the user's cache folder between processes.

Displaying an image of more than 16 384 x 16 384 pixels takes minutes if its file has no lower
levels. Computed chunks are therefore stored, so that the work is done once and can be continued.
They are stored under a digest of the file's content stamp (path, size and time of every file that
belongs to it), never next to the file; a changed file has another stamp. When the folder exceeds
its limit, the least recently used images are removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import threading
import time
import zlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bfbridge.errors import BadArgument
from bfbridge.runtime.systems import cache_folder, replace
from bfbridge.storage.cache_folder import MARK, CacheFolder

if TYPE_CHECKING:
    from bfbridge.backend import Shape5
    from bfbridge.views import ImageView

__all__ = ["VARIABLE", "ChunkFiles", "default_cache", "files_of"]

Array = np.ndarray[Any, Any]
VARIABLE: Final = "BFBRIDGE_PYRAMID_CACHE"
"""Environment variable: maximum size of the cache, such as ``20g``; 0 disables it."""
LARGE: Final = 1 << 28
"""Computed chunks are stored for planes of at least this number of pixels."""
_MOST_BYTES: Final = 8 << 30
_FORMAT: Final = 1
"""Part of the digest; change it with the method of computing or storing chunks."""
_HEADER: Final = struct.Struct("<4sII")
_MAGIC: Final = b"bfpc"
_UNITS: Final = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


class ChunkFiles:
    """The computed chunks of one image.

    Parameters
    ----------
    cache
        The folder they are stored in.
    digest
        Identifies the content of the image's file and how its chunks are computed.
    """

    def __init__(self, cache: CacheFolder, digest: str) -> None:
        self._cache = cache
        self._entry = cache.folder / digest
        self._marked = 0.0
        self._writes = True

    def load(self, name: str, index: Shape5, shape: Shape5, dtype: np.dtype[Any]) -> Array | None:
        """Return a chunk, or None if it is not stored or damaged.

        Parameters
        ----------
        name
            Name of the image and its level.
        index
            Position in the level's grid.
        shape, dtype
            Shape and dtype of the pixels.
        """
        try:
            data = self._path(name, index).read_bytes()
        except OSError:
            return None
        if len(data) < _HEADER.size:
            return None
        magic, length, checksum = _HEADER.unpack_from(data)
        body = memoryview(data)[_HEADER.size :]
        if magic != _MAGIC or length != len(body) or checksum != zlib.crc32(body):
            return None
        pixels = np.empty(shape, dtype)
        try:
            raw = _decode(body, pixels.nbytes)
        except (RuntimeError, ValueError, zlib.error):
            return None
        if len(raw) != pixels.nbytes:
            return None
        little = dtype.newbyteorder("<")
        pixels[...] = np.frombuffer(raw, little).reshape(shape)
        pixels.flags.writeable = False
        self._touch()
        return pixels

    def save(self, name: str, index: Shape5, pixels: Array) -> None:
        """Store a chunk, unless the cache or the disk is full."""
        if not self._writes:
            return
        little = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
        body = _encode(little.reshape(-1).view(np.uint8))
        data = _HEADER.pack(_MAGIC, len(body), zlib.crc32(body)) + bytes(body)
        if not self._cache.make_room(len(data), self._entry):
            self._writes = False
            return
        path = self._path(name, index)
        partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
        try:
            self._cache.make()
            path.parent.mkdir(parents=True, exist_ok=True)
            self._touch()
            partial.write_bytes(data)
            replace(partial, path)
        except OSError:
            # A full or read-only disk: chunks are computed again when needed.
            self._writes = False
            with contextlib.suppress(OSError):
                partial.unlink()

    def _path(self, name: str, index: Shape5) -> Path:
        return self._entry / name / ".".join(map(str, index))

    def _touch(self) -> None:
        """Record that the image is in use, at most once a minute."""
        if time.monotonic() - self._marked > 60 or not self._marked:
            self._marked = time.monotonic()
            with contextlib.suppress(OSError):
                (self._entry / MARK).touch()


def _encode(flat: Array) -> bytes:
    try:
        import imagecodecs
    except ImportError:
        return zlib.compress(flat.data, 1)
    return bytes(imagecodecs.zstd_encode(flat, 1))


def _decode(body: memoryview, length: int) -> bytes:
    if bytes(body[:4]) == b"\x28\xb5\x2f\xfd":  # Zstandard's magic number (RFC 8878)
        import imagecodecs

        return bytes(imagecodecs.zstd_decode(body, out=length))
    return zlib.decompressobj().decompress(body, length)


@lru_cache(maxsize=8)
def _cache_at(folder: Path, max_bytes: int) -> CacheFolder:
    return CacheFolder(folder, max_bytes)


def default_cache() -> CacheFolder:
    """Return the cache in the user's folder, limited by ``BFBRIDGE_PYRAMID_CACHE``.

    Raises
    ------
    BadArgument
        The variable is not a number of bytes.
    """
    return _cache_at(cache_folder() / "pyramids", _bound(os.environ.get(VARIABLE, "")))


def _bound(text: str) -> int:
    text = text.strip().lower()
    if not text:
        return _MOST_BYTES
    unit = _UNITS.get(text[-1], 1)
    digits = text[:-1] if text[-1] in _UNITS else text
    if not digits.isdecimal():
        raise BadArgument(f"{VARIABLE}={text!r}: give a number of bytes, such as 20g, or 0.")
    return int(digits) * unit


def files_of(view: ImageView, method: str) -> ChunkFiles | None:
    """Return the storage for computed chunks of an image, or None if they are not stored.

    Chunks of bytes, open files and URLs are not stored: a change of content cannot be noticed.

    Parameters
    ----------
    view
        The image at full size.
    method
        Method for computing the missing levels.
    """
    file = view._file
    if view.sizes["Y"] * view.sizes["X"] < LARGE or file.source.path is None:
        return None
    cache = default_cache()
    if not cache.max_bytes:
        return None
    options = file.options
    identity = (
        _FORMAT,
        file.stamp,
        view.backend,
        options.group_files,
        options.allow_outside,
        repr(sorted(options.backend_options.items())),
        method,
        view.index,
        tuple(view.sizes.values()),
        view.dtype.str,
    )
    return ChunkFiles(cache, hashlib.sha256(repr(identity).encode()).hexdigest()[:32])
