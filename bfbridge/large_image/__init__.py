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
from bfbridge.errors import BfbridgeError
from bfbridge.large_image import constants, exceptions
from bfbridge.large_image.constants import (
    TILE_FORMAT_IMAGE,
    TILE_FORMAT_NUMPY,
    TILE_FORMAT_PIL,
    TileOutputMimeTypes,
)
from bfbridge.large_image.encoding import ImageBytes
from bfbridge.large_image.exceptions import (
    TileSourceError,
    TileSourceFileNotFoundError,
    TileSourceRangeError,
    TileSourceXYZRangeError,
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
    "canReadList",
    "constants",
    "exceptions",
    "getTileSource",
    "listExtensions",
    "listMimeTypes",
    "listSources",
    "new",
    "open",
]


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


def canRead(path: str | os.PathLike[str], mimeType: str | None = None, **options: Any) -> bool:
    """Return whether `open` opens the file `path` with these `options`.

    The `mimeType` is accepted; a backend is chosen by a file's content.
    """
    del mimeType
    return _backend_of(path, options) is not None


def canReadList(
    path: str | os.PathLike[str], mimeType: str | None = None, **options: Any
) -> list[tuple[str, bool]]:
    """Return the name of each backend, and whether it opens the file `path` with these `options`.

    The first one is that which `open` uses, if the file can be opened. The file is opened once by
    each backend; Bio-Formats starts its JVM. The `mimeType` is accepted, and not used.
    """
    del mimeType
    used = _backend_of(path, options)
    others = [entry.name for entry in _readers() if entry.name != used]
    given = {key: value for key, value in options.items() if key != "backend"}
    found = [(name, _backend_of(path, {**given, "backend": name}) is not None) for name in others]
    return found if used is None else [(used, True), *found]


def _readers() -> list[registry.Entry]:
    """Return the backends that a file can be opened with."""
    # Those of the package itself are made from lists of files and from arrays.
    ours = [entry for entry in registry.BACKENDS if not entry.module.startswith("bfbridge.")]
    return [*ours, *registry.third_party()]


def _backend_of(path: Any, options: dict[str, Any]) -> str | None:
    """Return the name of the backend that opens a file with these options, None without one."""
    try:
        with open(path, **options) as source:
            return source._reader.backend
    except BfbridgeError:
        return None


def listSources() -> dict[str, dict[str, Any]]:
    """Return the backends that read files, by name.

    Returns
    -------
    dict
        ``sources``: by backend, ``extensions`` with a priority each, of those that it also writes;
        a backend is chosen by a file's content; ``mimeTypes`` likewise, of formats that it reads.
        ``extensions``: pairs of priority and backend by suffix without its dot. ``mimeTypes``:
        pairs of priority and backend by MIME type.
    """
    found: dict[str, dict[str, Any]] = {"sources": {}, "extensions": {}, "mimeTypes": {}}
    for priority, entry in enumerate(_readers()):
        names = {
            "extensions": [suffix.lstrip(".") for suffix in entry.suffixes],
            "mimeTypes": entry.mime_types,
        }
        found["sources"][entry.name] = {
            kind: dict.fromkeys(each, priority) for kind, each in names.items()
        }
        for kind, each in names.items():
            for name in each:
                found[kind].setdefault(name, []).append((priority, entry.name))
    return found


def listExtensions() -> list[str]:
    """Return the suffixes of `listSources`, sorted."""
    return sorted(listSources()["extensions"])


def listMimeTypes() -> list[str]:
    """Return the MIME types of `listSources`, sorted."""
    return sorted(listSources()["mimeTypes"])
