"""The attribute names of bfio, on readers and writers alike.

Programs written for bfio spell sizes, channel names and pixel sizes in several ways. They all stand
here, in terms of what `BioReader` and `BioWriter` have: ``_shape5``, ``dtype``, ``channel_names``,
``samples_per_pixel`` and ``_physical_size``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bfbridge.backend import Quantity

__all__ = ["BfioNames", "alias"]

BFIO_BACKENDS = {"ometiff": "python", "omezarr": "zarr", "bioformats": "bioformats"}
DEFAULT_UNIT = "µm"


def alias(name: str) -> Any:
    """Return a property that reads and sets the property called `name`."""

    def get(self: Any) -> Any:
        return getattr(self, name)

    def set_(self: Any, value: Any) -> None:
        setattr(self, name, value)

    return property(get, set_, doc=f"The same as `{name}`.")


def _size(axis: int, what: str) -> Any:
    def get(self: BfioNames) -> int:
        return int(self._shape5[axis])

    def set_(self: BfioNames, value: Any) -> None:
        self._set_size("YXZCT"[axis], value)

    return property(get, set_, doc=f"Number of {what}.")


def _physical(axis: str) -> Any:
    def get(self: BfioNames) -> tuple[float | None, str]:
        quantity: Quantity | None = self._physical_size(axis)
        return (None, DEFAULT_UNIT) if quantity is None else (quantity.value, quantity.unit)

    def set_(self: BfioNames, value: Any) -> None:
        self._set_physical_size(axis, value)

    return property(
        get, set_, doc=f"Size of a pixel along {axis} as (value, unit); (None, 'µm') if unknown."
    )


class BfioNames:
    """Sizes, names and pixel sizes under every spelling that bfio has or had."""

    _shape5: Any
    dtype: Any

    def _physical_size(self, axis: str) -> Quantity | None:
        raise NotImplementedError

    def _set_size(self, axis: str, value: Any) -> None:
        raise NotImplementedError

    def _set_physical_size(self, axis: str, value: Any) -> None:
        raise NotImplementedError

    Y = _size(0, "rows")
    X = _size(1, "columns")
    Z = _size(2, "z-slices")
    C = _size(3, "channels, counting the samples of RGB pixels")
    T = _size(4, "time points")
    y, x, z, c, t = (alias(name) for name in "YXZCT")
    physical_size_x = _physical("x")
    physical_size_y = _physical("y")
    physical_size_z = _physical("z")
    ps_x, ps_y, ps_z = (alias(f"physical_size_{axis}") for axis in "xyz")
    cnames = alias("channel_names")
    spp = alias("samples_per_pixel")

    @property
    def bytes_per_pixel(self) -> int:
        """Bytes of one value."""
        return int(np.dtype(self.dtype).itemsize)

    bpp = alias("bytes_per_pixel")

    # Spellings of bfio 1 and 2.0, still called by published programs.
    def num_x(self) -> int:
        """Return X."""
        return int(self.X)

    def num_y(self) -> int:
        """Return Y."""
        return int(self.Y)

    def num_z(self) -> int:
        """Return Z."""
        return int(self.Z)

    def num_c(self) -> int:
        """Return C."""
        return int(self.C)

    def num_t(self) -> int:
        """Return T."""
        return int(self.T)
