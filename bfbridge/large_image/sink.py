"""`NewTileSource`: an image that is made tile by tile, as large_image's ``new()`` makes it."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from bfbridge import registry
from bfbridge.backend import Extras
from bfbridge.errors import BadArgument, Unsupported
from bfbridge.files.growing.delivery import extent_of
from bfbridge.files.growing.growing_file import checked_tile
from bfbridge.files.growing.tile_store import MOST, StorePlan, TileStore
from bfbridge.large_image.source import TileSource
from bfbridge.ome.extras import attach_extras
from bfbridge.ome.metadata import as_color, name_channels
from bfbridge.runtime import finalizers
from bfbridge.runtime.arguments import number, whole
from bfbridge.writer import BioWriter

if TYPE_CHECKING:
    from ome_types.model import Pixels

    from bfbridge.files.growing.delivery import Box

__all__ = ["NewTileSource"]

Array = np.ndarray[Any, Any]
_NAME: Final = "new image"
_PLANES: Final = ("t", "c", "z")
_SLOTS: Final = 3
"""Further axes that OME can store: one in each of T, Z and C."""
_TILE: Final = 512
_AXES: Final = "axes.json"
_ASSOCIATED: Final = ("macro", "label", "thumbnail")


@dataclass
class _Axes:
    """Names of the further axes, and the values of positions by axis, as all processes know them.

    `order` is the order in which axes appeared.
    """

    names: list[str] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    values: dict[str, dict[str, Any]] = field(default_factory=dict)


class NewTileSource:
    """An image without a size, to which `addTile` adds; `write` stores what there is.

    All calls of `TileSource` work too, on the tiles added until now. Copies that are pickled add to
    the same image from other processes. Differences from large_image: the pixels get a type that
    holds the values of all tiles; the number of bands is that of the first tile; there are up to
    three axes besides x, y, z, c, t and s, stored inside t, z and c; frames are counted along c, z
    and t; lower levels are means; an unknown pixel size is None; `write` is lossless, unless it is
    given another ``compression``; associated images are label, macro and thumbnail; no projections
    or ground control points are written.

    Parameters
    ----------
    folder, plan
        Of an image that another process made; None for a new one.
    """

    def __init__(self, folder: Path | None = None, plan: StorePlan | None = None) -> None:
        self._owned = folder is None
        where = Path(tempfile.mkdtemp(prefix="bfbridge-new-")) if folder is None else folder
        wanted = StorePlan(_NAME, ("blosc-zstd", 1), chunk=(_TILE, _TILE)) if plan is None else plan
        self._store = TileStore(where, wanted, shared=not self._owned)
        self._axes = _Axes()
        self._associated: dict[Any, Array] = {}
        self._view: TileSource | None = None
        self._crop: tuple[int, int, int, int] | None = None
        self._sizes: dict[str, Any] = {}
        self._names: list[str] = []
        self._colors: list[Any] = []
        self._units: dict[str, str] | None = None
        self._description: str | None = None
        self._additional: Any = None
        if self._owned:
            remove = partial(shutil.rmtree, where, ignore_errors=True)
            self._removal = finalizers.watch(self, remove, str(where))
            finalizers.finalize(self, self._removal.run)

    def __reduce__(self) -> tuple[Any, ...]:
        if not self._store.shared:
            self._save_axes()
            self._store.share()
        return type(self), (self._store.folder, self._store.plan)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._source(), name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the tiles, which `write` has stored."""
        if self._view is not None:
            self._view.close()
        if self._owned:
            self._removal.run()

    # ---- tiles

    def addTile(
        self, tile: Any, x: int = 0, y: int = 0, mask: Any = None, axes: Any = None, **kwargs: Any
    ) -> None:
        """Add a tile; the image grows to hold it.

        Parameters
        ----------
        tile
            An array (Y, X) or (Y, X, bands), a Pillow image, or an encoded picture.
        x, y
            Position of its upper left corner; may be negative. The most negative position becomes
            0, 0.
        mask
            Shape (Y, X): pixels that are False are not altered.
        axes
            Names of the axes of `tile`, if they are not "yxs".
        **kwargs
            Positions along further axes (z=, c=, t=, or any other name), and with ``_value``
            appended to the name, their values.
        """
        pixels = _as_array(tile)
        named = [str(axis).lower() for axis in axes] if axes is not None else None
        values = {key[:-6]: kwargs.pop(key) for key in list(kwargs) if key.endswith("_value")}
        places = {key.lower(): whole(place, key) for key, place in kwargs.items()}
        pixels, marks = _arranged(pixels, mask, named)
        self._know([*places, *(a for a in named or () if a not in "yxs")], values, places)
        left, top = whole(x, "x", -MOST, MOST), whole(y, "y", -MOST, MOST)
        outer = [axis for axis in named or () if axis not in ("y", "x", "s")]
        for at in np.ndindex(pixels.shape[:-3]):
            inside = {
                axis: places.get(axis, 0) + step for axis, step in zip(outer, at, strict=True)
            }
            frame = self._frame({**places, **inside})
            self._store.add(frame, top, left, *checked_tile(pixels[at], marks, _NAME))
        self._forget()

    def _frame(self, places: Mapping[str, int]) -> tuple[int, ...]:
        names = [*_PLANES, *self._axes.names]
        found = [places.get(name, 0) for name in names]
        return tuple(found + [0] * (len(_PLANES) + _SLOTS - len(found)))

    def _know(
        self, names: Sequence[str], values: Mapping[str, Any], places: Mapping[str, int]
    ) -> None:
        """Add axes and the values of positions to those that are known."""
        new = [name for name in dict.fromkeys(names) if name not in self._axes.order]
        if not new and not values:
            return
        with self._store.excluding("axes"):
            if self._store.shared:
                self._load_axes()
            for name in new:
                if name in self._axes.order:
                    continue
                if name not in _PLANES:
                    if len(self._axes.names) == _SLOTS or name == "level":
                        raise Unsupported(
                            f"{name}=: an image has {_SLOTS} axes besides x, y, z, c, t and s at "
                            f"most; there are {', '.join(self._axes.names) or 'none yet'}."
                        )
                    self._axes.names.append(name)
                self._axes.order.append(name)
            for name, value in values.items():
                plain = value.item() if isinstance(value, np.generic) else value
                self._axes.values.setdefault(name, {})[str(places.get(name, 0))] = plain
            if self._store.shared:
                self._save_axes()

    def _load_axes(self) -> None:
        path = self._store.folder / _AXES
        if path.exists():
            self._axes = _Axes(**json.loads(path.read_text()))

    def _save_axes(self) -> None:
        # Other processes read the old file or the new one; one at a time replaces it.
        new = self._store.folder / f"{_AXES}.new"
        new.write_text(json.dumps(vars(self._axes)))
        new.replace(self._store.folder / _AXES)

    def addAssociatedImage(self, image: Any, imageKey: str | None = None) -> None:
        """Add a label, macro or thumbnail image, which `write` stores beside the tiles.

        Parameters
        ----------
        image
            An array (Y, X) or (Y, X, bands), a Pillow image, or an encoded picture.
        imageKey
            "label", "macro" or "thumbnail"; a second image of a name replaces the first. Default:
            the first of "macro", "label" and "thumbnail" that is free.

        Raises
        ------
        BadArgument
            Another name, or no name is free.
        Unsupported
            Another process made the new image.
        """
        if not self._owned:
            raise Unsupported("associated images are added by the process that called new()")
        key = imageKey
        if key is None:
            key = next((name for name in _ASSOCIATED if name not in self._associated), None)
        if key not in _ASSOCIATED:
            raise BadArgument(
                f"imageKey={imageKey!r:.80}: an associated image is one of {', '.join(_ASSOCIATED)}"
                f"; there are {', '.join(self._associated) or 'none yet'}."
            )
        pixels = checked_tile(_as_array(image), None, _NAME)[0]
        self._associated[key] = pixels.copy()
        self._forget()

    # ---- properties of the image

    @property
    def crop(self) -> tuple[int, int, int, int] | None:
        """x, y, width, height of what `write` stores, after the shift; None for all."""
        return self._crop

    @crop.setter
    def crop(self, value: Any) -> None:
        if value is not None:
            x, y, width, height = (int(n) for n in value)
            if x < 0 or y < 0 or width <= 0 or height <= 0:
                raise BadArgument("crop: give x and y of 0 or more, and a width and height above 0")
            value = x, y, width, height
        self._crop = value

    def _size(self, name: str) -> Any:
        return self._sizes.get(name)

    def _set_size(self, name: str, value: Any, *, is_whole: bool) -> None:
        if value is not None:
            value = whole(value, name, 1) if is_whole else number(value, name, positive=True)
        self._sizes[name] = value
        self._forget()

    @property
    def minWidth(self) -> int | None:
        """Least width of what `write` stores."""
        found: int | None = self._size("minWidth")
        return found

    @minWidth.setter
    def minWidth(self, value: Any) -> None:
        self._set_size("minWidth", value, is_whole=True)

    @property
    def minHeight(self) -> int | None:
        """Least height of what `write` stores."""
        found: int | None = self._size("minHeight")
        return found

    @minHeight.setter
    def minHeight(self, value: Any) -> None:
        self._set_size("minHeight", value, is_whole=True)

    @property
    def mm_x(self) -> float | None:
        """Width of a pixel in millimetres."""
        found: float | None = self._size("mm_x")
        return found

    @mm_x.setter
    def mm_x(self, value: Any) -> None:
        self._set_size("mm_x", value, is_whole=False)

    @property
    def mm_y(self) -> float | None:
        """Height of a pixel in millimetres."""
        found: float | None = self._size("mm_y")
        return found

    @mm_y.setter
    def mm_y(self, value: Any) -> None:
        self._set_size("mm_y", value, is_whole=False)

    @property
    def imageDescription(self) -> str | None:
        """Description of the image."""
        return self._description

    @imageDescription.setter
    def imageDescription(self, value: Any) -> None:
        self._description = value if value is None or isinstance(value, str) else json.dumps(value)

    @property
    def additionalMetadata(self) -> Any:
        """Further metadata: whatever JSON can represent."""
        return self._additional

    @additionalMetadata.setter
    def additionalMetadata(self, value: Any) -> None:
        try:
            json.dumps(value)
        except (TypeError, ValueError, RecursionError) as error:
            raise BadArgument(f"additionalMetadata: it is not valid as JSON ({error}).") from error
        self._additional = value

    @property
    def channelNames(self) -> list[str]:
        """Name of each channel."""
        return self._names

    @channelNames.setter
    def channelNames(self, names: Sequence[str] | None) -> None:
        self._names = [str(name) for name in names or ()]
        self._forget()

    @property
    def channelColors(self) -> list[Any]:
        """Colour of each channel: "FF8000", a name, or red, green, blue; of one band."""
        return self._colors

    @channelColors.setter
    def channelColors(self, colors: Sequence[Any] | None) -> None:
        given = list(colors or ())
        for color in given:
            as_color(color, "channelColors")
        self._colors = given
        self._forget()

    @property
    def bandFormat(self) -> np.dtype[Any] | None:
        """Type of the pixels; None before the first tile."""
        return self._store.dtype

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """Type of the pixels; None before the first tile."""
        return self._store.dtype

    @property
    def bandCount(self) -> int | None:
        """Bands of a pixel; None before the first tile."""
        return self._store.samples

    @property
    def frameAxes(self) -> list[str]:
        """Axes of frames, in the order in which they appeared."""
        return list(self._axes.order)

    @property
    def frameUnits(self) -> dict[str, str] | None:
        """Unit of the values of each axis."""
        return self._units

    @frameUnits.setter
    def frameUnits(self, units: Mapping[str, str] | None) -> None:
        unknown = set(units or ()) - set(self._axes.order)
        if unknown:
            raise BadArgument(
                f"frameUnits: there is no axis {min(unknown)!r}; there are {self.frameAxes}."
            )
        self._units = None if units is None else dict(units)

    @property
    def frameValues(self) -> dict[str, list[Any]] | None:
        """Values of the positions along each axis, None where none was given; by axis."""
        found = {}
        for axis, values in self._axes.values.items():
            length = max(map(int, values)) + 1
            found[axis] = [values.get(str(place)) for place in range(length)]
        return found or None

    # ---- reading and writing

    def _forget(self) -> None:
        view, self._view = self._view, None
        if view is not None:
            view.close()

    def _source(self) -> TileSource:
        """Return the tiles added until now as a tile source."""
        if self._store.shared:
            self._forget()  # other processes may have added tiles
        if self._view is None:
            self._store.flush()
            if not self._store.chunks():
                raise BadArgument("the new image has no tiles yet; call addTile first.")
            path = self._store.folder / "view" / "view.ome.tif"
            self._deliver(
                path, crop=None, least=None, compression="zstd", overwrite=True, tile=_TILE
            )
            self._view = TileSource(path)
        return self._view

    def write(
        self,
        path: Any,
        lossy: bool = True,
        alpha: bool = True,
        overwriteAllowed: bool = True,
        resample: Any = None,
        **converterParams: Any,
    ) -> None:
        """Store the image as OME-Zarr, OME-TIFF or any other format of `BioWriter`.

        Parameters
        ----------
        path
            Name of the file; its suffix selects the format.
        lossy, alpha
            Accepted; pixels are always stored as they are.
        overwriteAllowed
            Whether an existing image is replaced.
        resample
            How lower levels are made: None or one of large_image's methods; those called nearest
            and mode are these, all others are means.
        **converterParams
            Options of the format, such as ``compression`` and ``tileSize``.

        Raises
        ------
        TargetExists
            The name is taken, and `overwriteAllowed` is False.
        BfbridgeError
            As `BioWriter`.
        """
        del lossy, alpha
        self._store.flush()
        extent = extent_of(self._store.chunks()) if self._store.chunks() else None
        crop = None
        if self._crop is not None and extent is not None:
            crop = _cut(self._crop, extent)
        least = (self.minHeight or 1, self.minWidth or 1)
        method = str(getattr(resample, "name", resample or "")).lower()
        how = next((name for name in ("nearest", "mode") if name in method), "mean")
        tile = converterParams.pop("tileSize", None)
        if tile is None and "tile" in registry.writer_for(str(path)).option_names:
            tile = _TILE  # large_image's
        options = converterParams if tile is None else {"tile": tile, **converterParams}
        self._deliver(
            path, crop, least, downsample=how, overwrite=bool(overwriteAllowed), **options
        )

    def _deliver(self, path: Any, crop: Any, least: tuple[int, int] | None, **options: Any) -> None:
        if self._store.shared:
            self._load_axes()
        axes: dict[str, Any] = {}
        values = self.frameValues or {}
        for name in self._axes.names:
            given = values.get(name, [])
            complete = given and None not in given and len(set(given)) == len(given)
            axes[name] = (given, (self._units or {}).get(name)) if complete else None
        for slot in range(len(axes), _SLOTS):
            axes[f"unused{slot}"] = None
        with BioWriter(
            path, grow=True, axes=axes, crop=crop, min_size=least, pyramid=True, **options
        ) as bw:
            bw._growing.adopt_tiles(self._store)
            bw._growing.associated.update(self._associated)
            for axis in "xy":
                size = self._size(f"mm_{axis}")
                if size:
                    setattr(bw, f"physical_size_{axis}", (size, "mm"))
            if (self._store.samples or 1) == 1:
                self._describe_channels(bw.metadata.images[0].pixels)
            if self._description is not None:
                bw.metadata.images[0].description = self._description
            if self._additional is not None:
                kept = {"attributes": {"additionalMetadata": self._additional}}
                attach_extras(bw.metadata, [Extras(other=kept)])

    def _describe_channels(self, pixels: Pixels) -> None:
        missing = [None] * (len(self._colors) - len(self._names))
        name_channels(pixels, [*self._names, *missing])
        for channel, color in zip(pixels.channels, self._colors, strict=False):
            channel.color = as_color(color, "channelColors")


def _as_array(tile: Any) -> Array:
    if isinstance(tile, (bytes, bytearray)):
        import io

        from PIL import Image

        with Image.open(io.BytesIO(tile)) as picture:
            return np.asarray(picture)
    return np.asarray(tile)


def _arranged(pixels: Array, mask: Any, named: Sequence[str] | None) -> tuple[Array, Array | None]:
    """Return a tile with the axes (..., Y, X, S), and its mask (Y, X)."""
    marks = None if mask is None else np.asarray(mask)
    if marks is not None and marks.ndim == 3 and marks.shape[2] == 1:
        marks = marks[:, :, 0]
    if named is None:
        return (pixels[..., np.newaxis] if pixels.ndim == 2 else pixels), marks
    if len(set(named)) != len(named) or not {"x", "y"} <= set(named):
        raise BadArgument(f"axes={list(named)}: give each axis once, x and y among them.")
    if len(named) != pixels.ndim:
        raise BadArgument(f"axes={list(named)}: the tile has {pixels.ndim} axes.")
    last = [axis for axis in ("y", "x", "s") if axis in named]
    outer = [axis for axis in named if axis not in last]
    pixels = pixels.transpose([named.index(axis) for axis in (*outer, *last)])
    return (pixels if "s" in named else pixels[..., np.newaxis]), marks


def _cut(crop: tuple[int, int, int, int], extent: Box) -> tuple[int, int, int, int]:
    """Return x, y, width, height counted from the image's corner as (y, x, height, width)."""
    x, y, width, height = crop
    if x >= extent.width or y >= extent.height:
        raise BadArgument(
            f"crop={crop}: the image is {extent.width} x {extent.height} pixels large."
        )
    right, bottom = min(x + width, extent.width), min(y + height, extent.height)
    return extent.y + y, extent.x + x, bottom - y, right - x
