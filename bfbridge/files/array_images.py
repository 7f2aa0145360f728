"""Arrays in memory as the images of a file, so that views, dask and metadata work on them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bfbridge.backend import (
    Channel,
    Image,
    Level,
    OpenOptions,
    PixelSize,
    ReaderBackend,
    Region,
)
from bfbridge.engine.lazy_pixels import arranged, is_dask, is_lazy, unwrapped
from bfbridge.errors import BadArgument
from bfbridge.ome import metadata
from bfbridge.storage.source import Source

if TYPE_CHECKING:
    from ome_types import OME

__all__ = ["READER", "WRITER", "ArrayImage", "ArrayImages", "ArrayReader", "images_of", "is_array"]

NAME = "array"
ORDER = "TCZYX"
Array = np.ndarray[Any, Any]


def is_array(value: Any) -> bool:
    """Return whether a value is an array of pixels: numpy, dask, xarray or similar."""
    return isinstance(value, np.ndarray) or (
        is_lazy(value) and not hasattr(value, "levels") and hasattr(value, "dtype")
    )


@dataclass(frozen=True)
class ArrayImage:
    """One array as an image.

    Attributes
    ----------
    pixels
        Array of numpy or dask with the axes T, C, Z, Y, X. C counts channels x samples.
    samples
        Samples of one pixel.
    channel_names
        One name for each channel; empty if unknown.
    pixel_size
        Micrometres along Z, Y, X; None if unknown.
    name
        Name of the image; None if unknown.
    """

    pixels: Any = field(repr=False)
    samples: int = 1
    channel_names: tuple[str, ...] = ()
    pixel_size: tuple[float | None, float | None, float | None] = (None, None, None)
    name: str | None = None

    @classmethod
    def of(
        cls, value: Any, axes: str | None, channel_names: Sequence[str] | None, pixel_size: Any
    ) -> ArrayImage:
        """Make an image from an array of any kind.

        Parameters
        ----------
        value
            The array.
        axes
            A letter of T, C, Z, Y, X and S for each axis. Default: the dimensions of a labelled
            array, otherwise the last axes of T, C, Z, Y, X.
        channel_names, pixel_size
            As the attributes of the same name; None if unknown. Names default to the text labels
            of the axis C of a labelled array.

        Raises
        ------
        BadArgument
            An argument does not fit the array.
        """
        array, labels = unwrapped(value, "array")
        if not is_dask(array):
            array = np.asarray(array)
        letters = axes
        if axes is None or (isinstance(axes, str) and not axes):
            letters = labels or (f"{ORDER}S" if array.ndim == 6 else ORDER[-array.ndim :])
        if (
            not isinstance(letters, str)
            or len(letters) != array.ndim
            or len(set(letters.upper())) != array.ndim
            or not set("YX") <= set(letters.upper()) <= set("TCZYXS")
        ):
            raise BadArgument(
                f"an array of shape {array.shape}: dim_order={letters!r} does not fit it. Give one "
                "letter of T, C, Z, Y, X and S (samples) for each axis, Y and X among them."
            )
        letters = letters.upper()
        if metadata.writable_dtype(array.dtype) != array.dtype:
            array = array.astype(metadata.writable_dtype(array.dtype))
        if channel_names is None and letters == labels:
            channel_names = _channel_labels(value)
        samples = array.shape[letters.index("S")] if "S" in letters else 1
        pixels = arranged(array, letters).transpose(4, 3, 2, 0, 1)
        if channel_names is not None and (
            isinstance(channel_names, (str, bytes)) or not np.iterable(channel_names)
        ):
            raise BadArgument(f"channel_names={channel_names!r}: give a list of names.")
        names = tuple(str(name) for name in (channel_names if channel_names is not None else ()))
        if names and len(names) != pixels.shape[1] // samples:
            raise BadArgument(
                f"channel_names={list(names)}: the array has {pixels.shape[1] // samples} channels."
            )
        size = (None, None, None) if pixel_size is None else pixel_size
        size = tuple(size) if np.iterable(size) and not isinstance(size, (str, bytes)) else ()
        if len(size) != 3:
            raise BadArgument(f"physical_pixel_sizes={pixel_size!r}: give those along Z, Y and X.")
        return cls(pixels, samples, names, size)

    @property
    def record(self) -> Image:
        """Record that describes the image, as a backend returns it."""
        shape = tuple(int(n) for n in self.pixels.shape)
        chunk = getattr(self.pixels, "chunksize", shape)
        z, y, x = (metadata.as_quantity(size, "physical_pixel_sizes") for size in self.pixel_size)
        count = shape[1] // self.samples
        names: Sequence[str | None] = self.channel_names or (None,) * count
        return Image(
            name=self.name,
            levels=(Level(shape, tuple(max(1, int(n)) for n in chunk)),),  # type: ignore[arg-type]
            dtype=metadata.writable_dtype(self.pixels.dtype),
            samples=self.samples,
            pixel_size=PixelSize(x=x, y=y, z=z),
            channels=tuple(Channel(name=name, samples=self.samples) for name in names),
        )

    def in_order(self) -> tuple[str, Any]:
        """Return (axes, pixels): the axes are T, C, Z, Y, X, then S if there are samples."""
        if self.samples == 1:
            return ORDER, self.pixels
        t, c, z, y, x = self.pixels.shape
        split = self.pixels.reshape(t, c // self.samples, self.samples, z, y, x)
        return f"{ORDER}S", split.transpose(0, 1, 3, 4, 5, 2)


def _channel_labels(value: Any) -> list[str] | None:
    """Return the labels of the axis C of a labelled array, if they are text."""
    coordinate = next((value.coords[dim] for dim in ("C", "c") if dim in value.coords), None)
    if coordinate is None or coordinate.dims not in (("C",), ("c",)):
        return None
    names: list[str] = coordinate.values.tolist()
    return names if all(isinstance(name, str) for name in names) else None


def images_of(
    value: Any, dim_order: Any, channel_names: Any, physical_pixel_sizes: Any
) -> list[ArrayImage] | None:
    """Return an array, or a list of arrays, as images; None for any other value.

    Parameters
    ----------
    value
        An array, a list of arrays, or anything else.
    dim_order, channel_names, physical_pixel_sizes
        As for `ArrayImage.of`: one value for all arrays, or a list with one value for each array.
        None if unknown.

    Raises
    ------
    BadArgument
        An argument does not fit the arrays, or was given with a value that is not an array.
    """
    listed = isinstance(value, (list, tuple)) and bool(value) and all(map(is_array, value))
    if not listed and not is_array(value):
        if any(given is not None for given in (dim_order, channel_names, physical_pixel_sizes)):
            raise BadArgument(
                "dim_order, channel_names and physical_pixel_sizes describe arrays only. For a "
                "file they are read from its metadata: leave them out."
            )
        return None
    arrays = list(value) if listed else [value]
    orders = _for_each(dim_order, len(arrays), ())
    names = _for_each(channel_names, len(arrays), (str, type(None)))
    sizes = _for_each(physical_pixel_sizes, len(arrays), (int, float, type(None)))
    return [
        ArrayImage.of(array, *given)
        for array, *given in zip(arrays, orders, names, sizes, strict=True)
    ]


def _for_each(given: Any, count: int, inner: tuple[type, ...]) -> list[Any]:
    """Return one value for each array: the same value for all, or the values of a list."""
    if given is None or isinstance(given, (str, bytes)):
        return [given] * count
    if not np.iterable(given):
        raise BadArgument(f"{given!r}: give one value for all arrays, or a list of {count}.")
    values = list(given)
    if values and all(isinstance(one, inner) for one in values):
        return [values] * count
    if len(values) != count:
        raise BadArgument(f"{given!r}: there are {count} arrays; give one value for each.")
    return values


class ArrayImages:
    """Arrays in memory in the place of a file: one image for each array."""

    def __init__(self, images: Sequence[ArrayImage]) -> None:
        if not images:
            raise BadArgument("the list of arrays is empty.")
        self.images = tuple(images)
        # The name is unique in all processes: caches identify the chunks by it.
        self._name = os.urandom(16).hex()

    def __repr__(self) -> str:
        return f"<{len(self.images)} arrays {self._name}>"

    @property
    def source(self) -> Source:
        """Source that represents the arrays where a file is expected."""
        return Source(name="<array>", data=self._name.encode())


class ArrayReader(ReaderBackend):
    """Arrays as an open file. Made by `open`."""

    name: ClassVar[str] = NAME

    def __init__(self, arrays: ArrayImages) -> None:
        self._arrays = arrays
        self._images = tuple(image.record for image in arrays.images)

    @classmethod
    def open(cls, source: Source, options: OpenOptions) -> ArrayReader:
        """Open the arrays given in the options."""
        arrays = options.backend_options.get("arrays")
        if not isinstance(arrays, ArrayImages):
            raise BadArgument(f"{source.name}: give arrays to AICSImage.")
        return cls(arrays)

    @property
    def arrays(self) -> tuple[ArrayImage, ...]:
        """The arrays."""
        return self._arrays.images

    @property
    def images(self) -> Sequence[Image]:
        """One image for each array."""
        return self._images

    def read(self, region: Region, out: Array) -> None:
        """Fill `out` from the array; a dask array computes only the chunks that are needed."""
        box = tuple(slice(a, b) for a, b in zip(region.start, region.stop, strict=True))
        out[...] = np.asarray(self.arrays[region.image].pixels[box])

    def ome_xml(self) -> str | None:
        """Return `ome` as XML."""
        return self.ome().to_xml()

    def ome(self) -> OME:
        """Return sizes, channels and pixel sizes."""
        ome = metadata.new_document(len(self._images))
        for element, image in zip(ome.images, self._images, strict=True):
            metadata.describe(element, image)
        metadata.settle(ome)
        return ome

    @property
    def original_metadata(self) -> Mapping[str, Any]:
        """Nothing."""
        return {}

    @property
    def used_files(self) -> Sequence[str]:
        """No files: the images are in memory."""
        return ()

    def close(self) -> None:
        """Do nothing: the arrays belong to the caller."""


READER = ArrayReader
WRITER = None
