"""Images as dask and xarray arrays: lazy, picklable, read through the tile engine.

`LazyImage` is an array-like object for one level of one image, with its axes in any order. dask and
xarray select parts of it; each part is one read of the engine.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from bfbridge.analysis.coordinates import coordinates
from bfbridge.analysis.dask_class import image_array
from bfbridge.analysis.modulo import UnfoldedImage, folded_axes
from bfbridge.engine.selection import dropped_axes, full_key
from bfbridge.errors import INSTALL, BadArgument, MissingExtra, ReadFailed
from bfbridge.files.open_file import OpenFile
from bfbridge.runtime import forking
from bfbridge.runtime.arguments import flag

if TYPE_CHECKING:
    import dask.array
    import xarray

    from bfbridge.views import ImageView

__all__ = [
    "LazyImage",
    "default_chunks",
    "labels",
    "lazy_image",
    "to_dask",
    "to_xarray",
    "token",
]

Array = np.ndarray[Any, Any]
FACE = "YXZCT"
TARGET = 1024
LARGEST_PLANE = 4096 * 4096
"""Stored blocks with more pixels than this are divided, because few programs need them whole."""
LARGEST_BYTES = 128 << 20
FILES_KEPT = 8


def missing(package: str, what: str) -> MissingExtra:
    """Return the error for an optional package that is not installed."""
    return MissingExtra(
        f"{what} needs {package}, which is not installed. Install it with: {INSTALL}"
    )


def token(view: ImageView) -> Hashable:
    """Return a key of a view's pixels, equal in every process: source, modification time, view."""
    file = view._file
    if file.source.data is not None:
        source: Hashable = hashlib.sha256(file.source.data).hexdigest()
    else:
        source = file.again().stamp
    options = file.options
    how = (
        file.backend_name,
        options.group_files,
        options.allow_outside,
        repr(sorted(options.backend_options.items())),
    )
    return ("bfbridge", source, how, view.index, view.level)


class LazyImage:
    """Array-like object for one level of an image; indexing reads, orthogonally along every axis.

    It can be used after its reader was closed: then the file is opened again, once for all lazy
    images of it. If the file has changed in the meantime, it raises `ReadFailed`.

    Parameters
    ----------
    view
        The image and level.
    order
        Axes of this array, from T, C, Z, Y, X; other axes must have length 1. With S, C counts
        channels and S the samples of each.
    """

    def __init__(self, view: ImageView, order: str, stamp: Hashable = None) -> None:
        self._view = view.on(view._file)
        self._stamp = view._file.stamp if stamp is None else stamp
        self._order = order
        self._samples = view.samples_per_pixel if "S" in order else 1
        sizes = axis_sizes(view, order)
        self.shape = tuple(sizes[axis] for axis in order)
        self.dtype = view.dtype
        self.ndim = len(order)

    def __reduce__(self) -> tuple[Any, ...]:
        return _revive, (self._view, self._order, self._stamp)

    def __dask_tokenize__(self) -> Hashable:
        return (token(self._view), self._order)

    def __getitem__(self, key: Any) -> Array:
        items = full_key(key, self.ndim)
        chosen = {
            axis: _positions(item, length)
            for axis, item, length in zip(self._order, items, self.shape, strict=True)
        }
        return self._read(chosen)[dropped_axes(items)]

    def _read(self, chosen: Mapping[str, Any]) -> Array:
        """Read positions along each axis of `order`; all axes are kept."""
        view = self._opened()
        ranges = {axis: chosen[axis] for axis in FACE if axis in chosen}
        if "S" not in chosen:
            face = view.read(**ranges, keepdims=True)
            kept = [FACE.index(axis) for axis in self._order]
            absent = [i for i in range(5) if i not in kept]
            return face.transpose(*kept, *absent)[(...,) + (0,) * len(absent)]
        channels = np.asarray(chosen.get("C", range(1)), np.intp)
        first = channels[:, np.newaxis] * self._samples
        ranges["C"] = (first + np.arange(self._samples)).ravel()
        face = view.read(**ranges, keepdims=True)
        # Y, X, Z, T, channels, samples
        split = np.moveaxis(face, 3, 4).reshape(
            *face.shape[:3], face.shape[4], len(channels), self._samples
        )
        have = "YXZTCS"
        kept = [have.index(axis) for axis in self._order]
        absent = [i for i in range(6) if i not in kept]
        joined = split.transpose(*kept, *absent)[(...,) + (0,) * len(absent)]
        samples = np.asarray(chosen["S"], np.intp)
        if len(samples) == self._samples and np.array_equal(samples, np.arange(self._samples)):
            return joined
        return joined.take(samples, axis=self._order.index("S"))

    def _opened(self) -> ImageView:
        """Return the view; its file is opened again if it was closed."""
        view = self._view
        if view._file.closed:
            view = self._view = view.on(view._file.again())
        if view._file.stamp != self._stamp:
            raise ReadFailed(
                f"{view.source_name}: the file has changed since this array was made. Open it "
                "again and make a new array."
            )
        return view

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("pixels are read from a file, so copy=False is not possible.")
        pixels = self[...]
        return pixels if dtype is None else pixels.astype(dtype, copy=False)


def _positions(item: Any, length: int) -> Any:
    """Return the positions of one index, as a range or an array."""
    if isinstance(item, slice):
        return range(*item.indices(length))
    array = np.asarray(item)
    if array.dtype == np.bool_:
        array = np.flatnonzero(array)
    return np.atleast_1d(array) if array.size else np.empty(0, np.intp)


_kept: OrderedDict[int, OpenFile] = OrderedDict()
_kept_lock = forking.lock()


def _revive(view: ImageView, order: str, stamp: Hashable) -> LazyImage:
    """Make a lazy image from its pickle, and keep its file open for further tasks."""
    with _kept_lock:
        _kept[id(view._file)] = view._file
        _kept.move_to_end(id(view._file))
        while len(_kept) > FILES_KEPT:
            _kept.popitem(last=False)
    return LazyImage(view, order, stamp)


def axis_sizes(view: ImageView, order: str) -> dict[str, int]:
    """Return the length of each axis that `order` may name; with S, C counts channels."""
    sizes = dict(view.sizes)
    if "S" in order:
        sizes["S"] = view.samples_per_pixel
        sizes["C"] //= view.samples_per_pixel
    return sizes


def check_order(view: ImageView, order: str, argument: str = "order") -> str:
    """Return `order` in capitals; `argument` is its name for the caller.

    Raises
    ------
    BadArgument
        It names an axis twice or an axis that does not exist, or leaves out one longer than 1.
    """
    order = order.upper() if isinstance(order, str) else str(order)
    sizes = axis_sizes(view, order)
    if len(set(order)) != len(order) or not set(order) <= set("TCZYXS") or not order:
        raise BadArgument(
            f"{argument}={order!r}: give axes from T, C, Z, Y, X (and S for samples), each once."
        )
    lost = {axis: n for axis, n in sizes.items() if axis not in order and n > 1}
    if lost:
        raise BadArgument(
            f"{view.source_name}: {argument}={order!r} leaves out axes that are longer than 1: "
            f"{lost}. Name them, and select afterwards."
        )
    return order


def asarray(view: ImageView, axes: str, unfold: bool | str = False) -> Array:
    """Return a view as an array with the given axes; see `ImageView.asarray`."""
    order = str(axes).upper()
    if view.samples_per_pixel == 1 and "S" in order and "C" not in order:
        order = order.replace("S", "C")
    return lazy_image(view, check_order(view, order, "axes"), unfold)[...]


def lazy_image(view: ImageView, order: str, unfold: bool | str) -> LazyImage | UnfoldedImage:
    """Return an array-like object for a view, with folded axes unfolded on request."""
    lazy = LazyImage(view, order)
    folded = folded_axes(view, unfold)
    return UnfoldedImage(lazy, order, folded) if folded else lazy


# ---- chunks


def default_chunks(view: ImageView, order: str) -> tuple[int, ...]:
    """Return chunk lengths along `order`: stored chunks, joined to about 1024 x 1024.

    Strips become bands of about a megapixel, and blocks above `LARGEST_PLANE` pixels are divided.
    """
    sizes = dict(view.sizes)
    stored = {axis: min(n, sizes[axis]) for axis, n in zip(FACE, view.chunks, strict=True)}
    chunk = dict(stored)
    for edge in (TARGET, TARGET // 2, TARGET // 4, TARGET // 8, 1):
        chunk["Y"], chunk["X"] = _plane_chunk(stored, sizes, edge)
        if math.prod(chunk.values()) * view.dtype.itemsize <= LARGEST_BYTES:
            break
    for axis in "TZC":
        if math.prod(chunk.values()) * view.dtype.itemsize > LARGEST_BYTES:
            chunk[axis] = 1
    samples = view.samples_per_pixel
    chunk["C"] = min(-(-chunk["C"] // samples) * samples, sizes["C"])
    if "S" in order:
        chunk["C"] //= samples
        chunk["S"] = samples
    return tuple(chunk[axis] for axis in order)


def _plane_chunk(stored: Mapping[str, int], sizes: Mapping[str, int], edge: int) -> tuple[int, int]:
    """Return chunk lengths along Y and X of about edge x edge pixels, in whole stored blocks."""
    if stored["Y"] * stored["X"] > LARGEST_PLANE:
        return min(stored["Y"], 2 * edge), min(stored["X"], 2 * edge)
    x = _multiple(stored["X"], edge, sizes["X"])
    rows = edge if x < sizes["X"] else edge * edge / x
    return _multiple(stored["Y"], rows, sizes["Y"]), x


def _multiple(stored: int, wanted: float, size: int) -> int:
    return min(stored * max(1, round(wanted / stored)), size)


def _as_chunks(view: ImageView, order: str, chunks: Any) -> Any:
    """Return chunks in the form for dask, along `order`."""
    default = default_chunks(view, order)
    if chunks is None or (isinstance(chunks, Mapping) and not chunks):
        return default
    if not isinstance(chunks, Mapping):
        return chunks
    given = {str(axis).upper(): size for axis, size in chunks.items()}
    unknown = set(given) - set(order)
    if unknown:
        raise BadArgument(
            f"chunks={chunks!r}: there is no axis {', '.join(sorted(unknown))} in {order}."
        )
    return tuple(given.get(axis, n) for axis, n in zip(order, default, strict=True))


# ---- dask


def to_dask(
    view: ImageView, chunks: Any = None, order: str = "TCZYX", unfold: bool | str = False
) -> dask.array.Array:
    """Return a view as a dask array; see `ImageView.to_dask`."""
    try:
        da: Any = import_module("dask.array")
        tokenize: Any = import_module("dask.base").tokenize
    except ImportError as error:
        raise missing("dask", "to_dask()") from error
    order = check_order(view, order)
    lazy = lazy_image(view, order, unfold)
    wanted = _as_chunks(view, order, chunks)
    if isinstance(lazy, UnfoldedImage) and (chunks is None or isinstance(chunks, Mapping)):
        wanted = lazy.chunks(wanted)
    try:
        grid = da.core.normalize_chunks(wanted, lazy.shape, dtype=lazy.dtype)
        if any(n < 1 for axis in grid for n in axis) or tuple(map(sum, grid)) != lazy.shape:
            raise ValueError(f"they would be {grid}")
    except (ValueError, TypeError, ArithmeticError, LookupError, AttributeError) as error:
        sizes = lazy.shape
        raise BadArgument(f"chunks={chunks!r} do not fit {sizes} ({error}).") from error
    in_memory = view._file.source.data is not None
    plain = da.from_array(
        lazy,
        chunks=grid,
        name=f"bfbridge-{tokenize(lazy, grid)}",
        meta=np.empty((0,) * lazy.ndim, lazy.dtype),
        # The key of a file is small and may be in each task; bytes are in the graph only once.
        inline_array=not in_memory,
    )
    return image_array(plain, lazy)


# ---- xarray


def labels(view: ImageView, origin: str = "file") -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (coordinates, attributes) of an image as `xarray.DataArray` takes them."""
    attributes: dict[str, Any] = {"source": view.source_name, "series": view.index}
    if view.name is not None:
        attributes["name"] = view.name
    attributes["level"] = view.level
    if view.samples_per_pixel > 1:
        attributes["samples_per_pixel"] = view.samples_per_pixel
    return coordinates(view, origin), attributes


def to_xarray(
    view: ImageView, lazy: bool = True, *, chunks: Any = None, origin: str = "file",
    unfold: bool | str = False,
) -> xarray.DataArray:  # fmt: skip
    """Return a view as a labelled array; see `ImageView.to_xarray`."""
    try:
        import xarray as xr
    except ImportError as error:
        raise missing("xarray", "to_xarray()") from error
    order = "TCZYX"
    source = lazy_image(view, order, unfold)
    data = to_dask(view, chunks, order, unfold) if flag(lazy, "lazy") else source[...]
    coords, attributes = labels(view, origin)
    dims = tuple(order.lower())
    if isinstance(source, UnfoldedImage):
        dims, coords = source.dims, source.coordinates(coords)
    return xr.DataArray(data, dims=dims, coords=coords, attrs=attributes, name=view.name or "image")
