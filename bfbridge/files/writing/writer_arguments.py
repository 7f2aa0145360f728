"""Checks and conversions of the arguments of `BioWriter`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bfbridge.engine.casting import as_pixels
from bfbridge.engine.selection import USER_AXES, parse_axis
from bfbridge.errors import BadArgument, BadSelection
from bfbridge.ome import metadata
from bfbridge.runtime.arguments import flag
from bfbridge.runtime.writer_options import refuse_unknown

if TYPE_CHECKING:
    from ome_types import OME

    from bfbridge.backend import WriterBackend

__all__ = [
    "PROPERTIES",
    "array_or_number",
    "checked_names",
    "checked_shape",
    "checked_size",
    "document_of",
    "growing_arguments",
    "is_whole",
    "known_options",
    "placed",
    "requested_properties",
]

PROPERTIES = frozenset(
    {"X", "Y", "Z", "C", "T", "x", "y", "z", "c", "t", "shape", "dtype", "name"}
    | {"channel_names", "cnames", "samples_per_pixel", "spp"}
    | {f"{prefix}_{axis}" for prefix in ("physical_size", "ps") for axis in "xyz"}
)
SPELLINGS = {
    **{axis.lower(): axis for axis in USER_AXES},
    **{f"ps_{axis}": f"physical_size_{axis}" for axis in "xyz"},
    "cnames": "channel_names",
    "spp": "samples_per_pixel",
}


def known_options(
    given: Iterable[str], writer: type[WriterBackend], arguments: Iterable[str]
) -> None:
    """Raise for options that the writer backend does not have, and suggest similar names.

    Parameters
    ----------
    given
        The names of the options.
    writer
        The backend; without `option_names` it checks its options itself.
    arguments
        Names of other arguments that the caller takes.

    Raises
    ------
    BadArgument
        There is no such option, property or argument.
    """
    if writer.option_names:
        refuse_unknown(given, writer.option_names, writer.name, {*PROPERTIES, *arguments})


def array_or_number(value: Any, name: str) -> Any:
    """Return a value as an array; a number stays a number, because it defines no dtype."""
    return value if isinstance(value, (int, float, complex)) else as_pixels(value, name)


def is_whole(key: Any) -> bool:
    """Return whether a key selects the whole image, of any size."""
    items = key if isinstance(key, tuple) else (key,)
    return all(
        item is Ellipsis or (isinstance(item, slice) and item == slice(None)) for item in items
    )


def placed(axis: str, length: int, wanted: int, start: Any, name: str) -> Any:
    """Return the indices along one axis that a block of `wanted` pixels covers."""
    listed = isinstance(start, (list, tuple, np.ndarray)) and np.iterable(start)
    if listed and (axis in "CT" or len(start) == 1):
        if axis in "YXZ":
            start = start[0]
        elif len(start) != wanted:
            raise BadSelection(
                f"{name}: {axis}={list(start)} has {len(start)} positions, but the block has "
                f"{wanted}."
            )
        else:
            return parse_axis(list(start), length, axis)
    found = parse_axis(0 if start is None else start, length, axis)
    if len(found) != 1:
        raise BadSelection(
            f"{name}: {axis}={start!r} must be the position where the block starts: give an "
            "integer."
        )
    first = found[0]
    if first + wanted > length:
        raise BadSelection(
            f"{name}: a block of {wanted} from {axis}={first} on does not fit: {axis} is {length}."
        )
    return range(int(first), int(first) + wanted)


def requested_properties(
    carried: OME | None, image: Any, given: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what the arguments say about the image of an existing file.

    Sizes by axis name, "dtype", and properties by name; of an array all but T.
    """
    requested: dict[str, Any] = {}
    if carried is not None:
        pixels = carried.images[0].pixels
        requested = {axis: getattr(pixels, f"size_{axis.lower()}") for axis in USER_AXES}
    elif image is not None:
        array = as_pixels(image, "image")
        requested = dict(zip("YXZC", (*np.shape(array), 1, 1), strict=False))
        requested["dtype"] = array.dtype
    for key, value in given.items():
        if key == "shape":
            requested |= dict(zip(USER_AXES, checked_shape(value), strict=True))
        else:
            requested[SPELLINGS.get(key, key)] = value
    for axis in USER_AXES:
        if axis in requested:
            requested[axis] = checked_size(axis, requested[axis])
    if "dtype" in requested:
        requested["dtype"] = metadata.writable_dtype(requested["dtype"])
    return requested


def growing_arguments(
    *, grow: Any, axes: Any, crop: Any, min_size: Any, others: bool
) -> dict[str, Any] | None:
    """Return the arguments of a file that grows, or None for one of known size.

    Parameters
    ----------
    grow, axes, crop, min_size
        Arguments of `BioWriter`.
    others
        Whether there are arguments that define or change an image of known size.

    Raises
    ------
    BadArgument
        They contradict each other.
    """
    if not flag(grow, "grow"):
        given = {"axes": axes, "crop": crop, "min_size": min_size}
        for name, value in given.items():
            if value is not None:
                raise BadArgument(f"{name}= is for images that grow: add grow=True.")
        return None
    if others:
        raise BadArgument(
            "grow=True: the image gets the size of its tiles; leave image= and append= out."
        )
    return {"axes": axes}


def checked_size(axis: str, value: Any) -> int:
    """Return the size of an axis after checking it."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise BadArgument(f"{axis}={value!r}: a size is an integer.")
    if not 1 <= value < 2**31:
        raise BadArgument(f"{axis}={value!r}: a size is from 1 to 2147483647.")
    return int(value)


def checked_shape(value: Any) -> tuple[Any, ...]:
    """Return five sizes; the sizes themselves are not checked."""
    sizes = tuple(value) if np.iterable(value) and not isinstance(value, (str, bytes)) else ()
    if not 2 <= len(sizes) <= 5:
        raise BadArgument(f"shape={value!r}: give 2 to 5 sizes in the order Y, X, Z, C, T.")
    return (*sizes, 1, 1, 1)[:5]


def document_of(carried: OME | None, series: int | str) -> OME:
    """Return the document of a new file: a copy with the chosen images."""
    if carried is None:
        return metadata.new_document()
    images = getattr(carried, "images", None)
    if images is None:
        raise BadArgument(
            f"metadata is a {type(carried).__name__}; give an ome_types.OME, such as br.metadata."
        )
    if not images:
        return metadata.new_document()
    if series == "all":
        return metadata.carry(carried, range(len(images)))
    if isinstance(series, str) or not -len(images) <= series < len(images):
        raise BadArgument(f"series={series!r}: give 0 to {len(images) - 1}, or 'all'.")
    return metadata.carry(carried, [series % len(images)])


def checked_names(names: Any) -> list[str | None]:
    """Return channel names as a list."""
    listed: list[Any] = [0]  # not a valid name
    if np.iterable(names) and not isinstance(names, (str, bytes)):
        listed = list(names)
    if not all(name is None or isinstance(name, str) for name in listed):
        raise BadArgument(f"channel_names={names!r}: give a list of names.")
    return listed
