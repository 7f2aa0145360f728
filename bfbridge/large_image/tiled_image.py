"""Opening a tile source, and its tiles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from bfbridge.errors import BadArgument, BadSelection
from bfbridge.large_image.description import Description
from bfbridge.large_image.encoding import (
    TILE_FORMAT_IMAGE,
    TILE_FORMAT_NUMPY,
    TILE_FORMAT_PIL,
    Encoder,
    as_image,
    color_of,
    formats_of,
)
from bfbridge.large_image.frames import Frames
from bfbridge.large_image.tiles import Tile, TileIterator
from bfbridge.large_image.tiling import plan_tiles
from bfbridge.reader import BioReader
from bfbridge.rendering.palettes import parse_color
from bfbridge.rendering.style import parse_style
from bfbridge.runtime.arguments import flag, whole
from bfbridge.virtual.boxes import level_sides

if TYPE_CHECKING:
    from bfbridge.views import ImageView

__all__ = ["TiledImage"]

Array = np.ndarray[Any, Any]
_PLAN: Final = (
    "region", "scale", "output", "tile_size", "tile_overlap", "tile_offset", "tile_position",
)  # fmt: skip
_ENCODING: Final = ("encoding", "jpegQuality", "jpegSubsampling", "tiffCompression")


class TiledImage(Description):
    """An open image file and its tiles; see `bfbridge.large_image.TileSource`."""

    def __init__(
        self,
        path: Any,
        encoding: str = "JPEG",
        jpegQuality: int = 95,
        jpegSubsampling: int = 0,
        tiffCompression: str = "raw",
        edge: bool | str = False,
        style: Any = None,
        noCache: bool = False,
        **options: Any,
    ) -> None:
        self._encoder = Encoder(encoding, jpegQuality, jpegSubsampling, tiffCompression)
        self._edge: bool | str = edge
        if edge == "crop":
            self._edge = True
        elif isinstance(edge, str):
            parse_color(edge)
        else:
            self._edge = flag(edge, "edge")
        self._no_cache = bool(noCache)
        if style is not None:
            parse_style(style)
        self._arguments = (
            path, encoding, jpegQuality, jpegSubsampling, tiffCompression, edge, style, noCache,
        )  # fmt: skip
        self._options = options
        self._owned = not isinstance(path, BioReader)
        reader = BioReader(path, **{"thumbnails": True, **options}) if self._owned else path
        one = "series" in options or not self._owned
        first = reader.series[reader.index]
        views = [first] if one else [first, *self._others(reader, first)]
        super().__init__(reader, Frames(views, style))

    def _others(self, reader: BioReader, first: ImageView) -> list[ImageView]:
        """Return the images that are frames beside the first."""
        return [
            view
            for view in reader.series
            if view.index != first.index
            and view.role == "image"
            and (view.sizes, view.dtype, view.samples_per_pixel)
            == (first.sizes, first.dtype, first.samples_per_pixel)
        ]

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), **self._options), self._arguments

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the file, unless it was given as a reader."""
        if self._owned:
            self._reader.close()

    def __repr__(self) -> str:
        return f"<TileSource {self.name!r}, {self.sizeX} x {self.sizeY}, {self.frames} frames>"

    # ---- pictures

    @property
    def encoding(self) -> str:
        """Encoding of pictures for calls that give none."""
        return self._encoder.encoding

    @property
    def style(self) -> Any:
        """The style, or None. It can be set on a source opened with ``noCache=True``."""
        return self._frames.style

    @style.setter
    def style(self, value: Any) -> None:
        if not self._no_cache:
            raise BadArgument(
                "the style of a source is set when it is opened, or with noCache=True."
            )
        if value is not None:
            parse_style(value)
        self._frames.style = value
        self._arguments = (*self._arguments[:6], value, self._arguments[7])

    # ---- tiles

    def getTileMimeType(self) -> str:
        """Return the MIME type of encoded tiles."""
        return self._encoder.mime_type

    def getTile(
        self,
        x: int,
        y: int,
        z: int,
        pilImageAllowed: bool = False,
        numpyAllowed: bool | str = False,
        sparseFallback: bool = False,
        frame: int | None = None,
    ) -> Any:
        """Return a tile.

        Parameters
        ----------
        x, y
            Column and row of the level's tiles, from 0.
        z
            Tile level: 0 is one tile, ``levels - 1`` full size. All levels can be read, those that
            the file lacks are computed.
        pilImageAllowed, numpyAllowed
            Whether the result may be a Pillow image, or an array (Y, X, bands).
        sparseFallback
            Accepted for large_image's sake: no tile is missing.
        frame
            Number of the frame. Default: the first.

        Returns
        -------
        ImageBytes, PIL.Image.Image or numpy.ndarray
            An encoded picture unless another result is allowed.

        Raises
        ------
        BadSelection
            There is no such tile or frame.
        """
        del sparseFallback
        x, y, z = (whole(n, name, -(2**31)) for n, name in ((x, "x"), (y, "y"), (z, "z")))
        if not 0 <= z < self.levels:
            raise BadSelection(f"{self.name}: there is no tile level {z}; it has {self.levels}.")
        halvings = self.levels - 1 - z
        height, width = self._level_sides(halvings)
        top, left = y * self.tileHeight, x * self.tileWidth
        if not (0 <= top < height and 0 <= left < width):
            raise BadSelection(
                f"{self.name}: there is no tile {x}, {y} at level {z}; it has "
                f"{-(-width // self.tileWidth)} x {-(-height // self.tileHeight)}."
            )
        box = (top, left, min(height, top + self.tileHeight), min(width, left + self.tileWidth))
        formats = (
            TILE_FORMAT_NUMPY if numpyAllowed
            else TILE_FORMAT_PIL if pilImageAllowed else TILE_FORMAT_IMAGE,
        )  # fmt: skip
        pixels = self._frames.read(frame, halvings, box, picture=not numpyAllowed)
        return self._delivered(self._edged(pixels), formats, self._encoder)[0]

    def _level_sides(self, halvings: int) -> tuple[int, int]:
        """Return height and width of a tile level."""
        return level_sides(self._frames.pyramid(0), halvings)

    def _edged(self, pixels: Array) -> Array:
        """Return a tile cropped or padded according to `edge`."""
        missing = (self.tileHeight - pixels.shape[0], self.tileWidth - pixels.shape[1])
        if self._edge is True or missing == (0, 0):
            return pixels
        whole_tile = np.zeros((self.tileHeight, self.tileWidth, pixels.shape[2]), pixels.dtype)
        if isinstance(self._edge, str):
            whole_tile[:] = color_of(self._edge, pixels.shape[2], pixels.dtype)
        whole_tile[: pixels.shape[0], : pixels.shape[1]] = pixels
        return whole_tile

    def tileIterator(
        self, format: Any = (TILE_FORMAT_NUMPY,), resample: Any = True,  # noqa: A002 - its name
        frame: int | None = None, **options: Any,
    ) -> TileIterator:  # fmt: skip
        """Iterate over the tiles of a region; pixels are read when a tile's "tile" is looked at.

        Parameters
        ----------
        format
            "numpy", "PIL" or "image" (encoded), or several of them.
        resample
            Whether tiles are made to fit `scale` or `output` exactly; or one of Pillow's numbers
            of a method. False and None give tiles of the next finer level.
        frame
            Number of the frame.
        **options
            ``region`` (left, top, right, bottom, width, height, units, unitsWH), ``scale``
            (magnification, mm_x, mm_y, exact), ``output`` (maxWidth, maxHeight), ``tile_size``
            (width, height), ``tile_overlap`` (x, y, edges, and units as of regions; default: pixels
            of the tiles), ``tile_offset`` (left, top, auto), ``tile_position`` (a number, or
            region_x and region_y, or level_x and level_y); encoding, jpegQuality, jpegSubsampling,
            tiffCompression.

        Returns
        -------
        TileIterator
            Yields a `Tile` at a time. ``len()`` is their number.

        Raises
        ------
        BadArgument, BadSelection
            Options that make no sense, or a frame that there is not.
        """
        encoder, planned = self._read_options(options)
        plan = plan_tiles(
            self._geometry, **planned, resample=resample is not False and resample is not None
        )
        return TileIterator(
            self, plan, frame=frame, formats=formats_of(format), encoder=encoder, resample=resample
        )

    def getSingleTile(self, *args: Any, **options: Any) -> Tile | None:
        """Return the first tile of `tileIterator`, or None."""
        return next(self.tileIterator(*args, **options), None)

    def getTileCount(self, *args: Any, **options: Any) -> int:
        """Return the number of tiles of the whole region of `tileIterator`."""
        info = self.tileIterator(*args, **options).info
        return 0 if info is None else int(info["tile_count"])

    def tileIteratorAtAnotherScale(
        self,
        sourceRegion: Mapping[str, Any],
        sourceScale: Mapping[str, Any] | None = None,
        targetScale: Mapping[str, Any] | None = None,
        targetUnits: str | None = None,
        **options: Any,
    ) -> TileIterator:
        """Return the result of `tileIterator` for a region that is given at another scale."""
        region = self.convertRegionScale(sourceRegion, sourceScale, targetScale, targetUnits)
        return self.tileIterator(region=region, scale=targetScale, **options)

    def eagerIterator(self, **options: Any) -> Iterator[Tile]:
        """As `tileIterator`, with pixels that several threads read ahead.

        Raises
        ------
        BadArgument
            An option that `tileIterator` does not have.
        """
        return self.tileIterator(**options).read_ahead()

    def getSingleTileAtAnotherScale(self, *args: Any, **options: Any) -> Tile | None:
        """Return the first tile of `tileIteratorAtAnotherScale`, or None."""
        return next(self.tileIteratorAtAnotherScale(*args, **options), None)

    def _read_options(self, options: Mapping[str, Any]) -> tuple[Encoder, dict[str, Any]]:
        """Return the encoder and the options of a plan."""
        unknown = set(options) - {*_PLAN, *_ENCODING}
        if unknown:
            raise BadArgument(
                f"{min(unknown)}=: there is no such option; there are "
                f"{', '.join((*_PLAN, *_ENCODING))}."
            )
        planned = {k: v for k, v in options.items() if k in _PLAN}
        if planned.get("region") is not None:
            planned["region"] = self._in_pixels(planned["region"])
        return self._encoder_of(options), planned

    def _encoder_of(self, options: Mapping[str, Any]) -> Encoder:
        if not any(name in options for name in _ENCODING):
            return self._encoder
        default = dict(zip(_ENCODING, self._arguments[1:5], strict=True))
        return Encoder(**{name: options.get(name, default[name]) for name in _ENCODING})

    def _delivered(
        self, pixels: Array, formats: Sequence[str], encoder: Encoder
    ) -> tuple[Any, str]:
        """Return pixels in the first format of array, image, encoded picture; and which it is."""
        if TILE_FORMAT_NUMPY in formats:
            return pixels, TILE_FORMAT_NUMPY
        if TILE_FORMAT_PIL in formats:
            return as_image(pixels), TILE_FORMAT_PIL
        return encoder.encode(pixels), TILE_FORMAT_IMAGE
