"""The backend contract: records that describe images, and an abstract class for each direction.

Arrays have the five axes T, C, Z, Y, X, native byte order and any strides. C counts channels x
samples, the sample fastest, like the effective channels of Bio-Formats.

Methods take `image`, the number of an image of the file, and `level`, the number of one of its
levels; `index` is the grid position of a chunk along T, C, Z, Y, X; `options` are those of the
reader or writer; `stored` is the encoding of the chunks of another file, of shape `chunk`.

A backend does not use numpy keys, thread pools, caches, pyramids, progress, temporary names, or
other backends. All methods documented as thread-safe are called from many threads at once.

The optional part for formats that store each chunk separately is `bfbridge.chunked_store`, and
readers of one file share `bfbridge.reader_base`. Imported by backends and by everything above
`bfbridge.limits`, except `bfbridge.storage`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bfbridge.backend.chunk_grid import AXES, ChunkGrid, Shape5, StoredAs, StoredRanges
from bfbridge.backend.georeference import GeoReference
from bfbridge.backend.images import (
    Channel,
    Image,
    Level,
    Modulo,
    PixelSize,
    Placement,
    Quantity,
    Region,
    Role,
)
from bfbridge.backend.readers import OpenOptions, ReaderBackend

if TYPE_CHECKING:
    from bfbridge.backend.writers import Extras, ImageSpec, WriterBackend

__all__ = [
    "AXES",
    "Channel",
    "ChunkGrid",
    "Extras",
    "GeoReference",
    "Image",
    "ImageSpec",
    "Level",
    "Modulo",
    "OpenOptions",
    "PixelSize",
    "Placement",
    "Quantity",
    "ReaderBackend",
    "Region",
    "Role",
    "Shape5",
    "StoredAs",
    "StoredRanges",
    "WriterBackend",
]


def __getattr__(name: str) -> Any:
    # Reading a file does not import the contract of writers.
    if name in ("Extras", "ImageSpec", "WriterBackend"):
        from bfbridge.backend import writers

        return getattr(writers, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
