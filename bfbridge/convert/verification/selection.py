"""Verification that the selected pixels are the requested ones.

The code is independent of the code that plans and reads: positions are computed from the options
with numpy, and the source is opened a second time and read plane by plane, by integer indices. A
defect of the plan is therefore detected.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from bfbridge.convert.options import ConvertOptions
from bfbridge.convert.plan.pieces import Output, Piece
from bfbridge.errors import ReadFailed
from bfbridge.reader import BioReader
from bfbridge.views import ImageView

__all__ = ["check_selection", "open_again", "read_planes"]

Array = np.ndarray[Any, Any]


def open_again(source: Any, options: ConvertOptions) -> BioReader:
    """Open a source for verification, with a cache so that each chunk is decoded about once."""
    arguments = {"cache": options.memory_bytes // 4, **options.reader_arguments}
    given = options.rearranged(source)
    return BioReader(given, max_workers=options.workers, backend=options.backend, **arguments)


def check_selection(br: BioReader, outputs: Sequence[Output], options: ConvertOptions) -> None:
    """Compare a plan with the requested selection.

    Raises
    ------
    ReadFailed
        A plane is missing, appears twice, or was not requested.
    """
    planned: list[tuple[int, int, int, int]] = []
    for output in outputs:
        for piece in output.pieces:
            places = itertools.product((piece.series,), piece.t, piece.c, piece.z)
            planned.extend((int(s), int(t), int(c), int(z)) for s, t, c, z in places)
    expected: list[tuple[int, int, int, int]] = []
    for number in _images(br, options):
        image = br.series[number]
        if len(image.levels) <= options.source_level:
            continue
        sizes, samples = image.sizes, image.samples_per_pixel
        t = _positions(options.t, sizes["T"])
        c = _channels(options.channels, image.channel_names, sizes["C"] // samples)
        z = _positions(options.z, sizes["Z"])
        rows = itertools.product((number,), t, _with_samples(c, samples), z)
        expected.extend((int(s), int(a), int(b), int(d)) for s, a, b, d in rows)
    if sorted(planned) != sorted(expected):
        wrong = sorted(set(planned) ^ set(expected)) or sorted(planned)
        series, t0, c0, z0 = wrong[0]
        raise ReadFailed(
            f"{br.source_name}: the converted planes are not the requested ones: image {series}, "
            f"t {t0}, c {c0}, z {z0} is missing, appears twice, or was not requested. This is a "
            "defect of bfbridge: do not use these files, and report it."
        )


def _images(br: BioReader, options: ConvertOptions) -> list[int]:
    wanted = options.series
    if wanted is None:
        return list(range(len(br.series)))
    names = [image.name for image in br.series]
    chosen = [wanted] if isinstance(wanted, (int, str)) else list(wanted)
    numbers = [names.index(one) if isinstance(one, str) else one for one in chosen]
    return [number % len(names) for number in numbers]


def _channels(wanted: Any, names: Sequence[str | None], count: int) -> list[int]:
    if isinstance(wanted, str):
        wanted = wanted.split(",")
    if not isinstance(wanted, (list, tuple)):
        return _positions(wanted, count)
    chosen: list[int] = []
    for item in wanted:
        name = item.strip() if isinstance(item, str) else None
        chosen += [names.index(name)] if name in names and name else _positions(item, count)
    return chosen


def _with_samples(channels: Sequence[int], samples: int) -> list[int]:
    return [channel * samples + sample for channel in channels for sample in range(samples)]


def _positions(wanted: Any, length: int) -> list[int]:
    """Return the numbers that numpy selects."""
    numbers = np.arange(length)
    if wanted is None:
        return [int(n) for n in numbers]
    if isinstance(wanted, str):
        wanted = wanted.split(",")
    if isinstance(wanted, (list, tuple)):
        return [number for item in wanted for number in _positions_of(item, length)]
    return _positions_of(wanted, length)


def _positions_of(item: Any, length: int) -> list[int]:
    if isinstance(item, str):
        ends = [int(end) if end.strip() else None for end in item.split(":")]
        item = slice(*ends) if len(ends) > 1 else ends[0]
    elif isinstance(item, range):
        item = list(item)
    return [int(n) for n in np.atleast_1d(np.arange(length)[item])]


def read_planes(
    view: ImageView, piece: Piece, key: tuple[slice, ...], crop: tuple[int, int, int, int] | None
) -> Array:
    """Read a block of a new image from its source, plane by plane.

    Parameters
    ----------
    view
        The source's image and level, from `open_again`.
    piece
        Which planes make the new image.
    key
        The block, in the new image's pixels.
    crop
        The requested box: x, y, width, height.

    Returns
    -------
    numpy.ndarray
        Axes Y, X, Z, C, T.
    """
    y, x, z, c, t = key
    left, top = (0, 0) if crop is None else crop[:2]
    rows = slice(top + y.start, top + y.stop)
    columns = slice(left + x.start, left + x.stop)
    shape = tuple(cut.stop - cut.start for cut in key)
    # Samples of a pixel are stored together and decoded together.
    step = piece.samples
    found = np.empty((shape[4], shape[3], shape[2], *shape[:2]), view.dtype)
    for i, j, k in np.ndindex(shape[4], shape[3] // step, shape[2]):
        at_z, at_t = int(piece.z[z.start + k]), int(piece.t[t.start + i])
        at_c = int(piece.c[c.start + j * step])
        pixels = view[rows, columns, at_z, at_c : at_c + step, at_t]
        found[i, j * step : (j + 1) * step, k] = np.moveaxis(pixels.reshape(*shape[:2], step), 2, 0)
    return found.transpose(3, 4, 2, 1, 0)
