"""`TileSource`: large_image's calls over a `BioReader`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bfbridge.errors import BadArgument, BadSelection
from bfbridge.large_image import statistics as statistics_of_tiles
from bfbridge.large_image.encoding import (
    TILE_FORMAT_IMAGE,
    TILE_FORMAT_NUMPY,
    TILE_FORMAT_PIL,
    Encoder,
    formats_of,
    letterboxed,
    to_eight_bits,
    write_tiled,
)
from bfbridge.large_image.frames import Frames
from bfbridge.large_image.regions.coordinates import box_at_control_points
from bfbridge.large_image.regions.geometry import fit
from bfbridge.large_image.tiled_image import TiledImage
from bfbridge.large_image.tiles import method_of
from bfbridge.large_image.tiling import TilePlan, plan_tiles
from bfbridge.runtime.arguments import whole

if TYPE_CHECKING:
    from bfbridge.views import ImageView

__all__ = ["TileSource"]

Array = np.ndarray[Any, Any]
_THUMBNAIL: Final = 256


class TileSource(TiledImage):
    """An image file as large_image shows it: tile levels that are powers of two, and frames.

    Pixels without a style are those of the file. With one, and in pictures of more than 8 bits,
    they are drawn as `ImageView.render` does. Methods may be called by any thread.

    Parameters
    ----------
    path
        Whatever `BioReader` takes, or an open `BioReader`, which then stays open.
    encoding
        Of pictures: "JPEG", "JFIF", "PNG", "WEBP", "TIFF", or, of regions, "TILED".
    jpegQuality, jpegSubsampling, tiffCompression
        As in `Encoder`.
    edge
        Tiles at the right and bottom edges of a level are whole and filled with 0 (False), cut
        (True, "crop"), or filled with a colour.
    style
        A dictionary or JSON; see `bfbridge.rendering.style`.
    noCache
        Whether `style` may be set later.
    **options
        Further keyword arguments of `BioReader`. With ``series=`` frames are those of one image;
        else images as large as the first are frames along the axis XY.

    Raises
    ------
    BadArgument
        An option that makes no sense.
    BfbridgeError
        As `BioReader`.
    """

    def _repr_png_(self) -> bytes:
        return bytes(self.getThumbnail(encoding="PNG")[0])

    # ---- regions

    def getRegion(
        self, format: Any = (TILE_FORMAT_IMAGE,), frame: int | None = None,  # noqa: A002
        resample: Any = True, fill: str | None = None, **options: Any,
    ) -> tuple[Any, str]:  # fmt: skip
        """Return a region, cut to the image where it leaves it.

        Parameters
        ----------
        format
            "numpy", "PIL" or "image" (encoded), or several of them.
        frame
            Number of the frame.
        resample
            True, or one of Pillow's numbers of a method; None or False for the nearest pixels.
        fill
            With both ``maxWidth`` and ``maxHeight``: a colour around the picture, so that it has
            this size; "corner:" before it puts the picture at the top left.
        **options
            ``region``, ``scale``, ``output`` and those of the encoding, as in `tileIterator`.

        Returns
        -------
        (data, kind)
            An array (Y, X, bands), a Pillow image, or `ImageBytes`, and the format, or the MIME
            type of a picture. With the encoding "TILED", a `pathlib.Path` of a tiled OME-TIFF with
            a pyramid, in a temporary folder of its own which is the caller's to remove.

        Raises
        ------
        BadArgument, BadSelection
            Options that make no sense, or a frame that there is not.
        """
        formats = formats_of(format)
        given = {name: value for name, value in options.items() if name != "tile_position"}
        encoder, planned = self._read_options(given)
        self._frames.position(frame)
        plan = plan_tiles(self._geometry, **planned)
        if plan is None:
            empty = np.zeros((0, 0, self.bandCount), self.dtype)
            return self._finished(empty, formats, encoder)
        picture = TILE_FORMAT_NUMPY not in formats and not encoder.keeps_bits
        shrink = (plan.region[2] - plan.region[0]) / plan.output[0]
        method = "nearest" if resample in (None, False) else method_of(resample, shrink)
        draw = partial(
            self._frames.draw, frame, plan.region, plan.output, method=method, picture=picture
        )
        if encoder.encoding == "TILED" and set(formats) == {TILE_FORMAT_IMAGE}:
            return self._tiled(plan, draw), encoder.mime_type
        pixels = draw()
        limits = planned.get("output") or {}
        if fill and limits.get("maxWidth") and limits.get("maxHeight"):
            eight = pixels if TILE_FORMAT_NUMPY in formats else to_eight_bits(pixels)
            pixels = letterboxed(eight, limits["maxWidth"], limits["maxHeight"], fill)
        return self._finished(pixels, formats, encoder)

    def _tiled(self, plan: TilePlan, draw: Any) -> Path:
        g = self._geometry
        shrink = (plan.region[2] - plan.region[0]) / plan.output[0]
        size = None if not g.mm_x or not g.mm_y else (g.mm_x * shrink, g.mm_y * shrink)
        return write_tiled(plan.output, draw, size, Path(self.name).name)

    def _finished(self, pixels: Array, formats: Sequence[str], encoder: Encoder) -> tuple[Any, str]:
        if pixels.size == 0 and TILE_FORMAT_NUMPY not in formats and TILE_FORMAT_PIL in formats:
            raise BadArgument(f"{self.name}: the region is empty, and Pillow has no empty images.")
        data, kind = self._delivered(pixels, formats, encoder)
        return data, encoder.mime_type if kind == TILE_FORMAT_IMAGE else kind

    def getGeospatialRegion(
        self,
        src_projection: Any,
        src_gcps: Sequence[Sequence[float]],
        dest_projection: Any,
        dest_region: Mapping[str, Any],
        **options: Any,
    ) -> tuple[Any, str]:
        """Return a region in coordinates of an image whose place ground control points define.

        Parameters
        ----------
        src_projection
            Reference system of the control points.
        src_gcps
            x and y in `src_projection`, column and row of each control point.
        dest_projection
            Reference system of the region.
        dest_region
            Its left, top, right and bottom.
        **options
            Those of `getRegion`.

        Raises
        ------
        BadArgument
            There is no such reference system, or the control points define no transform.
        MissingExtra
            rasterio is not installed.
        """
        found = box_at_control_points(dest_region, dest_projection, src_gcps, src_projection)
        sizes = (self.sizeX, self.sizeY) * 2
        edges = [min(max(0, int(edge)), size) for edge, size in zip(found, sizes, strict=True)]
        region = dict(zip(("left", "top", "right", "bottom"), edges, strict=True))
        return self.getRegion(region=region, **options)

    def getRegionAtAnotherScale(
        self,
        sourceRegion: Mapping[str, Any],
        sourceScale: Mapping[str, Any] | None = None,
        targetScale: Mapping[str, Any] | None = None,
        targetUnits: str | None = None,
        **options: Any,
    ) -> tuple[Any, str]:
        """Return the result of `getRegion` for a region that is given at another scale.

        `sourceRegion`, `sourceScale`, `targetScale` and `targetUnits` are those of
        `convertRegionScale`, `options` those of `getRegion`.
        """
        region = self.convertRegionScale(sourceRegion, sourceScale, targetScale, targetUnits)
        return self.getRegion(region=region, scale=targetScale, **options)

    def getThumbnail(
        self, width: int | None = None, height: int | None = None, **options: Any
    ) -> tuple[Any, str]:
        """Return the whole image within a width and height, by default 256 x 256.

        Parameters
        ----------
        width, height
            Limits, 2 or more; one alone limits that side.
        **options
            As in `getRegion`, but ``region`` and ``output``.
        """
        limits = [
            None if n is None else whole(n, name, 2)
            for n, name in ((width, "width"), (height, "height"))
        ]
        if limits == [None, None]:
            limits = [_THUMBNAIL, _THUMBNAIL]
        given = {name: value for name, value in options.items() if name not in ("region", "output")}
        given["output"] = {"maxWidth": limits[0], "maxHeight": limits[1]}
        return self.getRegion(**self._of_image(given))

    def _of_image(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return options with the region of the whole image, if they have none."""
        return options

    def tileFrames(
        self, format: Any = (TILE_FORMAT_IMAGE,), frameList: Sequence[int] | None = None,  # noqa: A002
        framesAcross: int | None = None, **options: Any,
    ) -> tuple[Any, str]:  # fmt: skip
        """Return a region of several frames beside and below each other, row by row.

        Parameters
        ----------
        format, **options
            As in `getRegion`.
        frameList
            Numbers of frames; those that there are not are left out. Default: all.
        framesAcross
            Frames in a row. Default: the square root of their number, rounded up.
        """
        formats = formats_of(format)
        options.pop("frame", None)
        numbers = [n for n in frameList or () if 0 <= n < self.frames] or list(range(self.frames))
        across = min(len(numbers), framesAcross or math.ceil(len(numbers) ** 0.5))
        as_array = formats if TILE_FORMAT_NUMPY in formats else (TILE_FORMAT_PIL,)
        parts = [np.asarray(self.getRegion(as_array, frame=n, **options)[0]) for n in numbers]
        parts = [part[..., np.newaxis] if part.ndim == 2 else part for part in parts]
        rows, columns, bands = parts[0].shape
        down = -(-len(parts) // across)
        found = np.zeros((rows * down, columns * across, bands), parts[0].dtype)
        for place, part in enumerate(parts):
            y, x = divmod(place, across)
            found[y * rows : (y + 1) * rows, x * columns : (x + 1) * columns] = part
        return self._finished(found, formats, self._encoder_of(options))

    # ---- associated images

    def _associated(self) -> dict[str, ImageView]:
        frames = {view.index for view in self._frames.views}
        found = {
            f"image{view.index}": view
            for view in self._reader.series
            if view.role == "image" and view.index not in frames
        }
        return {**self._reader.associated, **found}

    def getAssociatedImagesList(self) -> list[str]:
        """Return the names of label, macro and thumbnail, and of images that are no frames."""
        return sorted(self._associated())

    def getAssociatedImage(
        self, imageKey: str, width: int | None = None, height: int | None = None,
        format: Any = (TILE_FORMAT_IMAGE,), **options: Any,  # noqa: A002 - its name
    ) -> tuple[Any, str] | None:  # fmt: skip
        """Return an associated image, or None where there is none of this name.

        Parameters
        ----------
        imageKey
            One of `getAssociatedImagesList`.
        width, height
            Limits that it is made to fit; one alone limits that side.
        format, **options
            As in `getRegion`.
        """
        view = self._associated().get(imageKey)
        if view is None:
            return None
        formats = formats_of(format)
        encoder, _ = self._read_options(options)
        full = (view.sizes["X"], view.sizes["Y"])
        size = full
        if width or height:
            most = [None if not n else whole(n, "width, height", 1) for n in (width, height)]
            size = fit(most[0], most[1], *full)[:2]
        pixels = Frames([view]).draw(
            None, (0, 0, *full), size, picture=TILE_FORMAT_NUMPY not in formats
        )
        return self._finished(pixels, formats, encoder)

    # ---- values

    def getPixel(self, includeTileRecord: bool = False, **options: Any) -> dict[str, Any]:
        """Return one pixel.

        Parameters
        ----------
        includeTileRecord
            Whether the tile that it is taken from is in the result.
        **options
            As in `tileIterator`; ``region`` has left and top, and their units.

        Returns
        -------
        dict
            ``value`` has the values as stored, or as the style draws them; r, g, b and a, or l, are
            the same as 8 bits. Empty for a pixel outside the image.
        """
        region = {**dict(options.pop("region", None) or {}), "width": 1, "height": 1}
        region["unitsWH"] = "base_pixels"
        tile = self.getSingleTile(region=region, **options)
        if tile is None:
            return {}
        pixel = tile["tile"][:1, :1]
        found: dict[str, Any] = {"tile": tile} if includeTileRecord else {}
        found["value"] = pixel[0, 0].tolist()
        names = {1: "l", 2: "la", 3: "rgb"}.get(pixel.shape[2], "rgba")
        values = to_eight_bits(pixel)[0, 0].tolist()
        return {**found, **dict(zip(names, values, strict=False))}

    def histogram(
        self, dtype: Any = None, onlyMinMax: bool = False, bins: int = 256, density: bool = False,
        format: Any = None, range: Any = None, **options: Any,  # noqa: A002 - their names
    ) -> dict[str, Any]:  # fmt: skip
        """Return statistics and a histogram of each band of a region.

        Parameters
        ----------
        dtype
            Pixels must have this type; uint8 is scaled to uint16, others make an empty result.
        onlyMinMax
            Whether there are only min, max, mean and stdev.
        bins, density
            As in `numpy.histogram`; with `density` counts are divided by their sum.
        format
            Accepted for large_image's sake.
        range
            (least, greatest), None for the values there are, or "round" for whole numbers.
        **options
            As in `tileIterator`.

        Returns
        -------
        dict
            ``min``, ``max``, ``mean``, ``stdev``: an array over the bands. ``histogram``: a
            dictionary for each band with these, range, hist, bin_edges, bins, density and samples.
        """
        del format
        tiles = partial(self.tileIterator, **self._of_image(options))
        return statistics_of_tiles.histogram(
            tiles, dtype, bins, range, only=onlyMinMax, density=density
        )

    def getBandInformation(self, statistics: bool = False, **options: Any) -> dict[int, Any]:
        """Return what each band is, counted from 1.

        Parameters
        ----------
        statistics
            Whether min, max, mean and stdev are computed, of at most 2048 x 2048 pixels.
        **options
            As in `histogram`.

        Returns
        -------
        dict
            By number; ``interpretation`` is red, green, blue, gray, alpha or unknown.
        """
        names: Sequence[str] = {
            1: ["gray"], 2: ["gray", "alpha"],
        }.get(self.bandCount, ["red", "green", "blue", "alpha"])  # fmt: skip
        found: dict[int, Any] = {
            i + 1: {"interpretation": names[i] if i < len(names) else "unknown"}
            for i, _ in enumerate([None] * self.bandCount)
        }
        if statistics:
            limits = {"maxWidth": min(self.sizeX, 2048), "maxHeight": min(self.sizeY, 2048)}
            extremes = self.histogram(
                onlyMinMax=True, **{"output": limits, "resample": False, **options}
            )
            for i, band in enumerate(found.values()):
                band.update({key: extremes[key][i] for key in ("min", "max", "mean", "stdev")})
        return found

    def getOneBandInformation(self, band: int) -> dict[str, Any]:
        """Return the description of the band with number `band`, counted from 1.

        Raises
        ------
        BadSelection
            There is no such band.
        """
        known = self.getBandInformation()
        if band not in known:
            raise BadSelection(
                f"{self.name}: there is no band {band}; there are 1 to {len(known)}."
            )
        found: dict[str, Any] = known[band]
        return found
