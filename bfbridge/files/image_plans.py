"""What the images of a new file will be, until its first write: sizes, types and channel names.

An OME document says it, which may be edited. What nothing says, sizes and dtype, is taken from the
first array that is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bfbridge.engine.selection import FACE_AXES
from bfbridge.errors import BadArgument
from bfbridge.ome import metadata, roles

if TYPE_CHECKING:
    from ome_types import OME
    from ome_types.model import Pixels

    from bfbridge.backend import Image, ImageSpec, Level
    from bfbridge.engine.pyramid import Pyramid

__all__ = ["DEFAULT_MEMORY", "ImagePlans", "WritePlan"]

DEFAULT_MEMORY = 256 << 20


@dataclass(frozen=True, slots=True)
class WritePlan:
    """What a user may ask of a new file, beside the options of its backend.

    Attributes
    ----------
    pyramid
        False, True, a number of lower levels, or their factors against full size.
    downsample
        "mean", "nearest" or "mode". Masks are never averaged: for them "mean" is "nearest".
    fill_value
        What areas never written hold.
    memory
        Bytes of unfinished chunks kept in memory before a scratch file is used.
    workers
        Chunks encoded at once.
    infer_dtype
        Whether the first array written says what the dtype is, if it is not set before.
    backend_options
        Compression, tile size and whatever else the backend takes.
    """

    pyramid: Pyramid = False
    downsample: str = "mean"
    fill_value: float = 0
    memory: int = DEFAULT_MEMORY
    workers: int = 1
    infer_dtype: bool = False
    backend_options: Mapping[str, Any] = field(default_factory=dict)


class ImagePlans:
    """The images of a new file.

    Parameters
    ----------
    ome
        The file's document; it belongs to the file, and may be edited by whoever has it.
    name
        Of the file, for messages.
    infer
        Whether sizes and dtype that nobody sets are those of the first array written.
    """

    def __init__(self, ome: OME, name: str, *, infer: bool) -> None:
        self.ome = ome
        self._name = name
        self._infer = infer
        self._dtypes = [metadata.stored_dtype(image.pixels) for image in ome.images]
        self._types = [image.pixels.type for image in ome.images]
        self._untyped = set(range(len(ome.images))) if infer else set()
        self._sized: set[tuple[int, str]] = set()
        self._named: dict[int, int] = {}
        self._roles: list[roles.ImageRole] = []

    def pixels(self, index: int) -> Pixels:
        """Pixels element of one image."""
        return self.ome.images[index].pixels

    # ---- sizes

    def shape5(self, index: int) -> tuple[int, int, int, int, int]:
        """Sizes of one image along Y, X, Z, C, T."""
        p = self.pixels(index)
        return p.size_y, p.size_x, p.size_z, p.size_c, p.size_t

    def set_size(self, index: int, axis: str, size: int) -> None:
        """Set the size of one image along an axis."""
        setattr(self.pixels(index), f"size_{axis.lower()}", size)
        self._sized.add((index, axis))

    def is_unsized(self, index: int) -> bool:
        """Whether nothing has said yet how large an image is."""
        if not self._infer or {(index, "Y"), (index, "X")} & self._sized:
            return False
        pixels = self.pixels(index)
        return bool(pixels.size_y == pixels.size_x == 1)

    def refuse_unsized(self) -> None:
        """Raise `BadArgument` if nothing has said how large an image is."""
        if any(self.is_unsized(index) for index in range(len(self.ome.images))):
            raise BadArgument(
                f"{self._name}: nothing says how large the image is. Pass the sizes, "
                "BioWriter(path, shape=(Y, X, Z, C, T)), or write an array of 2 to 5 axes (in this "
                "order) to the whole image first: bw[:] = array."
            )

    def take_shape(self, index: int, shape: Sequence[int]) -> None:
        """Take the sizes that nothing has set from those of an array, along Y, X, Z, C, T."""
        if 0 in shape:
            raise BadArgument(f"{self._name}: an array of shape {tuple(shape)} has no pixels.")
        for axis, size in zip(FACE_AXES, shape, strict=False):
            if (index, axis) not in self._sized:
                setattr(self.pixels(index), f"size_{axis.lower()}", int(size))

    # ---- types

    def dtype(self, index: int) -> np.dtype[Any]:
        """Type of one image's pixels: what was set last, here or in the document."""
        if self.pixels(index).type != self._types[index]:
            self._types[index] = self.pixels(index).type
            self._dtypes[index] = metadata.stored_dtype(self.pixels(index))
        return self._dtypes[index]

    def set_dtype(self, index: int, dtype: np.dtype[Any]) -> None:
        """Set the type of one image's pixels, and the document's where the schema knows it."""
        self._dtypes[index] = dtype
        self._untyped.discard(index)
        known = metadata.ome_pixel_type(dtype)
        if known is not None:
            metadata.set_pixel_type(self.pixels(index), known)
        self._types[index] = self.pixels(index).type

    def infer_dtype(self, index: int, given: Any) -> None:
        """Take the dtype of the first array written, where nothing else says what it is to be."""
        if index in self._untyped and given is not None:
            self.set_dtype(index, metadata.writable_dtype(given))

    # ---- channels

    def name_channels(self, index: int, names: Sequence[str | None]) -> None:
        """Name the channels of one image."""
        metadata.name_channels(self.pixels(index), names)
        self._named[index] = len(names)

    # ---- the end of planning

    def settle(self) -> None:
        """Make the document true to itself.

        Raises
        ------
        BadArgument
            Nothing says how large an image is, there are more names than channels, or more or
            fewer images than at first.
        """
        if len(self.ome.images) != len(self._dtypes):
            raise BadArgument(
                f"{self._name}: metadata had {len(self._dtypes)} image(s) when the writer was "
                f"made, and has {len(self.ome.images)} now. Give all images to "
                "BioWriter(metadata=...)."
            )
        self.refuse_unsized()
        for index, count in self._named.items():
            channels = len(metadata.channel_names(self.pixels(index)))
            if count > channels:
                raise BadArgument(
                    f"{self._name}: channel_names has {count} names, and image {index} has "
                    f"{channels} channel(s). Set C, or give one name for each channel."
                )
        for index in range(len(self._dtypes)):
            # What is stored for "bit" is uint8, and the document has to say so.
            self.set_dtype(index, self.dtype(index))
        self._roles = roles.read_roles(self.ome)
        metadata.settle(self.ome)
        # They refer to images by the IDs that have been made anew.
        roles.write_roles(self.ome, self._roles)

    def record(self, index: int, levels: tuple[Level, ...]) -> Image:
        """Describe an image for a backend, once it was settled."""
        record = metadata.record(self.ome.images[index], self.dtype(index), levels)
        return replace(record, **self._roles[index]._asdict()) if self._roles else record

    def document_for(self, specs: Sequence[ImageSpec]) -> OME | None:
        """The document; None where the OME schema has no name for one of the dtypes."""
        untyped = [s.image for s in specs if metadata.ome_pixel_type(s.image.dtype) is None]
        # Formats that hold masks of 64 bits describe them elsewhere.
        return self.ome if all(image.is_mask for image in untyped) else None
