"""Stage positions in a unit of length that the caller knows and the file does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bfbridge.backend import ReaderBackend
from bfbridge.files.rearranged.wrapper import Wrapper
from bfbridge.ome.metadata import ome_unit

if TYPE_CHECKING:
    from ome_types import OME

__all__ = ["PositionUnits"]


class PositionUnits(Wrapper):
    """A file whose positions in OME's unit "reference frame" get a unit of length.

    Parameters
    ----------
    inner
        The open backend.
    unit
        OME's symbol of the unit.
    """

    def __init__(self, inner: ReaderBackend, unit: str) -> None:
        self._unit = unit
        super().__init__(inner, inner.images)

    def change_document(self, ome: OME) -> None:
        """Replace the unit of all positions in a reference frame."""
        unit = ome_unit(self._unit)
        for image in ome.images:
            for plane in image.pixels.planes:
                for axis in "xyz":
                    name = f"position_{axis}"
                    known = getattr(plane, f"{name}_unit").value
                    if getattr(plane, name) is not None and known == "reference frame":
                        setattr(plane, f"{name}_unit", unit)
