"""Regions in lengths and fractions, at any resolution; thumbnails.

Everything reads through the views in pieces, so memory is limited to a few pieces and the result;
it does not depend on the size of the image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from bfbridge.backend import Quantity
from bfbridge.engine.resample import resample, support, to_dtype
from bfbridge.engine.selection import parse_axis, parse_ranges, trim
from bfbridge.engine.tiles import new_array
from bfbridge.engine.workers import run
from bfbridge.errors import BadArgument, BadSelection
from bfbridge.ome.metadata import convert_length, unit_symbol
from bfbridge.ome.objectives import magnifications_of
from bfbridge.runtime.arguments import flag, number

if TYPE_CHECKING:
    from bfbridge.views import ImageView

__all__ = [
    "Resampled",
    "approximate_magnification",
    "as_key",
    "key_of",
    "level_magnification",
    "magnification_of",
    "pixel_span",
    "positions",
    "region",
    "region_shape",
    "thumbnail",
    "to_physical",
    "to_pixels",
]

Array = np.ndarray[Any, Any]
Span = tuple[float | None, float | None] | None
PIECE = 2048
"""Side in pixels of the pieces in which large regions are read."""
SLICES = 4
"""Maximum number of slices of a chunk that are resampled together."""
LONGEST = 1 << 27
"""Maximum number of pixels along one side of a computed region."""


# ---- lengths and pixels


def _pixel_length(view: ImageView, axis: str, unit: str) -> float:
    """Return the length of a pixel of this view along "x", "y" or "z"."""
    size: Quantity | None = getattr(view.physical_pixel_size, axis)
    if size is None:
        raise BadArgument(
            f"{view.source_name}: the file has no pixel size along {axis}, so lengths cannot be "
            "converted. Give positions in pixels (units='px')."
        )
    return convert_length(size, unit)


def to_physical(view: ImageView, positions: Mapping[str, Any], unit: str) -> dict[str, Any]:
    """Convert pixels to lengths; see `ImageView.to_physical`."""
    return {
        axis: np.multiply(_numbers(value, axis), _pixel_length(view, axis, unit))
        for axis, value in positions.items()
        if value is not None
    }


def to_pixels(view: ImageView, positions: Mapping[str, Any], unit: str) -> dict[str, Any]:
    """Convert lengths to pixels; see `ImageView.to_pixels`."""
    return {
        axis: np.divide(_numbers(value, axis), _pixel_length(view, axis, unit))
        for axis, value in positions.items()
        if value is not None
    }


def _numbers(value: Any, axis: str) -> Any:
    """Return a number or an array of numbers for arithmetic."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        array = np.empty(0, object)
    if array.dtype.kind not in "iuf":
        raise BadArgument(f"{axis}={value!r}: give a number, or an array of numbers.")
    return array[()]


def _is_pixels(units: Any) -> bool:
    return isinstance(units, str) and units.lower() in ("px", "pixel", "pixels")


def pixel_span(view: ImageView, axis: str, span: Span, units: str) -> tuple[float, float]:
    """Return (start, stop) in pixels of this view after checking it against the image."""
    size = view.sizes[axis.upper()]
    if not isinstance(units, str):
        raise BadArgument(f"units={units!r}: give 'px', a unit of length, or 'fraction'.")
    if span is None:
        return 0.0, float(size)
    ends = (int, float, np.number, type(None))
    if (
        not isinstance(span, (tuple, list))
        or len(span) != 2
        or not all(isinstance(end, ends) for end in span)
    ):
        raise BadSelection(
            f"{axis}={span!r}: give (start, stop) as numbers, or None for the whole axis."
        )
    if units == "fraction":
        unit = float(size)
    elif _is_pixels(units):
        unit = 1.0
    else:
        unit = 1 / _pixel_length(view, axis, unit_symbol(units))
    start = 0.0 if span[0] is None else float(span[0]) * unit
    stop = float(size) if span[1] is None else float(span[1]) * unit
    # Lengths divided by a pixel size are whole numbers only up to rounding errors.
    slack = 1e-6 * max(1.0, size)
    if not (-slack <= start < stop <= size + slack):
        shown = f"pixels {start:g} to {stop:g}"
        raise BadSelection(
            f"{view.source_name}: {axis}={tuple(span)!r} {units} ({shown}) is empty or extends "
            f"beyond the image, which has {size} pixels along {axis}."
        )
    return max(start, 0.0), min(stop, float(size))


def _snap(start: float, stop: float, size: int) -> tuple[int, int]:
    """Return the whole pixels nearest to a span, at least one."""
    first = min(max(math.floor(start + 0.5), 0), size - 1)
    return first, min(max(math.floor(stop + 0.5), first + 1), size)


def as_key(
    view: ImageView,
    x: Span = None,
    y: Span = None,
    *,
    units: str = "px",
    target: ImageView | None = None,
) -> tuple[slice, slice]:
    """Return the key of a region, with borders rounded to whole pixels.

    Parameters
    ----------
    view, x, y, units
        As in `region`.
    target
        Level for which the key is made. Default: `view`.

    Raises
    ------
    BadSelection, BadArgument
        As `region`.
    """
    level = view if target is None else target
    spans = []
    for axis, span in (("y", y), ("x", x)):
        size, name = level.sizes[axis.upper()], axis.upper()
        start, stop = (end * size / view.sizes[name] for end in pixel_span(view, axis, span, units))
        spans.append(slice(*_snap(start, stop, size)))
    return spans[0], spans[1]


def key_of(view: ImageView, target: ImageView, region: Mapping[str, Any]) -> Any:
    """Return the key in `target` of a region given as a mapping; see `as_key`.

    Raises
    ------
    BadArgument
        The mapping has keys other than x, y and units.
    """
    unknown = {str(name) for name in region} - {"x", "y", "units"}
    if unknown:
        raise BadArgument(
            f"region={dict(region)!r}: there is no {', '.join(sorted(unknown))}; a region has x, y "
            "and units."
        )
    return as_key(view, target=target, **region)


def magnification_of(view: ImageView) -> float | None:
    """Return the nominal magnification of the image's objective, or None if unknown."""
    with view._file.reading("metadata") as backend:
        found = backend.magnifications()
        if found is None:
            found = magnifications_of(backend.ome())
    return found[view.index] if view.index < len(found) else None


def approximate_magnification(view: ImageView) -> float | None:
    """Return the magnification whose pixels usually have this size: 10 µm / the width of a pixel.

    As large_image estimates it where a file is silent. None where the file gives no pixel size.
    """
    size = view.physical_pixel_size.x
    try:
        micrometres = 0.0 if size is None else convert_length(size, "µm")
    except BadArgument:
        # Sizes in pixels or in a reference frame have no length.
        return None
    return 10 / micrometres if micrometres > 0 else None


def level_magnification(view: ImageView) -> float | None:
    """Return the nominal magnification of this level, or None if unknown."""
    native = magnification_of(view)
    return native and native * view.sizes["X"] / view.levels[0].sizes["X"]


# ---- resolution


@dataclass(frozen=True, slots=True)
class _Plan:
    """Computation of a region: source level, borders and method.

    Attributes
    ----------
    source
        Level that is read.
    edges
        Borders of the new pixels along Y and X, in pixels of `source`.
    method
        Method for each of the two axes; None if pixels are copied unchanged.
    """

    source: ImageView
    edges: tuple[Array, Array]
    method: tuple[str | None, str | None]


def _wanted_pixels(
    view: ImageView,
    extents: tuple[float, float],
    units: str,
    pixel_size: Any,
    magnification: float | None,
    max_size: int | tuple[int, int] | None,
) -> tuple[float, float]:
    """Return the size of new pixels along Y and X, in pixels of this view."""
    if pixel_size is not None:
        given = pixel_size if isinstance(pixel_size, Mapping) else dict.fromkeys("yx", pixel_size)
        try:
            sizes = {axis: _as_pixels(view, axis, given[axis], units) for axis in "yx"}
        except KeyError as error:
            raise BadArgument(f"pixel_size={pixel_size!r}: it has no {error}.") from error
        return sizes["y"], sizes["x"]
    if magnification is not None:
        native = magnification_of(view)
        if not native:
            raise BadArgument(
                f"{view.source_name}: the file has no magnification of the objective; "
                "give pixel_size= or level= instead."
            )
        magnification = number(magnification, "magnification", positive=True)
        full = view.levels[0].sizes
        here = [view.sizes[axis] / full[axis] for axis in "YX"]
        return native / magnification * here[0], native / magnification * here[1]
    most: Any = max_size if isinstance(max_size, (tuple, list)) else (max_size, max_size)
    good = len(most) == 2 and all(
        isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n >= 1 for n in most
    )
    if not good:
        raise BadArgument(f"max_size={max_size!r}: give a number of pixels, or (y, x).")
    factor = max(1.0, *(extent / n for extent, n in zip(extents, most, strict=True)))
    return factor, factor


def _as_pixels(view: ImageView, axis: str, value: Any, units: str) -> float:
    size, unit = value if isinstance(value, (tuple, list)) and len(value) == 2 else (value, units)
    try:
        size = number(size, "pixel_size", positive=True)
    except BadArgument:
        raise BadArgument(
            f"pixel_size={value!r}: give a number above 0, or such a number with its unit: "
            "(0.5, 'um')."
        ) from None
    if isinstance(unit, str) and unit == "fraction":
        raise BadArgument("pixel_size= needs a unit when units='fraction': (0.5, 'um').")
    return size if _is_pixels(unit) else size / _pixel_length(view, axis, unit_symbol(unit))


def _finest_needed(view: ImageView, sizes: tuple[float, float]) -> ImageView:
    """Return the coarsest level whose pixels are not larger than these sizes."""
    best = view.levels[0]
    for level in view.levels[1:]:
        factors = [view.sizes[axis] / level.sizes[axis] for axis in "YX"]
        # For odd sizes the factor between levels is not exactly 2.
        fine = all(
            f <= size * (1 + 1e-6) + size / level.sizes[axis]
            for f, size, axis in zip(factors, sizes, "YX", strict=True)
        )
        if fine and level.sizes["Z"] == view.sizes["Z"] and level.sizes["X"] < best.sizes["X"]:
            best = level
    return best


def _count(start: float, stop: float, pixel: float, most: int | None) -> int:
    """Return the number of new pixels in an extent: as many as fit, at least one."""
    wanted = (stop - start) / pixel if pixel > 0 else math.inf
    if wanted > LONGEST:
        raise BadArgument(
            f"pixels of the given size would be {wanted:.3g} along one side; {LONGEST} is the "
            "maximum. Choose larger pixels, or a smaller region."
        )
    count = max(1, round(wanted))
    return count if most is None else min(count, most)


def _edges(start: float, stop: float, pixel: float, ratio: float, most: int | None) -> Array:
    """Return the borders of new pixels in pixels of the source."""
    return np.linspace(start * ratio, stop * ratio, _count(start, stop, pixel, most) + 1)


def _plan(
    view: ImageView, spans: tuple[tuple[float, float], tuple[float, float]], units: str,
    level: int | None, pixel_size: Any, magnification: float | None,
    max_size: int | tuple[int, int] | None, method: str | None,
) -> _Plan:  # fmt: skip
    resolutions = {
        "level": level, "pixel_size": pixel_size, "magnification": magnification,
        "max_size": max_size,
    }  # fmt: skip
    given = [name for name, value in resolutions.items() if value is not None]
    if len(given) > 1:
        raise BadArgument(f"{' and '.join(given)} both set the resolution; give one of them.")
    if not given or level is not None:
        source = view if level is None else view.levels.pick(level)
        (top, bottom), (left, right) = spans
        keys = as_key(view, (left, right), (top, bottom), target=source)
        rows, columns = (np.arange(key.start, key.stop + 1, dtype=np.float64) for key in keys)
        return _Plan(source, (rows, columns), (None, None))
    extents = (spans[0][1] - spans[0][0], spans[1][1] - spans[1][0])
    sizes = _wanted_pixels(view, extents, units, pixel_size, magnification, max_size)
    source = _finest_needed(view, sizes)
    most = max_size if isinstance(max_size, (tuple, list)) else (max_size, max_size)
    edges, methods = [], []
    for axis, (start, stop), size, limit in zip("YX", spans, sizes, most, strict=True):
        ratio = source.sizes[axis] / view.sizes[axis]
        borders = _edges(start, stop, size, ratio, limit)
        edges.append(borders)
        methods.append(_method(view, borders, method))
    return _Plan(source, (edges[0], edges[1]), (methods[0], methods[1]))


def _method(view: ImageView, borders: Array, method: str | None) -> str | None:
    """Return the resampling method of one axis; None if pixels are copied unchanged."""
    step = (borders[-1] - borders[0]) / (len(borders) - 1)
    whole = abs(step - 1) < 1e-9 and abs(borders[0] - round(borders[0])) < 1e-6
    if method is None:
        if whole:
            return None
        if view.role == "label":
            return "nearest"
        return "area" if step >= 1 else "linear"
    support(borders, method, 1)
    return None if whole else method


# ---- regions


def region(
    view: ImageView,
    x: Span = None,
    y: Span = None,
    *,
    units: str = "px",
    z: Any = None,
    c: Any = None,
    t: Any = None,
    level: int | None = None,
    pixel_size: Any = None,
    magnification: float | None = None,
    max_size: int | tuple[int, int] | None = None,
    resample: str | None = None,
    keepdims: bool = False,
) -> Array:
    """Read a region at a given resolution; see `ImageView.region`."""
    spans = (pixel_span(view, "y", y, units), pixel_span(view, "x", x, units))
    plan = _plan(view, spans, units, level, pixel_size, magnification, max_size, resample)
    chosen = parse_ranges(tuple(plan.source.sizes.values()), Z=z, C=c, T=t).axes[2:]
    return _make(plan, chosen, flag(keepdims, "keepdims"))


def _make(plan: _Plan, chosen: Sequence[Any], keepdims: bool) -> Array:
    """Compute a plan at positions along Z, C and T."""
    rows, columns = (len(edges) - 1 for edges in plan.edges)
    depth = tuple(len(axis) for axis in chosen)
    source = plan.source
    shape = (*reversed(depth), rows, columns)
    out = new_array(np.empty, shape, source.dtype, source.source_name).transpose(3, 4, 2, 1, 0)
    if out.size:
        run(_jobs(plan, chosen, out), source.max_workers)
    return out if keepdims else out[(...,) + (0,) * (5 - len(trim(out.shape)))]


def region_shape(
    view: ImageView,
    x: Span = None,
    y: Span = None,
    *,
    units: str = "px",
    level: int | None = None,
    pixel_size: Any = None,
    magnification: float | None = None,
    max_size: int | tuple[int, int] | None = None,
) -> tuple[int, int]:
    """Return the numbers of rows and columns of `region`, without reading pixels."""
    spans = (pixel_span(view, "y", y, units), pixel_span(view, "x", x, units))
    if pixel_size is None and magnification is None and max_size is None:
        target = view if level is None else view.levels[level]
        rows, columns = as_key(view, spans[1], spans[0], target=target)
        return rows.stop - rows.start, columns.stop - columns.start
    extents = (spans[0][1] - spans[0][0], spans[1][1] - spans[1][0])
    sizes = _wanted_pixels(view, extents, units, pixel_size, magnification, max_size)
    most = max_size if isinstance(max_size, (tuple, list)) else (max_size, max_size)
    rows_, columns_ = (
        _count(*span, size, limit) for span, size, limit in zip(spans, sizes, most, strict=True)
    )
    return rows_, columns_


class Resampled:
    """An image at another resolution, computed when it is read; tiles iterate over it.

    Parameters
    ----------
    view
        The image.
    level, pixel_size, magnification
        As in `ImageView.region`, for the whole image.
    """

    def __init__(
        self, view: ImageView, *, level: int | None, pixel_size: Any, magnification: float | None
    ) -> None:
        spans = (pixel_span(view, "y", None, "px"), pixel_span(view, "x", None, "px"))
        plan = self._plan = _plan(view, spans, "px", level, pixel_size, magnification, None, None)
        rows, columns = (len(edges) - 1 for edges in plan.edges)
        self.sizes = {**plan.source.sizes, "Y": rows, "X": columns}
        self.dtype = view.dtype
        self.samples_per_pixel = view.samples_per_pixel
        self.max_workers = view.max_workers

    def read(
        self, X: Any = None, Y: Any = None, Z: Any = None, C: Any = None, T: Any = None,
        *, keepdims: bool = False,
    ) -> Array:  # fmt: skip
        """Read a region without steps; see `ImageView.read`."""
        y, x, *chosen = parse_ranges(tuple(self.sizes.values()), X, Y, Z, C, T).axes
        rows, columns = (
            edges[axis[0] : axis[-1] + 2]
            for edges, axis in zip(self._plan.edges, (y, x), strict=True)
        )
        return _make(replace(self._plan, edges=(rows, columns)), chosen, keepdims)


def _jobs(plan: _Plan, chosen: Sequence[Any], out: Array) -> Iterator[Callable[[], None]]:
    """Return jobs that fill `out`, each from one piece of the source."""
    if plan.method == (None, None):
        # Nothing to compute: one read, which the engine divides.
        yield partial(_fill, plan, chosen, out, slice(0, out.shape[0]), slice(0, out.shape[1]))
        return
    grids = []
    for borders in plan.edges:
        count = len(borders) - 1
        step = (borders[-1] - borders[0]) / count
        size = max(1, min(count, int(PIECE / max(step, 1.0))))
        grids.append([slice(a, min(a + size, count)) for a in range(0, count, size)])
    # Slices of one stored chunk are read together, but only a few, to limit the memory.
    _, _, deep, wide, _ = plan.source.chunks
    steps = (min(deep, SLICES), wide, 1)
    for places in product(
        *(range(0, n, step) for n, step in zip(out.shape[2:], steps, strict=True))
    ):
        box = [slice(a, a + step) for a, step in zip(places, steps, strict=True)]
        some = tuple(axis[part] for axis, part in zip(chosen, box, strict=True))
        for rows, columns in product(*grids):
            yield partial(_fill, plan, some, out[:, :, *box], rows, columns)


def _fill(plan: _Plan, chosen: Sequence[Any], out: Array, rows: slice, columns: slice) -> None:
    """Compute one piece of the result."""
    borders = [
        edges[s.start : s.stop + 1] for edges, s in zip(plan.edges, (rows, columns), strict=True)
    ]
    spans = [
        support(edges, method or "nearest", plan.source.sizes[axis])
        for edges, method, axis in zip(borders, plan.method, "YX", strict=True)
    ]
    z, c, t = chosen
    pixels = plan.source.read(
        Y=range(*spans[0]),
        X=range(*spans[1]),
        Z=positions(z),
        C=positions(c),
        T=positions(t),
        keepdims=True,
    )
    for axis, (edges, method, span) in enumerate(zip(borders, plan.method, spans, strict=True)):
        if method is not None:
            pixels = resample(pixels, axis, edges, span[0], method)
    out[rows, columns] = to_dtype(pixels, out.dtype)


def positions(axis: Any) -> Any:
    """Return positions for `read`: an array, because two numbers would be a span."""
    return axis if isinstance(axis, range) else np.asarray(axis)


def thumbnail(
    view: ImageView, size: int = 256, *, z: int | None = None, t: int = 0, c: Any = None
) -> Array:
    """Return a small picture of one plane; see `ImageView.thumbnail`."""
    one = {"Z": view.sizes["Z"] // 2 if z is None else z, "T": t}
    plane = {axis: parse_axis(at, view.sizes[axis], axis) for axis, at in one.items()}
    if any(len(at) != 1 for at in plane.values()):
        raise BadArgument(f"z={z!r}, t={t!r}: a thumbnail is of one plane; give two integers.")
    found = region(view, z=plane["Z"], t=plane["T"], c=c, max_size=size, keepdims=True)[
        :, :, 0, :, 0
    ]
    return found[:, :, 0] if found.shape[2] == 1 else found
