"""large_image's daily calls, for scripts that have them: ``from bfbridge import large_image``.

>>> source = large_image.open("slide.svs")                              # doctest: +SKIP
>>> region, _ = source.getRegion(                                       # doctest: +SKIP
...     region={"left": 1, "top": 2, "width": 3, "height": 4, "units": "mm"},
...     scale={"magnification": 10}, format=large_image.TILE_FORMAT_NUMPY)

Names, units and results are those of large_image 1.35 (https://girder.github.io/large_image/).
Differences: pixels that are made smaller are means; tile levels that the file lacks are means too;
colour profiles are applied only with the style ``{"icc": True}``. `NewTileSource` names those of
new images, `MapTileSource` those of georeferenced rasters in a projection.
"""

from __future__ import annotations

import os
from typing import Any

from bfbridge import registry
from bfbridge.errors import BadSelection, BfbridgeError, FileMissing
from bfbridge.large_image.encoding import (
    MIME_TYPES,
    TILE_FORMAT_IMAGE,
    TILE_FORMAT_NUMPY,
    TILE_FORMAT_PIL,
    ImageBytes,
)
from bfbridge.large_image.maps import MapTileSource
from bfbridge.large_image.sink import NewTileSource
from bfbridge.large_image.source import TileSource
from bfbridge.large_image.tiles import Tile, TileIterator

__all__ = [
    "TILE_FORMAT_IMAGE",
    "TILE_FORMAT_NUMPY",
    "TILE_FORMAT_PIL",
    "ImageBytes",
    "MapTileSource",
    "NewTileSource",
    "Tile",
    "TileIterator",
    "TileOutputMimeTypes",
    "TileSource",
    "TileSourceError",
    "TileSourceFileNotFoundError",
    "TileSourceRangeError",
    "TileSourceXYZRangeError",
    "canRead",
    "getTileSource",
    "listExtensions",
    "listSources",
    "new",
    "open",
]

TileOutputMimeTypes = MIME_TYPES
"""MIME type by encoding."""
TileSourceError = BfbridgeError
"""Base class of the errors of this package."""
TileSourceFileNotFoundError = FileMissing
TileSourceRangeError = BadSelection
TileSourceXYZRangeError = BadSelection


def open(  # noqa: A001 - large_image's name
    path: Any, *, projection: Any = None, unitsPerPixel: float | None = None, **options: Any
) -> TileSource:
    """Open an image file as a tile source.

    Parameters
    ----------
    path
        Whatever `BioReader` takes, or an open `BioReader`.
    projection, unitsPerPixel
        Of a georeferenced raster: the projection whose tiles it has; see `MapTileSource`. Default:
        the pixels of the file.
    **options
        Keyword arguments of `TileSource`: encoding, style, edge, series, ...

    Raises
    ------
    BfbridgeError
        As `BioReader`.
    """
    if projection is None:
        return TileSource(path, **options)
    return MapTileSource(path, projection=projection, unitsPerPixel=unitsPerPixel, **options)


def getTileSource(path: Any, **options: Any) -> TileSource:
    """Open the image file `path` as a tile source, with the `options` of `open`."""
    return open(path, **options)


def new() -> NewTileSource:
    """Start an image without a size: add tiles with `addTile`, and store it with `write`."""
    return NewTileSource()


def canRead(path: str | os.PathLike[str], **options: Any) -> bool:
    """Return whether `open` opens the file `path` with these `options`."""
    try:
        with open(path, **options):
            return True
    except BfbridgeError:
        return False


def listSources() -> dict[str, dict[str, Any]]:
    """Return the backends that read files, by name.

    Returns
    -------
    dict
        ``sources``: by backend, ``extensions`` with a priority each, of those that it also writes;
        a backend is chosen by a file's content. ``extensions``: pairs of priority and backend by
        suffix without its dot. ``mimeTypes``: empty.
    """
    found: dict[str, dict[str, Any]] = {"sources": {}, "extensions": {}, "mimeTypes": {}}
    for priority, entry in enumerate(registry.BACKENDS):
        names = dict.fromkeys(suffix.lstrip(".") for suffix in entry.suffixes)
        found["sources"][entry.name] = {
            "extensions": dict.fromkeys(names, priority), "mimeTypes": {},
        }  # fmt: skip
        for name in names:
            found["extensions"].setdefault(name, []).append((priority, entry.name))
    return found


def listExtensions() -> list[str]:
    """Return the suffixes of `listSources`, sorted."""
    return sorted(listSources()["extensions"])
