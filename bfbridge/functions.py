"""Functions that read or write an image in one call: `imread` and `imwrite`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bfbridge.engine.casting import as_pixels
from bfbridge.engine.lazy_pixels import LazyPixels
from bfbridge.errors import BadArgument
from bfbridge.reader import BioReader
from bfbridge.writer import BioWriter

__all__ = ["imread", "imwrite"]

LETTERS = "TCZYXS"


def imread(path: Any, axes: str | None = None, **options: Any) -> np.ndarray[Any, Any]:
    """Read a whole image.

    >>> rgb = bfbridge.imread("cells.png")                    # doctest: +SKIP
    >>> stack = bfbridge.imread("cells.czi", axes="CZYX")     # doctest: +SKIP

    Parameters
    ----------
    path
        Any input of `BioReader`: a path, a URL, bytes, a pattern of file names, ...
    axes
        Axes of the result, from T, C, Z, Y and X, and S for the samples of RGB pixels; other axes
        must have length 1. Default: Y, X and those of Z, C and T that are longer than 1, in this
        order.
    **options
        Further keyword arguments of `BioReader`: series, level, backend, storage_options, ...

    Returns
    -------
    numpy.ndarray
        In the image's dtype.

    Raises
    ------
    BadArgument
        `axes` do not fit the image.
    BfbridgeError
        As `BioReader` and its `read`.
    """
    with BioReader(path, **options) as reader:
        return reader.read(squeeze=True) if axes is None else reader.asarray(axes)


def imwrite(
    path: str | os.PathLike[str],
    array: Any,
    axes: str | None = None,
    *,
    pixel_size: Any = None,
    channel_names: Sequence[str | None] | None = None,
    **options: Any,
) -> None:
    """Write an array to an image file; the suffix selects the format.

    >>> bfbridge.imwrite("cells.ome.tif", array, axes="CYX", pixel_size=0.325)  # doctest: +SKIP

    Parameters
    ----------
    path
        Path of the new file.
    array
        Pixels: any kind of array. dask arrays are computed and written block by block.
    axes
        A letter for each axis of the array, in its order: T (time), C (channel), Z, Y, X, and S for
        the samples of RGB pixels. Default: "YX" for two axes; the dimensions of a labelled array
        (xarray).
    pixel_size
        Size along X and Y: a number of micrometres, or (number, unit). Or a mapping of axis letters
        to either, such as ``{"z": 1.5, "y": 0.3, "x": 0.3}``, as `BioReader.pixel_size` returns it.
    channel_names
        One name for each channel.
    **options
        Further keyword arguments of `BioWriter`: overwrite, pyramid, compression, metadata, ...

    Raises
    ------
    BadArgument
        `axes` do not fit the array, or an option does not exist.
    TargetExists
        A file of that name exists, and ``overwrite=True`` was not given.
    BfbridgeError
        As `BioWriter`.
    """
    pixels, samples = _pixels(array, axes, str(path))
    plan = {"dtype": pixels.dtype, **options, "shape": np.shape(pixels)}
    with BioWriter(path, **plan) as writer:
        if samples is not None:
            writer.samples_per_pixel = samples
        for axis, size in _pixel_sizes(pixel_size).items():
            setattr(writer, f"physical_size_{axis}", size)
        if channel_names is not None:
            writer.channel_names = channel_names
        writer[...] = pixels


def _pixels(array: Any, axes: str | None, name: str) -> tuple[Any, int | None]:
    """Return an array in the order Y, X, Z, C, T, and its samples per pixel if they are known."""
    if not isinstance(getattr(array, "shape", None), tuple):
        array = as_pixels(array, name)
    shape = tuple(array.shape)
    if axes is None:
        pixels = as_pixels(array, name)
        if isinstance(pixels, LazyPixels) and pixels.is_labelled:
            return pixels, pixels.samples
        if len(shape) != 2:
            raise BadArgument(
                f"{name}: an array of shape {shape} needs the names of its axes, such as "
                "axes='CYX', 'ZYX', 'TCZYX', or 'YXS' for RGB."
            )
        return pixels, None
    letters = axes.upper() if isinstance(axes, str) else ""
    if (
        len(letters) != len(shape)
        or len(set(letters)) != len(letters)
        or not set("YX") <= set(letters) <= set(LETTERS)
    ):
        raise BadArgument(
            f"{name}: axes={axes!r} for an array of shape {shape}: give one letter of {LETTERS} "
            "for each axis, each once, Y and X among them."
        )
    samples = shape[letters.index("S")] if "S" in letters else None
    return as_pixels(array, name, letters), samples


def _pixel_sizes(given: Any) -> dict[str, Any]:
    """Return the sizes of a pixel by axis, for `BioWriter`."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        if isinstance(given, (tuple, list, np.ndarray)):
            numbers = [isinstance(size, (int, float, np.number)) for size in given]
            if len(numbers) > 1 and all(numbers):
                raise BadArgument(
                    f"pixel_size={given!r}: it is not clear which number belongs to which axis. "
                    "Give one number for x and y, or a mapping such as "
                    "{'z': 1.5, 'y': 0.3, 'x': 0.3}."
                )
        return {"x": given, "y": given}
    sizes = {str(axis).lower(): size for axis, size in given.items()}
    if not set(sizes) <= set("xyz"):
        raise BadArgument(f"pixel_size={given!r}: use the axes x, y and z.")
    return {axis: size for axis, size in sizes.items() if size is not None}
