"""`GeoReader`: one georeferenced raster, as it is stored or in another projection."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from affine import Affine
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window

from bfbridge.backend import (
    Channel,
    GeoReference,
    Image,
    Level,
    OpenOptions,
    PixelSize,
    Quantity,
    Region,
)
from bfbridge.errors import BadArgument, BadDtype, Unsupported
from bfbridge.limits import check, nbytes
from bfbridge.reader_base import FileReader
from bfbridge_geotiff.datasets import DatasetPool, Kit, driver_of
from bfbridge_geotiff.georeference import RasterReference, crs_named, resampling_named

if TYPE_CHECKING:
    from bfbridge.storage.source import RandomAccess, Source

__all__ = ["GeoReader"]

Array = np.ndarray[Any, Any]
_SMALLEST: Final = 512
_WARPED_CHUNK: Final = 512
_MASK: Final = 1
"""Number of the image that says which pixels have a value."""


class GeoReader(FileReader):
    """A raster of GDAL.

    Bands are channels; red, green and blue (and alpha) of the same dataset are samples of one.
    Overviews are levels. If some pixels have no value (nodata, alpha, a mask), a second image, a
    label image, is 1 where the first has values.

    Options: ``projection`` is a reference system ("EPSG:3857") in which the raster is read, as if
    it were stored so; ``resampling`` is the method for that ("nearest" by default). Nothing is
    projected before it is read.
    """

    name: ClassVar[str] = "geo"
    option_names: ClassVar[tuple[str, ...]] = ("projection", "resampling")

    def __init__(self, source: Source, access: RandomAccess, options: OpenOptions) -> None:
        head = bytes(access.read_at(0, min(access.size, 1024)))
        self._pool = DatasetPool(source, access, driver_of(source, head, access.size))
        self._levels: list[Any] = []
        self._warp: dict[str, Any] | None = None
        self._reference: RasterReference | None = None
        self._tags: dict[str, Any] = {}
        self._palettes: dict[int, Array] = {}
        self._indexes: list[int] = []
        try:
            super().__init__(source, access, options)
        except BaseException:
            self._pool.close()
            raise

    def read_structure(self, options: OpenOptions) -> Sequence[Image]:
        given = options.backend_options
        return self._pool.run(lambda kit: self._structure(kit, given))

    def _structure(self, kit: Kit, given: Mapping[str, Any]) -> Sequence[Image]:
        dataset = kit.dataset()
        if not dataset.count:
            raise Unsupported("it has no bands; it may be a container of several rasters")
        if len(set(dataset.dtypes)) > 1:
            raise Unsupported(f"its bands have different types: {', '.join(dataset.dtypes)}")
        dtype = _dtype_of(dataset.dtypes[0], self.source.name)
        check(dataset.count, self.limits.channels, "bands", self.source.name)
        self._read_tags(dataset)
        projection = given.get("projection")
        if projection is None and "resampling" in given:
            raise BadArgument("resampling= is for a raster that is projected: add projection=.")
        if projection is not None:
            levels = self._project(kit, projection, given.get("resampling", "nearest"), dtype)
        else:
            levels = self._stored_levels(kit, dtype)
            if dataset.crs is not None:
                self._reference = RasterReference(
                    self._pool, dataset.crs, dataset.transform, (dataset.height, dataset.width)
                )
        self._indexes = list(dataset.indexes)
        samples = _samples_of(dataset, dtype)
        channels = tuple(
            Channel(name=dataset.descriptions[i * samples] or None, samples=samples)
            for i in range(dataset.count // samples)
        )
        image = Image(
            name=None, levels=levels, dtype=dtype, samples=samples,
            interleaved=samples > 1 and dataset.profile.get("interleave") == "pixel",
            pixel_size=self._pixel_size(), channels=channels,
        )  # fmt: skip
        if projection is None and all(MaskFlags.all_valid in flags for flags in
                                      dataset.mask_flag_enums):  # fmt: skip
            return [image]
        planes = tuple(
            Level((1, 1, 1, *level.shape[3:]), (1, 1, 1, *level.chunk[3:])) for level in levels
        )
        mask = Image(
            name="valid", levels=planes, dtype=np.dtype(np.uint8), channels=(Channel(),),
            pixel_size=image.pixel_size, role="label", label_of=0,
        )  # fmt: skip
        return [image, mask]

    def _stored_levels(self, kit: Kit, dtype: np.dtype[Any]) -> tuple[Level, ...]:
        dataset = kit.dataset()
        self._levels = [None]
        sizes = [(dataset.height, dataset.width)]
        factors = dataset.overviews(1)
        check(len(factors), self.limits.levels, "overviews", self.source.name)
        for number in range(len(factors)):
            overview = kit.dataset(number)
            if overview.count == dataset.count:
                self._levels.append(number)
                sizes.append((overview.height, overview.width))
        rows, columns = dataset.block_shapes[0]
        together = dataset.profile.get("interleave") == "pixel" or _samples_of(dataset, dtype) > 1
        bands = dataset.count if together else 1
        size = nbytes((bands, rows, columns), dtype.itemsize)
        check(size, self.limits.chunk_bytes, "decoded size of a block in bytes", self.source.name)
        return tuple(
            Level(
                (1, dataset.count, 1, height, width),
                (1, bands, 1, min(rows, height), min(columns, width)),
            )
            for height, width in sizes
        )

    def _project(
        self, kit: Kit, projection: Any, resampling: Any, dtype: np.dtype[Any]
    ) -> tuple[Level, ...]:
        """Plan levels in another projection: that of `WarpedVRT`, and its halves."""
        dataset = kit.dataset()
        if dataset.crs is None:
            raise BadArgument(
                f"{self.source.name}: it has no reference system, so it cannot be projected."
            )
        crs, method = crs_named(projection, "projection"), resampling_named(resampling)
        has_alpha = ColorInterp.alpha in dataset.colorinterp
        self._warp = {"crs": crs, "resampling": method, "add_alpha": not has_alpha}
        base = kit.warped(0, self._warp)
        height, width, transform = base.height, base.width, base.transform
        self._reference = RasterReference(self._pool, crs, transform, (height, width), self._warp)
        found: list[Level] = []
        bands = dataset.count
        a, b, c, d, e, f = tuple(transform)[:6]
        while True:
            scale = 1 << len(found)
            rows, columns = math.ceil(height / scale), math.ceil(width / scale)
            grid = Affine(a * scale, b * scale, c, d * scale, e * scale, f)
            self._levels.append({**self._warp, "transform": grid, "height": rows, "width": columns})
            chunk = (min(_WARPED_CHUNK, rows), min(_WARPED_CHUNK, columns))
            found.append(Level((1, bands, 1, rows, columns), (1, bands, 1, *chunk)))
            if max(rows, columns) <= _SMALLEST:
                break
        size = nbytes((bands, *found[0].chunk[3:]), dtype.itemsize)
        check(size, self.limits.chunk_bytes, "decoded size of a block in bytes", self.source.name)
        return tuple(found)

    def _pixel_size(self) -> PixelSize:
        reference = self._reference
        if reference is None:
            return PixelSize()
        crs = crs_named(reference.crs)
        if not crs.is_projected:
            return PixelSize()
        a, b, _, d, e, _ = reference.transform
        _, factor = crs.linear_units_factor
        sides = math.hypot(a, d) * factor, math.hypot(b, e) * factor
        return PixelSize(*(Quantity(side, "m") if side > 0 else None for side in sides))

    def _read_tags(self, dataset: Any) -> None:
        self._tags = {"driver": dataset.driver, "nodata": dataset.nodata, **dataset.tags()}
        for band in dataset.indexes:
            self._tags.update({f"band {band}: {k}": v for k, v in dataset.tags(band).items()})
            if dataset.colorinterp[band - 1] == ColorInterp.palette:
                with suppress(ValueError):
                    table = dataset.colormap(band)
                    colours = np.zeros((3, max(table) + 1), np.uint8)
                    for value, colour in table.items():
                        colours[:, value] = colour[:3]
                    self._palettes[band - 1] = colours

    # ---- the contract

    @property
    def original_metadata(self) -> Mapping[str, Any]:
        return dict(self._tags)

    def georeference(self, image: int) -> GeoReference | None:
        del image
        return self._reference

    def lookup_table(self, image: int, channel: int = 0) -> Array | None:
        return self._palettes.get(channel) if image == 0 else None

    def read(self, region: Region, out: Array) -> None:
        self.check_open()
        (_, c0, _, y0, x0), (_, c1, _, y1, x1) = region.start, region.stop
        window = Window(x0, y0, x1 - x0, y1 - y0)
        level = self._levels[region.level]

        def read(kit: Kit) -> None:
            is_stored = self._warp is None
            dataset = kit.dataset(level) if is_stored else kit.warped(region.level, level)
            if region.image == _MASK:
                out[0, 0, 0] = dataset.dataset_mask(window=window) != 0
            else:
                bands = self._indexes[c0:c1]
                out[0, :, 0] = dataset.read(bands, window=window)

        self._pool.run(read)

    def close(self) -> None:
        self._pool.close()
        super().close()


def _dtype_of(name: str, where: str) -> np.dtype[Any]:
    try:
        return np.dtype(name)
    except TypeError:
        raise BadDtype(f"{where}: pixels of type {name} are not supported.") from None


def _samples_of(dataset: Any, dtype: np.dtype[Any]) -> int:
    """Return 3 or 4 if the bands are red, green, blue (and alpha), else 1."""
    colors = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    is_color = dataset.count in (3, 4) and dataset.colorinterp == colors[: dataset.count]
    return int(dataset.count) if is_color and dtype.kind == "u" else 1
