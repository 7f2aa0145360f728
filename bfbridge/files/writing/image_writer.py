"""`ImageWriter`: one image of a file being written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bfbridge.backend import Level, Quantity, Shape5, StoredAs
from bfbridge.engine.lazy_pixels import LazyPixels
from bfbridge.engine.selection import USER_AXES, Selection, parse_key, trim
from bfbridge.errors import BadArgument, BadSelection
from bfbridge.files.attribute_names import BfioNames
from bfbridge.files.writing.new_file import NewFile
from bfbridge.files.writing.writer_arguments import (
    array_or_number,
    checked_names,
    checked_shape,
    checked_size,
    is_whole,
    placed,
)
from bfbridge.ome import metadata
from bfbridge.runtime.arguments import text_or_none

if TYPE_CHECKING:
    from ome_types import OME


__all__ = ["ImageWriter"]


class ImageWriter(BfioNames):
    """One image of a file being written: sizes and metadata to set, then regions to write.

    Arrays have the axes Y, X, Z, C, T. Properties may be set in any order until the first write.

    Parameters
    ----------
    file, index
        The file, and the number of the image in it.
    owner
        The writer of which this is a view; it exists as long as its views.
    """

    def __init__(self, file: NewFile, index: int, owner: ImageWriter | None = None) -> None:
        self._file = file
        self._index = index
        self._owner = owner

    def __repr__(self) -> str:
        sizes = ", ".join(f"{a}={n}" for a, n in zip(USER_AXES, self._shape5, strict=True))
        place = f"{self._file.name!r} image {self._index}"
        return f"<{type(self).__name__} {place}: {sizes}, {self.dtype}>"

    def __reduce__(self) -> tuple[Any, ...]:
        raise BadArgument(
            f"{self._file.name}: the view of an image of a new file cannot be pickled. Pickle the "
            "BioWriter that BioWriter.open returns."
        )

    @property
    def _shape5(self) -> tuple[int, ...]:
        return self._file.shape5(self._index)

    # ---- properties

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes along Y, X, Z, C, T, trailing 1s dropped, never below two axes."""
        return trim(self._shape5)

    @shape.setter
    def shape(self, value: Sequence[int]) -> None:
        for axis, size in zip(USER_AXES, checked_shape(value), strict=True):
            self._set_size(axis, size)

    def _set_size(self, axis: str, value: Any) -> None:
        self._file.edit(axis)
        self._file.plans.set_size(self._index, axis, checked_size(axis, value))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the pixels; bool is stored as uint8."""
        return self._file.dtype(self._index)

    @dtype.setter
    def dtype(self, value: Any) -> None:
        self._file.edit("dtype")
        self._file.plans.set_dtype(self._index, metadata.writable_dtype(value))

    @property
    def name(self) -> str | None:
        """Name of the image."""
        return self._file.ome.images[self._index].name

    @name.setter
    def name(self, value: str | None) -> None:
        self._file.edit("name")
        self._file.ome.images[self._index].name = text_or_none(value, "name")

    @property
    def channel_names(self) -> list[str | None]:
        """Name of each channel."""
        return metadata.channel_names(self._file.pixels(self._index))

    @channel_names.setter
    def channel_names(self, names: Sequence[str | None]) -> None:
        self._file.edit("channel_names")
        self._file.plans.name_channels(self._index, checked_names(names))

    @property
    def samples_per_pixel(self) -> int:
        """Samples of one pixel: 3 for RGB. C counts channels x samples."""
        return metadata.samples_of(self._file.pixels(self._index))

    @samples_per_pixel.setter
    def samples_per_pixel(self, value: int) -> None:
        self._file.edit("samples_per_pixel")
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise BadArgument(f"samples_per_pixel={value!r}: give an integer, 1 or more.")
        for channel in self._file.pixels(self._index).channels:
            channel.samples_per_pixel = int(value)

    def _physical_size(self, axis: str) -> Quantity | None:
        return metadata.physical_size(self._file.pixels(self._index), axis)

    def _set_physical_size(self, axis: str, value: Any) -> None:
        self._file.edit(f"physical_size_{axis}")
        quantity = metadata.as_quantity(value, f"physical_size_{axis}")
        pixels = self._file.pixels(self._index)
        setattr(pixels, f"physical_size_{axis}", None if quantity is None else quantity.value)
        unit = "µm" if quantity is None else quantity.unit
        setattr(pixels, f"physical_size_{axis}_unit", metadata.ome_unit(unit))

    @property
    def metadata(self) -> OME:
        """OME document of the file; it can be changed until the first write."""
        return self._file.ome

    @property
    def chunks(self) -> tuple[int, ...]:
        """Chunk size along Y, X, Z, C, T. Reading it fixes all properties, like a write."""
        return self._file.chunk5(self._index)

    # ---- pixels

    def __setitem__(self, key: Any, value: Any) -> None:
        pixels = array_or_number(value, self._file.name)
        if self._is_unsized:
            self._take_shape(pixels, whole=is_whole(key))
        self._file.write(self._index, parse_key(key, self._shape5), pixels)

    @property
    def _is_unsized(self) -> bool:
        return not self._file.started and self._file.plans.is_unsized(self._index)

    def _take_shape(self, pixels: Any, *, whole: bool) -> None:
        """Set the image's sizes to those of the first array, which is the whole image."""
        shape = np.shape(pixels)
        if not whole or not 2 <= len(shape) <= 5:
            self._file.plans.refuse_unsized()
        if isinstance(pixels, LazyPixels) and pixels.samples > 1 == self.samples_per_pixel:
            self.samples_per_pixel = pixels.samples
        self._file.plans.take_shape(self._index, shape)

    def write(
        self,
        image: Any,
        X: Any = None,
        Y: Any = None,
        Z: Any = None,
        C: Any = None,
        T: Any = None,
    ) -> None:
        """Write a block of pixels.

        Parameters
        ----------
        image
            Any kind of array with the axes Y, X, Z, C, T; trailing axes of length 1 may be left
            out.
        X, Y, Z
            Position where the block starts: an integer or (start,). Default 0.
        C, T
            Channels and time points: a start, or a list with one position for each of the block's.
            Default: from 0 on.

        Raises
        ------
        BadSelection
            The block is not inside the image.
        BadDtype
            The image's dtype cannot hold the values.
        """
        block = array_or_number(image, self._file.name)
        shape = np.shape(block)
        if not 2 <= len(shape) <= 5:
            raise BadSelection(
                f"{self._file.name}: a block has 2 to 5 axes (Y, X, Z, C, T), not {len(shape)}."
            )
        starts = (Y, X, Z, C, T)
        if self._is_unsized:
            self._take_shape(block, whole=all(start is None for start in starts))
        axes = [
            placed(axis, length, wanted, start, self._file.name)
            for axis, length, wanted, start in zip(
                USER_AXES, self._shape5, (*shape, 1, 1, 1)[:5], starts, strict=True
            )
        ]
        self._file.write(self._index, Selection(tuple(axes)), block)

    write_image = write

    def plan_copy(self, levels: Sequence[Level], stored: Sequence[StoredAs | None]) -> bool:
        """Plan that this image's chunks arrive encoded; see `NewFile.plan_copy`."""
        return self._file.plan_copy(self._index, levels, stored)

    def write_stored(
        self, level: int, place: Shape5, data: bytes, pixels: np.ndarray[Any, Any] | None = None
    ) -> None:
        """Store a chunk that is already encoded; see `NewFile.write_stored`."""
        self._file.write_stored(self._index, level, place, data, pixels)
