"""Stacks of arrays that are read where patches are cut: Zarr arrays, and files read on demand."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, Self

import numpy as np

from bfbridge.errors import INSTALL, BadArgument, MissingExtra
from bfbridge.patches.image_stack import AXES, ImageStack
from bfbridge.patches.stored_array import stored_array, stored_shape

__all__ = ["FileImageStack", "ZarrImageStack"]

Array = np.ndarray[Any, Any]


def _letters(axes: Any, shape: Sequence[int], name: str) -> str:
    letters = axes.upper() if isinstance(axes, str) else ""
    good = len(letters) == len(shape) == len(set(letters)) and set("YX") <= set(letters)
    if not good or not set(letters) <= set(AXES):
        raise BadArgument(
            f"{name}: axes={axes!r} for an array of shape {tuple(shape)}: give one letter of "
            f"{AXES} for each axis, each once, Y and X among them."
        )
    return letters


class ZarrImageStack(ImageStack):
    """Random patches of a Zarr array whose axes are given.

    Parameters
    ----------
    group
        A `zarr.Group`.
    data_path
        Path of the array in it.
    axes
        One letter of S, T, C, Z, Y and X for each axis of the array. S and T become samples, S
        first; Z becomes the depth of 3-D patches.

    Raises
    ------
    BadArgument
        There is no such array, or the letters do not fit it.
    """

    def __init__(self, group: Any, data_path: str, axes: str) -> None:
        where = getattr(group, "store_path", group)
        try:
            array = group[data_path]
        except (KeyError, TypeError) as error:
            raise BadArgument(
                f"{where}: there is no array {data_path!r}; give a zarr.Group and the path of an "
                "array in it."
            ) from error
        if not hasattr(array, "chunks") or not hasattr(array, "ndim"):
            raise BadArgument(f"{where}: {data_path!r} is a group; give the path of an array.")
        self._array = array
        letters = self._axes_given = _letters(axes, array.shape, str(where))
        self._scene, self._view, self._pixels = None, None, None
        self._given = str(array.store_path)
        self._original = (letters, tuple(array.shape))
        sizes = dict(zip(letters, array.shape, strict=True))
        self._outer = [axis for axis in "ST" if axis in letters]
        samples = prod(sizes[axis] for axis in self._outer)
        self._setup(
            {"T": samples, **{a: sizes.get(a, 1) for a in "CZYX"}}, np.dtype(array.dtype), "none"
        )
        if "Z" in letters:
            self._depth, self._sample_axes, self.axes = "Z", "T", "SCZYX"

    @classmethod
    def from_uri(cls, uri: str, axes: str) -> Self:
        """Open an array by its address: ``file:///data/a.zarr/group/array``, or another URL.

        Parameters
        ----------
        uri
            As `source` has it.
        axes
            As for the class.

        Raises
        ------
        BadArgument
            There is no array, or the letters do not fit it.
        MissingExtra
            zarr is not installed.
        """
        try:
            import zarr
        except ImportError as error:
            raise MissingExtra(
                f"Zarr arrays need zarr, which is not installed. Install it with: {INSTALL}"
            ) from error
        parent, _, name = str(uri).rstrip("/").rpartition("/")
        try:
            group = zarr.open_group(parent, mode="r")
        except (OSError, KeyError, ValueError) as error:
            raise BadArgument(f"{uri}: there is no Zarr group at {parent} ({error}).") from error
        return cls(group, name, axes)

    @property
    def source(self) -> str:
        """Address of the array, which `from_uri` opens."""
        return str(self._given)

    @property
    def data_path(self) -> str:
        """The same as `source`."""
        return self.source

    @property
    def chunks(self) -> tuple[int, ...]:
        """Stored chunk along `original_axes`."""
        return tuple(self._array.chunks)

    @property
    def shards(self) -> tuple[int, ...] | None:
        """Stored shard along `original_axes`, or None."""
        found = getattr(self._array, "shards", None)
        return None if found is None else tuple(found)

    def load(self) -> None:
        """Read the array into memory; patches are cut from there until `close`."""
        if self._pixels is None:
            self._pixels = ImageStack.from_array(self._array[...], self._axes_given)._pixels

    def close(self) -> None:
        """Drop pixels from memory."""
        self._pixels = None

    def _read(self, sample: int, channels: list[int], spans: list[tuple[int, int]]) -> Array:
        if self._pixels is not None:
            return super()._read(sample, channels, spans)
        sizes = dict(zip(*self._original_pair, strict=True))
        place = np.unravel_index(sample, [sizes[axis] for axis in self._outer] or [1])
        key: dict[str, Any] = {a: int(n) for a, n in zip(self._outer, place, strict=False)}
        key.update({a: slice(*span) for a, span in zip(self.axes[2:], spans, strict=True)})
        low, high = min(channels), max(channels) + 1
        key["C"] = slice(low, high)
        letters = self._axes_given
        found = np.asarray(self._array[tuple(key[axis] for axis in letters)])
        kept = [axis for axis in letters if axis not in self._outer]
        wanted = [axis for axis in self.axes[1:] if axis in kept]
        found = found.transpose([kept.index(axis) for axis in wanted])
        if "C" not in kept:
            found = found[np.newaxis]
        return found[[channel - low for channel in channels]]

    @property
    def _original_pair(self) -> tuple[str, tuple[int, ...]]:
        return self._axes_given, tuple(self._array.shape)


class FileImageStack(ImageStack):
    """Random patches of a file that is read into memory by `load` and dropped by `close`.

    Parameters
    ----------
    source
        Path of the file.
    axes
        One letter of S, T, C, Z, Y and X for each axis of what `read_func` returns.
    data_shape
        Along S, C, (Z,) Y, X.
    data_dtype
        Type of the pixels.
    read_func, read_kwargs
        Called as ``read_func(source, **read_kwargs)`` by `load`.
    original_data_shape
        Along `axes`.

    Raises
    ------
    BadArgument
        Lengths that do not fit each other.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        axes: str,
        data_shape: Sequence[int],
        data_dtype: Any,
        read_func: Callable[..., Any],
        read_kwargs: Mapping[str, Any] | None = None,
        original_data_shape: Sequence[int] | None = None,
    ) -> None:
        letters = axes.upper() if isinstance(axes, str) else ""
        shape = tuple(int(n) for n in data_shape)
        depth = ["Z"] if "Z" in letters else []
        if len(shape) != 4 + len(depth):
            raise BadArgument(
                f"{source}: data_shape={shape} with axes={axes!r}: give sizes along "
                f"S, C, {'Z, ' if depth else ''}Y, X."
            )
        original = shape if original_data_shape is None else tuple(original_data_shape)
        if original_data_shape is not None:
            _letters(axes, original, str(source))
        self._scene, self._view, self._pixels = None, None, None
        self._given = Path(source)
        self._original = (letters, original)
        self._read_func, self._read_kwargs = read_func, dict(read_kwargs or {})
        sizes = dict(zip(["T", "C", *depth, "Y", "X"], shape, strict=True))
        self._setup({"Z": 1, **sizes}, np.dtype(data_dtype), "none")
        if depth:
            self._depth, self._sample_axes, self.axes = "Z", "T", "SCZYX"

    @classmethod
    def from_tiff(cls, path: str | os.PathLike[str], axes: str) -> Self:
        """Describe a TIFF file by its axes, without reading pixels.

        Parameters
        ----------
        path, axes
            As in `ImageStack.from_tiff`.
        """
        shape, dtype = stored_shape(path, axes)
        letters = _letters(axes, shape, str(path))
        sizes = dict(zip(letters, shape, strict=True))
        spatial = [sizes[axis] for axis in "ZYX" if axis in sizes]
        samples = sizes.get("S", 1) * sizes.get("T", 1)
        whole = (samples, sizes.get("C", 1), *spatial)
        return cls(path, letters, whole, dtype, _read_tiff, {"axes": letters}, shape)

    def load(self) -> None:
        """Read the file into memory.

        Raises
        ------
        BadArgument
            What `read_func` returns is not of the shape that was given.
        """
        if self._pixels is not None:
            return
        data = self._read_func(self._given, **self._read_kwargs)
        found = ImageStack.from_array(data, self._original[0] if self._original else "")
        if found.data_shape != self.data_shape:
            raise BadArgument(
                f"{self._given}: an array of shape {found.data_shape} along {found.axes} was read, "
                f"but data_shape is {self.data_shape}."
            )
        self._pixels = found._pixels

    def close(self) -> None:
        """Drop the pixels from memory."""
        self._pixels = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pixels": None}

    def _read(self, sample: int, channels: list[int], spans: list[tuple[int, int]]) -> Array:
        if self._pixels is None:
            raise BadArgument(f"{self._given}: its pixels are not in memory; call load() first.")
        return super()._read(sample, channels, spans)


def _read_tiff(path: Any, axes: str) -> Array:
    return stored_array(path, axes)[0]
