"""Sizes, dtypes and channel names of a new file's images, until its first write.

They are stored in an OME document, which may be edited. Sizes and dtypes that are not set are those
of the first array that is written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bfbridge.engine.casting import checked_number
from bfbridge.engine.pyramid import LevelPlan, level_plan
from bfbridge.engine.selection import USER_AXES
from bfbridge.errors import BadArgument, BadDtype, Unsupported
from bfbridge.limits import DEFAULT_LIMITS
from bfbridge.ome import metadata, roles

if TYPE_CHECKING:
    from ome_types import OME, model
    from ome_types.model import Pixels

    from bfbridge.backend import Image, ImageSpec, Level, Shape5, WriterBackend
    from bfbridge.engine.pyramid import Pyramid, Step

__all__ = ["DEFAULT_MEMORY", "ImagePlans", "WritePlan", "check_fill_value", "deep_chunk"]

DEFAULT_MEMORY = 256 << 20
DEPTH, DEEP_SIDE = 16, 256
"""Default chunk of images whose levels are reduced along Z: as many pixels as 1024 x 1024."""


@dataclass(frozen=True, slots=True)
class WritePlan:
    """Arguments for a new file, except the options of its backend.

    Attributes
    ----------
    pyramid
        False, True, a number of lower levels, or their factors against full size.
    downsample_z, smallest
        See `bfbridge.engine.pyramid.LevelPlan`; None for the default.
    downsample
        "mean", "nearest" or "mode". Masks are never averaged: for them "mean" is "nearest".
    fill_value
        Value of pixels that are never written.
    memory
        Bytes of unfinished chunks kept in memory before a scratch file is used.
    workers
        Chunks encoded at once.
    infer_dtype
        Whether the first array written defines the dtype, if it is not set before.
    backend_options
        Options of the backend, such as compression and tile size.
    """

    pyramid: Pyramid = False
    downsample_z: Any = None
    smallest: int | None = None
    downsample: str = "mean"
    fill_value: float = 0
    memory: int = DEFAULT_MEMORY
    workers: int = 1
    infer_dtype: bool = False
    backend_options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def levels(self) -> LevelPlan:
        """Which lower levels the images get."""
        return level_plan(self.pyramid, self.downsample_z, self.smallest)


class ImagePlans:
    """The images of a new file.

    Parameters
    ----------
    ome
        OME document of the file. The caller may edit it until the first write.
    name
        Name of the file, for messages.
    infer
        Whether sizes and dtype that are not set are those of the first array written.
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
        self._carried = [] if infer else [(p.pixels.size_c, p.pixels.size_t) for p in ome.images]
        self._roles: list[roles.ImageRole] = []

    def pixels(self, index: int) -> Pixels:
        """Return the Pixels element of one image."""
        return self.ome.images[index].pixels

    def add_image(self, image: model.Image, dtype: np.dtype[Any], role: roles.ImageRole) -> int:
        """Add an image to the document before `settle`, and return its number.

        Parameters
        ----------
        image
            Its element of the document; with an ID that no other image has.
        dtype
            Type of its pixels.
        role
            Its role.
        """
        known = roles.read_roles(self.ome)
        self.ome.images = [*self.ome.images, image]
        roles.write_roles(self.ome, [*known, role])
        self._dtypes.append(dtype)
        self._types.append(image.pixels.type)
        if self._carried:
            self._carried.append((image.pixels.size_c, image.pixels.size_t))
        number = len(self._dtypes) - 1
        self.set_dtype(number, dtype)
        return number

    # ---- sizes

    def shape5(self, index: int) -> tuple[int, int, int, int, int]:
        """Return the sizes of one image along Y, X, Z, C, T."""
        p = self.pixels(index)
        return p.size_y, p.size_x, p.size_z, p.size_c, p.size_t

    def set_size(self, index: int, axis: str, size: int) -> None:
        """Set the size of one image along an axis."""
        pixels, name = self.pixels(index), f"size_{axis.lower()}"
        if getattr(pixels, name) != size:
            setattr(pixels, name, size)
        self._sized.add((index, axis))

    def sizes_set(self, index: int) -> dict[str, int]:
        """Return the sizes of an image that were set, by axis; not those of the document."""
        pixels = self.pixels(index)
        return {
            axis: getattr(pixels, f"size_{axis.lower()}")
            for image, axis in self._sized
            if image == index
        }

    def is_typed(self, index: int) -> bool:
        """Return whether the dtype of an image is set, here or in the document."""
        return index not in self._untyped

    def names_set(self, index: int) -> int:
        """Return the number of channel names of an image that were set."""
        return self._named.get(index, 0)

    def is_unsized(self, index: int) -> bool:
        """Return whether the size of an image is not set yet."""
        if not self._infer or {(index, "Y"), (index, "X")} & self._sized:
            return False
        pixels = self.pixels(index)
        return bool(pixels.size_y == pixels.size_x == 1)

    def is_inherited(self, index: int) -> bool:
        """Whether the document alone, and not the caller, says that C or T is longer than 1.

        C of one RGB channel counts as 1.
        """
        if not self._carried:
            return False
        pixels = self.pixels(index)
        longer = {
            axis
            for axis, size, one in (
                ("C", pixels.size_c, metadata.samples_of(pixels)), ("T", pixels.size_t, 1)
            )
            if size > one
        }  # fmt: skip
        chosen = {axis for image, axis in self._sized if image == index}
        chosen |= {
            axis
            for axis, size, was in zip(
                "CT", (pixels.size_c, pixels.size_t), self._carried[index], strict=True
            )
            if size != was
        }
        if self._named.get(index, 0) > 1:
            chosen.add("C")
        return bool(longer) and not longer & chosen

    def trim(self, index: int) -> None:
        """Reduce an image to its first channel and time point, before `settle`."""
        pixels = self.pixels(index)
        pixels.size_c, pixels.size_t = metadata.samples_of(pixels), 1

    def refuse_unsized(self) -> None:
        """Raise `BadArgument` if the size of an image is not set."""
        if any(self.is_unsized(index) for index in range(len(self.ome.images))):
            raise BadArgument(
                f"{self._name}: the size of the image is not set. Pass the sizes, "
                "BioWriter(path, shape=(Y, X, Z, C, T)), or write an array of 2 to 5 axes (in this "
                "order) to the whole image first: bw[:] = array."
            )

    def take_shape(self, index: int, shape: Sequence[int]) -> None:
        """Set the sizes that are not set yet to those of an array, along Y, X, Z, C, T."""
        if 0 in shape:
            raise BadArgument(f"{self._name}: an array of shape {tuple(shape)} has no pixels.")
        for axis, size in zip(USER_AXES, shape, strict=False):
            if (index, axis) not in self._sized:
                setattr(self.pixels(index), f"size_{axis.lower()}", int(size))

    # ---- types

    def dtype(self, index: int) -> np.dtype[Any]:
        """Return the dtype of one image: the last one set, here or in the document."""
        if self.pixels(index).type != self._types[index]:
            self._types[index] = self.pixels(index).type
            self._dtypes[index] = metadata.stored_dtype(self.pixels(index))
        return self._dtypes[index]

    def set_dtype(self, index: int, dtype: np.dtype[Any]) -> None:
        """Set the dtype of one image, and that of the document if the OME schema has it."""
        self._dtypes[index] = dtype
        self._untyped.discard(index)
        known = metadata.ome_pixel_type(dtype)
        if known is not None:
            metadata.set_pixel_type(self.pixels(index), known)
        self._types[index] = self.pixels(index).type

    def infer_dtype(self, index: int, given: Any) -> None:
        """Set the dtype to that of the first array written, if it is not set."""
        if index in self._untyped and given is not None:
            self.set_dtype(index, metadata.writable_dtype(given))

    # ---- channels

    def name_channels(self, index: int, names: Sequence[str | None]) -> None:
        """Name the channels of one image."""
        metadata.name_channels(self.pixels(index), names)
        self._named[index] = len(names)

    # ---- the end of planning

    def settle(self) -> None:
        """Make the document consistent: sizes, channels and dtypes.

        Raises
        ------
        BadArgument
            The size of an image is not set, there are more names than channels, an image has more
            channels than readers accept, or the number of images has changed.
        """
        if len(self.ome.images) != len(self._dtypes):
            raise BadArgument(
                f"{self._name}: metadata had {len(self._dtypes)} image(s) when the writer was "
                f"made, and has {len(self.ome.images)} now. Give all images to "
                "BioWriter(metadata=...)."
            )
        self.refuse_unsized()
        self._check_channels()
        for index, count in self._named.items():
            channels = len(metadata.channel_names(self.pixels(index)))
            if count > channels:
                raise BadArgument(
                    f"{self._name}: channel_names has {count} names, and image {index} has "
                    f"{channels} channel(s). Set C, or give one name for each channel."
                )
        for index in range(len(self._dtypes)):
            # "bit" is stored as uint8, so the document must declare uint8.
            self.set_dtype(index, self.dtype(index))
        self._roles = roles.read_roles(self.ome)
        metadata.settle(self.ome)
        # Roles refer to images by ID, and the IDs were renumbered.
        roles.write_roles(self.ome, self._roles)

    def _check_channels(self) -> None:
        """Raise `BadArgument` if an image has more channels than readers accept by default."""
        most = DEFAULT_LIMITS.image_channels
        for index, image in enumerate(self.ome.images):
            if image.pixels.size_c > most:
                raise BadArgument(
                    f"{self._name}: image {index} has {image.pixels.size_c:,} channels (C); the "
                    f"maximum is {most:,}, because metadata are stored for each channel. Check the "
                    "order of the sizes: shape=(Y, X, Z, C, T)."
                )

    def record(self, index: int, levels: tuple[Level, ...]) -> Image:
        """Describe an image for a backend, after `settle`."""
        record = metadata.record(self.ome.images[index], self.dtype(index), levels)
        return replace(record, **self._roles[index]._asdict()) if self._roles else record

    def document_for(self, specs: Sequence[ImageSpec]) -> OME | None:
        """Return the document, or None if the OME schema has no name for one of the dtypes."""
        untyped = [s.image for s in specs if metadata.ome_pixel_type(s.image.dtype) is None]
        # Formats that store 64-bit masks describe them outside OME-XML.
        return self.ome if all(image.is_mask for image in untyped) else None


def deep_chunk(
    chunk: Shape5,
    shape: Shape5,
    steps: Sequence[Step],
    backend: type[WriterBackend],
    options: Mapping[str, Any],
    name: str,
) -> Shape5:
    """Return a chunk that contains whole windows along Z, if levels are reduced along Z.

    Parameters
    ----------
    chunk, shape
        The backend's chunk and the size of the image, along T, C, Z, Y, X.
    steps
        The factors of the lower levels.
    backend, options, name
        The writer backend, its options, and the name of the file.

    Raises
    ------
    Unsupported
        The format has no such levels.
    """
    need = math.lcm(*(step[0] for step in steps))
    if need > 1 and not backend.z_levels:
        raise Unsupported(
            f"{name}: this format has no levels that are reduced along Z. Write .ome.zarr, or "
            "leave out downsample_z= (--downsample-z) and factors along Z."
        )
    t, c, z, y, x = chunk
    if z % need == 0 or z >= shape[2] or "chunks" in options:
        return chunk
    return t, c, -(-DEPTH // need) * need, min(y, DEEP_SIDE), min(x, DEEP_SIDE)


def check_fill_value(value: float, dtype: np.dtype[Any], name: str) -> None:
    """Raise `BadArgument` if the pixels of a file cannot have a fill value."""
    try:
        checked_number(value, dtype, name)
    except BadDtype:
        raise BadArgument(f"{name}: fill_value={value!r} cannot be stored as {dtype}.") from None
