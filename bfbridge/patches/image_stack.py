"""`ImageStack`: random patches of one image, or of all scenes of a file on one plane."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bfbridge.engine.chunk_cache import ChunkCache
from bfbridge.engine.selection import USER_AXES, Selection
from bfbridge.engine.tiles import LevelReader, new_array
from bfbridge.errors import BadArgument, BadSelection
from bfbridge.patches.scenes import Part, Rectangle, plane_parts, rectangles, scenes_of
from bfbridge.patches.stored_array import stored_array
from bfbridge.reader import BioReader
from bfbridge.runtime.arguments import whole
from bfbridge.storage.source import path_or_url
from bfbridge.views import ImageView

__all__ = ["ImageStack"]

Array = np.ndarray[Any, Any]
Depth = Literal["none", "Z", "T"]
AXES = "STCZYX"
INTEGERS = (int, np.integer)
_SCENE = re.compile(r"^(.*\.[^@/\\]+)@(\d+)$")


CACHE_BYTES = 512 << 20
"""Bytes of decoded chunks that all stacks of a process share: random patches often reuse them."""
RARELY_MET = 4
"""In images this many times as large as the cache, chunks are not cached: few would be used again,
and some formats decode a part of a chunk faster than the whole."""


class _CommonCache(ChunkCache):
    """Cache shared by all stacks of a process; unpickling returns that of the new process."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _common_cache, ()


@cache
def _common_cache() -> _CommonCache:
    return _CommonCache(CACHE_BYTES)


class _Planar(ImageView):
    """A view whose arrays have channels first in memory, like patches."""

    _planar = True


class _Uncached(_Planar):
    """A view whose chunks are not cached."""

    def _reader(self) -> LevelReader:
        return replace(super()._reader(), cache=None)


class ImageStack:
    """Random patches of one image, with the interface of CAREamics.

    Samples (S) are all time points and, without a depth axis, all slices: S counts T first, then Z.
    A pickled stack stores how to open the file; each process opens it on first use.

    Parameters
    ----------
    source
        Any input of `BioReader`; ``"file.czi@0"`` is scene 0 of ``file.czi``.
    scene
        Number of the image among those that are not labels or macros. Default: the whole plane with
        all scenes, if the file has several on one plane (CZI), 0 between them; otherwise the first.
    depth_axis
        "Z" or "T" for 3-D patches along that axis, "none" for 2-D patches.
    level
        Resolution; 0 is full size.
    **options
        Further keyword arguments of `BioReader`: storage_options, backend, max_workers, ...
        The default `cache` has 512 MiB and is shared by all stacks of a process.

    Attributes
    ----------
    axes
        "SCYX", "SCZYX" or "SCTYX": the axes of `data_shape`.

    Raises
    ------
    BadArgument
        The scene is given twice or does not exist, or the image does not have the depth axis.
    """

    def __init__(
        self,
        source: Any,
        scene: int | None = None,
        depth_axis: Depth = "none",
        *,
        level: int = 0,
        **options: Any,
    ) -> None:
        if scene is not None:
            scene = whole(scene, "scene")
        path, scene = _split_scene(source, scene)
        self._scene = scene
        self._given = path
        options.setdefault("max_workers", 1)
        if options.get("cache") is None:
            options["cache"] = _common_cache()
        reader = BioReader(path, **options)
        try:
            index = _scene_index(reader, scene)
            resolution = reader.series[index].levels.pick(level).level
            self._view = _Planar(reader._file, index, resolution)
            self._pixels: Array | None = None
            sizes = dict(self._view.sizes)
            if scene is None:
                self._parts, extent = plane_parts(reader, resolution)
                sizes.update(extent)
            self._setup({axis: sizes[axis] for axis in "TCZYX"}, self._view.dtype, depth_axis)
        except BaseException:
            reader.close()
            raise

    def _setup(self, sizes: dict[str, int], dtype: np.dtype[Any], depth_axis: str) -> None:
        depth = depth_axis.upper() if isinstance(depth_axis, str) else ""
        if depth not in ("NONE", "Z", "T"):
            raise BadArgument(f"depth_axis={depth_axis!r}: give 'none', 'Z' or 'T'.")
        if depth != "NONE" and sizes[depth] == 1:
            raise BadArgument(
                f"{self._given}: depth_axis={depth_axis!r}, but its {depth} is 1. Use 'none'."
            )
        self._sizes = sizes
        self._depth = "" if depth == "NONE" else depth
        self._dtype = dtype
        self._nbytes = prod(sizes.values()) * dtype.itemsize
        # Along T, then Z, the order in CZI files.
        self._sample_axes = "".join(axis for axis in "TZ" if axis != self._depth)
        self.axes = f"SC{self._depth}YX"

    @classmethod
    def from_array(cls, data: Array, axes: str) -> ImageStack:
        """Make a stack from an array in memory.

        Parameters
        ----------
        data
            Pixels.
        axes
            One letter of S, T, C, Z, Y and X for each axis. S and T become samples, S first; Z
            becomes the depth of 3-D patches.

        Raises
        ------
        BadArgument
            The letters do not match the array, or Y or X is missing.
        """
        try:
            array = np.asarray(data)
        except (TypeError, ValueError) as error:
            raise BadArgument(f"data is not an array ({error}).") from error
        letters = axes.upper() if isinstance(axes, str) else ""
        if (
            len(letters) != array.ndim
            or len(set(letters)) != len(letters)
            or not set("YX") <= set(letters) <= set(AXES)
        ):
            raise BadArgument(
                f"axes={axes!r} for an array of shape {array.shape}: give one letter of {AXES} for "
                "each axis, each once, Y and X among them."
            )
        stack = cls.__new__(cls)
        stack._scene, stack._given, stack._view = None, "array", None
        sizes = dict(zip(letters, array.shape, strict=True))
        samples = sizes.get("S", 1) * sizes.get("T", 1)
        whole = array.transpose([letters.index(a) for a in AXES if a in letters])
        whole = whole.reshape([sizes.get(axis, 1) for axis in AXES])
        stack._pixels = whole.reshape(samples, *whole.shape[2:])
        stack._setup({"T": samples, **{a: sizes.get(a, 1) for a in "CZYX"}}, array.dtype, "none")
        if "Z" in letters:
            stack._depth, stack._sample_axes, stack.axes = "Z", "T", "SCZYX"
        stack._original = (letters, array.shape)
        return stack

    @classmethod
    def from_tiff(cls, path: Any, axes: str) -> ImageStack:
        """Read a TIFF file into memory, with the axes of its stored array.

        Parameters
        ----------
        path
            Whatever `BioReader` takes.
        axes
            One letter of S, T, C, Z, Y and X for each axis longer than 1, in the file's order; or
            for all axes of an array that tifffile wrote with its shape.

        Raises
        ------
        BadArgument
            The letters do not fit the file.
        """
        return cls._from_file(path, *stored_array(path, axes), axes)

    @classmethod
    def from_custom_file_type(
        cls, path: Any, axes: str, read_func: Callable[..., Array], **read_kwargs: Any
    ) -> ImageStack:
        """Read a file into memory with a function of your own.

        Parameters
        ----------
        path
            The first argument of `read_func`.
        axes
            As in `from_array`, of what it returns.
        read_func, **read_kwargs
            The function, and further keyword arguments of it.

        Raises
        ------
        BadArgument
            The letters do not fit the array.
        """
        return cls._from_file(path, read_func(path, **read_kwargs), None, axes)

    @classmethod
    def _from_file(
        cls, path: Any, data: Array, shape: tuple[int, ...] | None, axes: str
    ) -> ImageStack:
        stack = cls.from_array(data, axes)
        stack._given = Path(path) if isinstance(path, (str, os.PathLike)) else path
        if shape is not None:
            stack._original = (axes.upper(), shape)
        return stack

    _view: ImageView | None
    _pixels: Array | None
    _parts: tuple[Part, ...] = ()
    _original: tuple[str, tuple[int, ...]] | None = None

    # ---- interface of CAREamics

    @property
    def source(self) -> Path | str:
        """Path or URL that opens the same stack again, with its scene; "array" for an array."""
        if self._view is None:
            return self._given if isinstance(self._given, Path) else "array"
        name = self._view.source_name + ("" if self._scene is None else f"@{self._scene}")
        return Path(name) if self._view._file.source.path is not None else name

    @property
    def data_path(self) -> Path | str:
        """Path or URL of the file, without the scene; "array" for an array."""
        if self._view is None:
            return self.source
        name = self._view.source_name
        return Path(name) if self._view._file.source.path is not None else name

    @property
    def scene(self) -> int | None:
        """Number of the requested scene, or None."""
        return self._scene

    @property
    def data_shape(self) -> tuple[int, ...]:
        """Sizes along S, C, (depth,) Y, X."""
        sizes = {**self._sizes, "S": prod(self._sizes[axis] for axis in self._sample_axes)}
        return tuple(sizes[axis] for axis in self.axes)

    @property
    def data_dtype(self) -> np.dtype[Any]:
        """Dtype of the pixels, and of every patch."""
        return self._dtype

    @property
    def original_axes(self) -> str:
        """Axes before the sample axes were joined: `axes` with T and Z instead of S."""
        if self._original is not None:
            return self._original[0]
        return self.axes.replace("S", self._sample_axes)

    @property
    def original_data_shape(self) -> tuple[int, ...]:
        """Sizes along `original_axes`."""
        if self._original is not None:
            return self._original[1]
        return tuple(self._sizes[axis] for axis in self.original_axes)

    @property
    def chunks(self) -> tuple[int, ...]:
        """Stored block along the axes of `data_shape`; the whole array for an array."""
        if self._view is None:
            return self.data_shape
        stored = dict(zip("YXZCT", self._view.chunks, strict=True))
        stored["S"] = prod(stored[axis] for axis in self._sample_axes)
        return tuple(stored[axis] for axis in self.axes)

    @property
    def shards(self) -> tuple[int, ...] | None:
        """Shard along the axes of `data_shape`, None where chunks are stored one by one."""
        if self._view is None:
            return None
        shard = self._view._image.levels[self._view.level].shard
        if shard is None:
            return None
        stored = dict(zip("TCZYX", shard, strict=True))
        stored["S"] = prod(stored[axis] for axis in self._sample_axes)
        return tuple(stored[axis] for axis in self.axes)

    def extract_patch(
        self,
        sample_idx: int,
        channels: Sequence[int] | None,
        coords: Sequence[int],
        patch_size: Sequence[int],
    ) -> Array:
        """Read a patch; pixels outside the image are 0.

        Parameters
        ----------
        sample_idx
            Number of the sample.
        channels
            Channels, in the order of the result; None for all.
        coords
            Start of the patch along (depth,) Y, X; may be negative.
        patch_size
            Size of the patch along the same axes.

        Returns
        -------
        numpy.ndarray
            C, (depth,) Y, X in the image's dtype, its memory contiguous.

        Raises
        ------
        BadArgument
            The number of lengths, a channel or the sample is not valid for the stack.
        ReadFailed
            The pixels cannot be read.
        """
        chosen = self._check(sample_idx, channels, coords, patch_size)
        spatial = self.data_shape[2:]
        spans = [
            (max(0, start), min(size, start + length))
            for start, length, size in zip(coords, patch_size, spatial, strict=True)
        ]
        shape = (len(chosen), *(int(n) for n in patch_size))
        if any(start >= stop for start, stop in spans):
            return new_array(np.zeros, shape, self._dtype, "a patch")
        inside = self._read(int(sample_idx), chosen, spans)
        if inside.shape == shape:
            return np.ascontiguousarray(inside)
        patch = new_array(np.zeros, shape, self._dtype, "a patch")
        place = tuple(
            slice(start - corner, stop - corner)
            for (start, stop), corner in zip(spans, coords, strict=True)
        )
        patch[(slice(None), *place)] = inside
        return patch

    def _check(
        self,
        sample_idx: int,
        channels: Sequence[int] | None,
        coords: Sequence[int],
        patch_size: Sequence[int],
    ) -> list[int]:
        """Return the channels to read; raise if an argument is not valid."""
        shape = self.data_shape
        dims = len(shape) - 2
        if not (_are_integers(coords, dims) and _are_integers(patch_size, dims)):
            raise BadArgument(
                f"coords={coords!r}, patch_size={patch_size!r}: give {dims} integers each, for "
                f"{self.axes[2:]} of {self.source}."
            )
        if any(n < 1 for n in patch_size):
            raise BadArgument(f"patch_size={tuple(patch_size)!r}: give numbers of 1 or more.")
        if not isinstance(sample_idx, INTEGERS) or not 0 <= sample_idx < shape[0]:
            raise BadArgument(f"sample_idx={sample_idx!r}: {self.source} has {shape[0]} samples.")
        if channels is None:
            return list(range(shape[1]))
        if not _are_integers(channels):
            raise BadArgument(f"channels={channels!r}: give a list of integers, or None for all.")
        chosen = [int(channel) for channel in channels]
        wrong = [channel for channel in chosen if not 0 <= channel < shape[1]]
        if wrong or not chosen:
            raise BadArgument(
                f"channels={chosen!r}: {self.source} has {shape[1]} channels, counted from 0; give "
                "one of them at least, or None for all."
            )
        return chosen

    def _read(self, sample: int, channels: list[int], spans: list[tuple[int, int]]) -> Array:
        """Read a box inside the image: C, (depth,) Y, X."""
        lengths = [self._sizes[axis] for axis in self._sample_axes]
        place = dict(zip(self._sample_axes, np.unravel_index(sample, lengths), strict=True))
        index: dict[str, Any] = {axis: range(int(n), int(n) + 1) for axis, n in place.items()}
        index.update({a: range(*span) for a, span in zip(self.axes[2:], spans, strict=True)})
        first, count = channels[0], len(channels)
        in_order = channels == list(range(first, first + count))
        index["C"] = range(first, first + count) if in_order else np.asarray(channels, np.intp)
        pixels = self._pixels
        if pixels is not None:
            t, z, y, x = (slice(index[axis].start, index[axis].stop) for axis in "TZYX")
            found = pixels[t, :, z, y, x][:, channels]
        elif self._parts:
            found = self._read_parts(index)
        else:
            # Not parsed again, because it is checked already: a cached patch takes microseconds.
            selection = Selection(tuple(index[axis] for axis in USER_AXES))
            found = self._reading_view()._reader().load(selection).transpose(4, 3, 2, 0, 1)
        if self._depth == "T":
            return found[:, :, 0].swapaxes(0, 1)
        return found[0] if self._depth else found[0, :, 0]

    def _read_parts(self, index: dict[str, Any]) -> Array:
        """Read a box of the plane that all scenes lie on, along T, C, Z, Y, X."""
        found = np.zeros([len(index[axis]) for axis in "TCZYX"], self._dtype)
        view = self._reading_view()
        for part in self._parts:
            own, place = dict(index), [slice(None)] * 5
            for number, axis, start, size in (
                (3, "Y", part.y, part.height), (4, "X", part.x, part.width),
            ):  # fmt: skip
                span = index[axis]
                low, high = max(span.start, start), min(span.stop, start + size)
                own[axis] = range(low - start, max(low, high) - start)
                place[number] = slice(low - span.start, max(low, high) - span.start)
            if len(own["Y"]) and len(own["X"]):
                selection = Selection(tuple(own[axis] for axis in USER_AXES))
                one = type(view)(view._file, part.number, view.level)
                found[tuple(place)] = one._reader().load(selection).transpose(4, 3, 2, 0, 1)
        return found

    def _open_view(self) -> ImageView:
        """Return the view; its file is opened again if it was closed."""
        view = self._view
        if view is None:
            raise BadSelection("this stack is an array that was closed; make a new stack.")
        if view._file.closed:
            view = self._view = _Planar(view._file.again(), view.index, view.level)
        return view

    def _reading_view(self) -> ImageView:
        """Return the view that patches are read through."""
        view = self._open_view()
        limit = getattr(view._file.cache, "max_bytes", None)
        if limit is None or self._nbytes <= RARELY_MET * limit:
            return view
        return _Uncached(view._file, view.index, view.level)

    # ---- memory

    @property
    def is_loaded(self) -> bool:
        """Whether all pixels are in memory."""
        return self._pixels is not None

    def load(self) -> None:
        """Read all pixels into memory; patches are cut from there until `close`."""
        if self._pixels is not None:
            return
        view = self._open_view()
        if self._parts:
            self._pixels = self._read_parts({a: range(self._sizes[a]) for a in "TCZYX"})
        else:
            self._pixels = view.read(keepdims=True).transpose(4, 3, 2, 0, 1)

    def close(self) -> None:
        """Release the pixels in memory and the file; the next patch opens it again."""
        self._pixels = None
        if self._view is not None:
            self._view._file.close()

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if self._view is not None:
            state["_pixels"] = None
        return state

    def __repr__(self) -> str:
        return f"<ImageStack {str(self.source)!r}: {self.axes} {self.data_shape}, {self._dtype}>"

    @staticmethod
    def get_bounding_rectangles(source: Any, **options: Any) -> dict[int | None, Rectangle]:
        """Return the position of each scene, by number, in full-size pixels.

        Parameters
        ----------
        source
            Whatever `BioReader` takes, or an open `BioReader`, which stays open.
        **options
            Further keyword arguments of `BioReader`.

        Returns
        -------
        dict
            Of a CZI file read natively, as CAREamics and pylibCZIrw give them: on the plane that
            all scenes lie on, whose zero may lie anywhere; of a file without scenes the only key is
            None. Of other files by stage position, the leftmost and topmost at 0; where the file
            gives none, all scenes lie at 0.
        """
        if isinstance(source, BioReader):
            return rectangles(source)
        with BioReader(source, **options) as reader:
            return rectangles(reader)


def _are_integers(values: Any, count: int | None = None) -> bool:
    """Return whether a value is a sequence of integers, of the given length."""
    try:
        length = len(values)
    except TypeError:
        return False
    return (count is None or length == count) and all(isinstance(n, INTEGERS) for n in values)


def _split_scene(source: Any, scene: int | None) -> tuple[Any, int | None]:
    """Split ``@number`` from a path, unless a file has exactly this name."""
    if not isinstance(source, (str, os.PathLike)):
        return source, scene
    name = os.fspath(path_or_url(source))
    found = None if os.path.exists(name) else _SCENE.match(name)
    if found is None:
        return source, scene
    if scene is not None:
        raise BadArgument(f"{source}: the scene is given in the name and as scene={scene}.")
    return found.group(1), int(found.group(2))


def _scene_index(reader: BioReader, scene: int | None) -> int:
    scenes = scenes_of(reader)
    number = 0 if scene is None else scene
    if not 0 <= number < len(scenes):
        raise BadArgument(f"{reader.source_name}: scene={scene}, but it has {len(scenes)} scenes.")
    return scenes[number].index
