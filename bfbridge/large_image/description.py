"""Description of a tile source: sizes, levels, frames and scales, in large_image's terms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bfbridge.analysis.regions import approximate_magnification, magnification_of
from bfbridge.errors import BadArgument, BadSelection
from bfbridge.large_image.frames import AXES, Frames
from bfbridge.large_image.regions.coordinates import Coordinates
from bfbridge.large_image.regions.geometry import Geometry
from bfbridge.runtime.arguments import whole
from bfbridge.runtime.cached_property import cached_property

if TYPE_CHECKING:
    from bfbridge.reader import BioReader
    from bfbridge.views import ImageView

__all__ = ["Description"]

_STORED_TILES: Final = (64, 2048)
"""Sides that stored tiles may have to be used as they are."""
_SINGLE_TILE: Final = 2048
_TILE: Final = 512


class Description(Coordinates):
    """Sizes, levels, frames and scales of an open file.

    Parameters
    ----------
    reader
        The file.
    frames
        Its frames.
    """

    def __init__(self, reader: BioReader, frames: Frames) -> None:
        self._reader = reader
        self._frames = frames

    @property
    def _view(self) -> ImageView:
        return self._frames.views[0]

    @property
    def name(self) -> str:
        """Path or URL of the file."""
        return self._reader.source_name

    @cached_property
    def _geometry(self) -> Geometry:
        view = self._view
        height, width = view.sizes["Y"], view.sizes["X"]
        tile_height, tile_width = _tile_sides(view)
        steps = math.ceil(math.log2(max(width / tile_width, height / tile_height, 1)))
        try:
            size = view.pixel_size("mm")
        except BadArgument:
            # Sizes in pixels or in a reference frame have no length.
            size = {"X": None, "Y": None}
        magnification = magnification_of(view) or approximate_magnification(view)
        return Geometry(
            width, height, tile_width, tile_height, steps + 1, magnification, size["X"],
            size["Y"] or size["X"],
        )  # fmt: skip

    @property
    def sizeX(self) -> int:
        """Width at full size."""
        return self._geometry.width

    @property
    def sizeY(self) -> int:
        """Height at full size."""
        return self._geometry.height

    @property
    def tileWidth(self) -> int:
        """Width of a tile."""
        return self._geometry.tile_width

    @property
    def tileHeight(self) -> int:
        """Height of a tile."""
        return self._geometry.tile_height

    @property
    def levels(self) -> int:
        """Tile levels: 0 is one tile, the last one full size."""
        return self._geometry.levels

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels without a style."""
        return self._view.dtype

    @property
    def bandCount(self) -> int:
        """Samples of a pixel without a style."""
        return self._view.samples_per_pixel

    @property
    def channelNames(self) -> list[str] | None:
        """Name of each channel, or None where one has none."""
        names = self._view.channel_names
        return [str(name) for name in names] if names and all(names) else None

    @property
    def geospatial(self) -> bool:
        """Whether the source is opened in a projection."""
        return False

    def getMetadata(self) -> dict[str, Any]:
        """Return sizes, tile sizes, levels, magnification, dtype, and frames if there are several.

        Returns
        -------
        dict
            levels, sizeX, sizeY, tileWidth, tileHeight, magnification, mm_x, mm_y, dtype and
            bandCount. ``magnificationApproximate`` is True where the file states no magnification
            and it is estimated from the width of a pixel. With several frames: ``frames`` (Frame,
            Index, IndexC, IndexZ, IndexT, IndexXY and Channel of each), ``IndexRange`` and
            ``IndexStride`` by axis; ``channels`` and ``channelmap`` where channels have names.
        """
        g = self._geometry
        found: dict[str, Any] = {
            "levels": g.levels, "sizeX": g.width, "sizeY": g.height, "tileWidth": g.tile_width,
            "tileHeight": g.tile_height, "magnification": g.magnification, "mm_x": g.mm_x,
            "mm_y": g.mm_y, "dtype": str(self.dtype), "bandCount": self.bandCount,
            "magnificationApproximate": (
                g.magnification is not None and magnification_of(self._view) is None
            ),
        }  # fmt: skip
        if self.frames > 1:
            found.update(self._frame_metadata())
        return found

    @property
    def metadata(self) -> dict[str, Any]:
        """The same as `getMetadata`."""
        return self.getMetadata()

    def _frame_metadata(self) -> dict[str, Any]:
        names = self.channelNames
        frames = []
        for number in range(self.frames):
            at = self._frames.position(number)
            frame: dict[str, Any] = {
                f"Index{axis.upper()}": place
                for axis, place, size in zip(AXES, at, self._frames.sizes, strict=True)
                if axis == "c" or size > 1
            }
            frame |= {"Frame": number, "Index": number // self._frames.sizes.c}
            if names is not None:
                frame["Channel"] = names[at.c]
            frames.append(frame)
        axes = [
            (f"Index{axis.upper()}", size, stride)
            for axis, size, stride in zip(
                AXES, self._frames.sizes, self._frames.strides, strict=True
            )
            if size > 1
        ]
        found: dict[str, Any] = {
            "frames": frames,
            "IndexRange": {axis: size for axis, size, _ in axes},
            "IndexStride": {axis: stride for axis, _, stride in axes},
        }
        if names is not None:
            found |= {"channels": names, "channelmap": {name: i for i, name in enumerate(names)}}
        return found

    def getInternalMetadata(self, **unused: Any) -> dict[str, Any]:
        """Return the format's own metadata, by its own names."""
        del unused
        return dict(self._reader.original_metadata)

    # ---- frames

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self._frames)

    def frameToAxes(self, frame: int) -> dict[str, int]:
        """Return the positions of a frame along the axes that are longer than 1.

        Raises
        ------
        BadSelection
            There is no such frame.
        """
        at = self._frames.position(frame)
        sizes = zip(AXES, at, self._frames.sizes, strict=True)
        found = {axis: place for axis, place, size in sizes if size > 1}
        return found or {"frame": frame}

    def axesToFrame(self, **axes: int) -> int:
        """Return the number of a frame by its positions along c, z, t and xy; others are 0.

        Raises
        ------
        BadSelection
            There is no such axis or position.
        """
        if "frame" in axes:
            self._frames.position(axes["frame"])
            return int(axes["frame"])
        found = 0
        for name, place in axes.items():
            if name.lower() not in AXES:
                raise BadSelection(
                    f"{self.name}: there is no axis {name!r}; there are c, z, t, xy."
                )
            number = AXES.index(name.lower())
            size = self._frames.sizes[number]
            if not 0 <= whole(place, name, -(2**31)) < size:
                raise BadSelection(f"{self.name}: {name}={place}: there are 0 to {size - 1}.")
            found += place * self._frames.strides[number]
        return found

    # ---- scales

    def getNativeMagnification(self) -> dict[str, float | None]:
        """Return magnification, mm_x and mm_y at full size."""
        g = self._geometry
        return {"magnification": g.magnification, "mm_x": g.mm_x, "mm_y": g.mm_y}

    def getMagnificationForLevel(self, level: float | None = None) -> dict[str, Any]:
        """Return magnification, mm_x, mm_y, scale and level of a tile level, or full size."""
        return self._geometry.at_level(level).as_dict()

    def getLevelForMagnification(
        self,
        magnification: float | None = None,
        exact: bool = False,
        mm_x: float | None = None,
        mm_y: float | None = None,
        rounding: str | bool | None = "round",
    ) -> float | None:
        """Return the tile level of a magnification or pixel size; see `Geometry.level_for`."""
        wanted = {"magnification": magnification, "mm_x": mm_x, "mm_y": mm_y}
        return self._geometry.level_for(wanted, exact=exact, rounding=rounding)

    def getPreferredLevel(self, level: int) -> int:
        """Return the nearest existing level; every level can be read."""
        return max(0, min(self.levels - 1, level))

    def convertRegionScale(
        self,
        sourceRegion: Mapping[str, Any],
        sourceScale: Mapping[str, Any] | None = None,
        targetScale: Mapping[str, Any] | None = None,
        targetUnits: str | None = None,
        cropToImage: bool = True,
    ) -> dict[str, Any]:
        """Return a region in other units; see `Geometry.convert`."""
        return self._geometry.convert(
            self._in_pixels(sourceRegion) or {},
            sourceScale,
            targetScale,
            targetUnits,
            cut=cropToImage,
        )

    def getPointAtAnotherScale(
        self,
        point: tuple[float, float],
        sourceScale: Mapping[str, Any] | None = None,
        sourceUnits: str | None = None,
        targetScale: Mapping[str, Any] | None = None,
        targetUnits: str | None = None,
    ) -> tuple[float, float]:
        """Return a point (x, y) in other units; the arguments are those of `convertRegionScale`."""
        x, y = point
        units = "base_pixels" if sourceUnits is None else sourceUnits
        region = {"left": x, "top": y, "right": x, "bottom": y, "units": units}
        found = self.convertRegionScale(
            region, sourceScale, targetScale, targetUnits, cropToImage=False
        )
        return found["left"], found["top"]

    def getICCProfiles(self, idx: int | None = None, onlyInfo: bool = False) -> Any:
        """Return the colour profile of the first image.

        Parameters
        ----------
        idx
            Number of a profile. Only 0 exists.
        onlyInfo
            Whether the list has the descriptions of profiles instead.

        Returns
        -------
        PIL.ImageCms.ImageCmsProfile, list or None
            None without a profile; the profile, if `idx` is given; else a list.
        """
        data = self._view.icc_profile
        if data is None or idx not in (None, 0):
            return None
        from io import BytesIO

        from bfbridge.large_image.encoding import pillow

        pillow()
        from PIL import ImageCms

        profile = ImageCms.getOpenProfile(BytesIO(data))
        if idx is not None:
            return profile
        return [(ImageCms.getProfileInfo(profile).strip() or "present") if onlyInfo else profile]


def _tile_sides(view: ImageView) -> tuple[int, int]:
    """Return height and width of tiles: those stored, all of a small image, or 512."""
    height, width = view.sizes["Y"], view.sizes["X"]
    rows, columns = view.chunks[:2]
    least, most = _STORED_TILES
    is_tile = columns < width or rows == columns
    if is_tile and least <= rows <= most and least <= columns <= most:
        return rows, columns
    if len(view.levels) == 1 and max(height, width) <= _SINGLE_TILE:
        return height, width
    return _TILE, _TILE
