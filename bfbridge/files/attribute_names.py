"""The attribute names of bfio, for readers and writers.

Programs written for bfio use several names for sizes, channel names and pixel sizes. All these
names are defined here in terms of the attributes of `BioReader` and `BioWriter`: ``_shape5``,
``dtype``, ``channel_names``, ``samples_per_pixel`` and ``_physical_size``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from bfbridge.backend import Quantity

__all__ = ["BfioNames", "alias"]

BFIO_BACKENDS = {"ometiff": "python", "omezarr": "zarr", "bioformats": "bioformats"}
DEFAULT_UNIT = "µm"

Got_co = TypeVar("Got_co", covariant=True)
Given_contra = TypeVar("Given_contra", contravariant=True)


class Attribute(Protocol[Got_co, Given_contra]):
    """Type of a property made here, for type checkers: the types it returns and accepts."""

    def __get__(self, instance: Any, owner: Any = None, /) -> Got_co:
        """Return the value."""

    def __set__(self, instance: Any, value: Given_contra, /) -> None:
        """Set the value."""


Size = Attribute[int, int | np.integer[Any]]
PhysicalSize = Attribute[tuple[float | None, str], Any]


class _Typed(Protocol):
    @property
    def dtype(self) -> np.dtype[Any]: ...


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
    """Sizes, names and pixel sizes under all names that bfio uses or used."""

    _shape5: Any

    def _physical_size(self, axis: str) -> Quantity | None:
        raise NotImplementedError

    def _set_size(self, axis: str, value: Any) -> None:
        raise NotImplementedError

    def _set_physical_size(self, axis: str, value: Any) -> None:
        raise NotImplementedError

    Y: Size = _size(0, "rows")
    X: Size = _size(1, "columns")
    Z: Size = _size(2, "z-slices")
    C: Size = _size(3, "channels, counting the samples of RGB pixels")
    T: Size = _size(4, "time points")
    y: Size = alias("Y")
    x: Size = alias("X")
    z: Size = alias("Z")
    c: Size = alias("C")
    t: Size = alias("T")
    physical_size_x: PhysicalSize = _physical("x")
    physical_size_y: PhysicalSize = _physical("y")
    physical_size_z: PhysicalSize = _physical("z")
    ps_x: PhysicalSize = alias("physical_size_x")
    ps_y: PhysicalSize = alias("physical_size_y")
    ps_z: PhysicalSize = alias("physical_size_z")
    cnames: Attribute[list[str | None], Sequence[str | None]] = alias("channel_names")
    spp: Attribute[int, int] = alias("samples_per_pixel")

    @property
    def bytes_per_pixel(self: _Typed) -> int:
        """Bytes of one sample."""
        return int(np.dtype(self.dtype).itemsize)

    bpp: Attribute[int, int] = alias("bytes_per_pixel")

    # Names of bfio 1 and 2.0; published programs still call them.
    def num_x(self) -> int:
        """Return X."""
        return self.X

    def num_y(self) -> int:
        """Return Y."""
        return self.Y

    def num_z(self) -> int:
        """Return Z."""
        return self.Z

    def num_c(self) -> int:
        """Return C."""
        return self.C

    def num_t(self) -> int:
        """Return T."""
        return self.T
