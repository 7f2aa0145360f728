"""Metadata of the current scene of an `AICSImage`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from bfbridge.aics.records import (
    DimensionProperties,
    DimensionProperty,
    PhysicalPixelSizes,
    Scale,
    StandardMetadata,
    micrometres,
    standard_metadata,
)
from bfbridge.analysis.coordinates import time_step

if TYPE_CHECKING:
    from ome_types import OME

__all__ = ["Described"]


class Described:
    """Metadata of the current scene.

    A mixin of `AICSImage`: `self` is always an `AICSImage`, which type checkers cannot know here.
    """

    @property
    def physical_pixel_sizes(self: Any) -> PhysicalPixelSizes:
        """Micrometres per pixel along Z, Y, X."""
        size = self._view.physical_pixel_size
        return PhysicalPixelSizes(micrometres(size.z), micrometres(size.y), micrometres(size.x))

    physical_pixel_size = physical_pixel_sizes

    @property
    def time_interval(self: Any) -> timedelta | None:
        """Time from one time point to the next: the nominal one, else the mean of measured ones."""
        return time_step(self._view)

    @property
    def scale(self: Any) -> Scale:
        """Seconds between time points and micrometres per pixel; C is None."""
        step = self.time_interval
        return Scale(None if step is None else step.total_seconds(), None,
                     *self.physical_pixel_sizes)  # fmt: skip

    @property
    def dimension_properties(self: Any) -> DimensionProperties:
        """Quantity and unit of each axis."""
        second = None if self.time_interval is None else "second"
        sizes = self.physical_pixel_sizes
        units = [None if length is None else "micrometer" for length in sizes]
        return DimensionProperties(
            DimensionProperty("time", second),
            DimensionProperty("channel", None),
            *(DimensionProperty("space", unit) for unit in units),
        )

    @property
    def standard_metadata(self: Any) -> StandardMetadata:
        """Metadata of the current scene under bioio's names."""
        return standard_metadata(self._view, self.dims)

    @property
    def metadata(self: Any) -> Any:
        """The format's own metadata as text (OME-XML, a CZI's XML, a TIFF's description).

        Where there is none, OME-XML made from the file, or a dictionary of the format's values.
        """
        own = self._file.own_metadata
        if own is not None:
            return own
        xml = self._reader.ome_xml
        return xml if xml is not None else dict(self._reader.original_metadata)

    @property
    def ome_metadata(self: Any) -> OME:
        """OME metadata of the file."""
        ome: OME = self._reader.ome
        return ome
