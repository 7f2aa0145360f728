"""Which pixels of a source go into which new file, and what the files are called."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from bfbridge.convert.locations import Place, place_of
from bfbridge.convert.option_values import parse_positions
from bfbridge.convert.options import ConvertOptions
from bfbridge.convert.plan.naming import filled, marked
from bfbridge.engine.selection import parse_axis
from bfbridge.errors import BadArgument, BadSelection
from bfbridge.reader import BioReader
from bfbridge.runtime.systems import folded_name
from bfbridge.views import ImageView

__all__ = [
    "Output",
    "Piece",
    "chosen_channels",
    "chosen_views",
    "grouped_by_well",
    "plan_outputs",
]


@dataclass(frozen=True)
class Piece:
    """The part of one source image that becomes one new image.

    Attributes
    ----------
    series, level
        Which image and resolution.
    y, x, z, c, t
        Positions taken along each axis, in their new order. `c` counts samples.
    samples
        Samples of a pixel; they lie side by side in `c`.
    whole
        Whether it is the complete image at full size, so that metadata is unchanged.
    """

    series: int
    level: int
    y: Sequence[int]
    x: Sequence[int]
    z: Sequence[int]
    c: Sequence[int]
    t: Sequence[int]
    samples: int = 1
    whole: bool = False

    @property
    def axes(self) -> tuple[Sequence[int], ...]:
        """Positions along Y, X, Z, C, T."""
        return self.y, self.x, self.z, self.c, self.t

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes along Y, X, Z, C, T."""
        return tuple(len(axis) for axis in self.axes)

    @property
    def size(self) -> int:
        """Number of values."""
        return prod(self.shape)

    def view(self, br: BioReader) -> ImageView:
        """Return the source's view that the positions count in."""
        return br.series[self.series].levels[self.level]

    def read(self, view: ImageView, key: tuple[slice, ...]) -> np.ndarray[Any, Any]:
        """Read a block, given in the new image's pixels; axes Y, X, Z, C, T."""
        y, x, z, c, t = (_index(axis[cut]) for axis, cut in zip(self.axes, key, strict=True))
        return view.read(X=x, Y=y, Z=z, C=c, T=t, keepdims=True)


def _index(axis: Sequence[int]) -> slice | np.ndarray[Any, Any]:
    if isinstance(axis, range) and axis.step == 1:
        return slice(axis.start, axis.stop)
    # Not a list: two numbers in a list are a start and a stop, as bfio has it.
    return np.array(axis, np.intp)


@dataclass(frozen=True)
class Output:
    """One new file and the pieces that become its images."""

    target: Place
    pieces: tuple[Piece, ...]


def plan_outputs(
    br: BioReader, target: str | os.PathLike[str], options: ConvertOptions
) -> list[Output]:
    """Assign the pixels of a source to new files.

    Parameters
    ----------
    br
        The open source.
    target
        The new file; with ``options.split``, the base of the files' names. A pattern
        (``options.names``) replaces its last part.
    options
        The conversion options.

    Raises
    ------
    BadSelection
        A series, level, channel, position or crop that the source does not have.
    BadArgument
        A pattern that gives two files one name.
    """
    views = chosen_views(br, options)
    pieces = [_piece(view, options) for view in views]
    place = place_of(target)
    outputs: dict[Place, list[Piece]] = {}
    taken: dict[str, tuple[int, ...]] = {}
    for view, piece in zip(views, pieces, strict=True):
        own = "series" in options.split and len(pieces) > 1
        ending = f"_s{view.index}" if own else ""
        for part, marks in _split(piece, options.split):
            if options.names is None:
                path = marked(place, marks + ending)
            else:
                path = place.with_name(_from_pattern(br, part, options.names))
                _refuse_second(taken, path, _numbers(part, options.split), options.names)
            outputs.setdefault(path, []).append(part)
    return [Output(path, tuple(parts)) for path, parts in outputs.items()]


def grouped_by_well(outputs: Sequence[Output], br: BioReader) -> list[Output]:
    """Put the images of a plate well by well, as stores of plates keep and number them."""
    if all(len(output.pieces) < 2 for output in outputs):
        return list(outputs)
    ome = br.ome
    wells = {
        sample.image_ref.id: number
        for plate in (ome.plates if len(ome.plates) == 1 else ())
        for number, well in enumerate(plate.wells)
        for sample in well.well_samples
        if sample.image_ref is not None
    }
    if len(ome.images) != len(br.series) or any(image.id not in wells for image in ome.images):
        return list(outputs)
    grouped = []
    for output in outputs:
        of_piece = [wells[ome.images[piece.series].id] for piece in output.pieces]
        rank = {well: place for place, well in enumerate(dict.fromkeys(of_piece))}
        pairs = sorted(zip(of_piece, output.pieces, strict=True), key=lambda pair: rank[pair[0]])
        grouped.append(replace(output, pieces=tuple(piece for _, piece in pairs)))
    return grouped


def _from_pattern(br: BioReader, piece: Piece, pattern: str) -> str:
    """Return the name of the new file of a piece, made of a pattern."""
    view = piece.view(br)
    channel = piece.c[0] // piece.samples

    def acquired() -> str:
        date = br.ome.images[piece.series].acquisition_date
        if date is None:
            raise BadSelection(
                f"{view.source_name}: it is not known when image {piece.series} was acquired, so "
                f"%A in the name {pattern} has no value. Remove it from the pattern."
            )
        return f"{date:%Y-%m-%dT%H-%M-%S}"

    return filled(
        pattern,
        {
            "s": lambda: str(piece.series),
            "n": lambda: view.name or str(piece.series),
            "c": lambda: str(channel),
            "w": lambda: view.channel_names[channel] or str(channel),
            "z": lambda: str(piece.z[0]),
            "t": lambda: str(piece.t[0]),
            "A": acquired,
        },
    )


def _numbers(piece: Piece, split: Sequence[str]) -> tuple[int, ...]:
    """Return the numbers that identify one of the files into which a source is split."""
    first = {"series": piece.series, "c": piece.c[0], "t": piece.t[0], "z": piece.z[0]}
    return tuple(first[axis] for axis in split)


def _refuse_second(
    taken: dict[str, tuple[int, ...]], path: Place, numbers: tuple[int, ...], pattern: str
) -> None:
    if taken.setdefault(folded_name(str(path)), numbers) != numbers:
        raise BadArgument(
            f"{pattern}: two new files would be called {path.name}. Distinguish them by "
            "numbers: %s for images, %c for channels, %z for slices, %t for time points."
        )


def chosen_views(br: BioReader, options: ConvertOptions) -> list[ImageView]:
    """Return the images that are converted, masks last, at the level that is read."""
    wanted = options.series
    if wanted is None:
        chosen = list(br.series)
    elif isinstance(wanted, (int, str)):
        chosen = [br.series[wanted]]
    else:
        chosen = [br.series[number] for number in wanted]
    if not chosen:
        raise BadArgument(f"series={wanted!r}: no image is chosen.")
    # Masks follow the images they belong to, as OME-Zarr keeps them.
    chosen.sort(key=lambda view: view.is_mask)
    if len({view.index for view in chosen}) < len(chosen):
        raise BadArgument(f"series={wanted!r}: an image is chosen twice.")
    if options.source_level == 0:
        return chosen
    # Labels and thumbnails have one resolution level only.
    leveled = [view for view in chosen if len(view.levels) > options.source_level]
    if not leveled:
        raise BadSelection(
            f"{br.source_name}: no image chosen has level {options.source_level}; they have "
            f"{', '.join(str(len(view.levels)) for view in chosen)} level(s)."
        )
    return [view.levels[options.source_level] for view in leveled]


def _piece(view: ImageView, options: ConvertOptions) -> Piece:
    sizes = view.sizes
    x, y = range(sizes["X"]), range(sizes["Y"])
    if options.crop is not None:
        left, top, width, height = options.crop
        if left + width > sizes["X"] or top + height > sizes["Y"]:
            raise BadSelection(
                f"{view.source_name}: crop={options.crop} reaches outside image {view.index}, "
                f"which is {sizes['X']} x {sizes['Y']} pixels at level {view.level}."
            )
        x, y = range(left, left + width), range(top, top + height)
    samples = view.samples_per_pixel
    channels = chosen_channels(view, options.channels)
    c: Sequence[int] = [ch * samples + s for ch in channels for s in range(samples)]
    z = _positions(options.z, sizes["Z"], "Z")
    t = _positions(options.t, sizes["T"], "T")
    piece = Piece(view.index, view.level, y, x, z, _tidy(c), t, samples)
    whole = view.level == 0 and piece.axes == tuple(range(n) for n in sizes.values())
    return replace(piece, whole=whole)


def _positions(wanted: Any, length: int, axis: str) -> Sequence[int]:
    if wanted is None:
        return range(length)
    parsed = parse_positions(wanted, axis.lower())
    items = parsed if isinstance(parsed, (list, tuple)) else [parsed]
    found = [int(i) for item in items for i in parse_axis(item, length, axis)]
    if not found:
        raise BadSelection(f"{axis.lower()}={wanted!r} chooses nothing of {length}.")
    if len(set(found)) < len(found):
        raise BadSelection(f"{axis.lower()}={wanted!r} chooses a position twice.")
    return _tidy(found)


def chosen_channels(view: ImageView, wanted: Any) -> Sequence[int]:
    """Return the numbers of the channels that are converted."""
    count = view.sizes["C"] // view.samples_per_pixel
    if wanted is None:
        return range(count)
    if isinstance(wanted, str):
        wanted = wanted if _is_positions(wanted) else wanted.split(",")
    if isinstance(wanted, (list, tuple)):
        names = view.channel_names
        numbers: list[Any] = []
        for item in wanted:
            if isinstance(item, str) and not _is_positions(item):
                if names.count(item.strip()) != 1:
                    raise BadSelection(
                        f"{view.source_name}: image {view.index} has no one channel named "
                        f"{item.strip()!r}. Its channels are {names}."
                    )
                numbers.append(names.index(item.strip()))
            else:
                parsed = parse_positions(item, "channels")
                numbers.extend(parsed if isinstance(parsed, list) else [parsed])
        wanted = numbers
    return _positions(wanted, count, "C")


def _is_positions(text: str) -> bool:
    return not text.strip().strip("0123456789:,- ")


def _tidy(positions: Sequence[int]) -> Sequence[int]:
    """Return a range where the positions follow each other, else a tuple."""
    first = positions[0]
    steps = all(b - a == 1 for a, b in itertools.pairwise(positions))
    return range(first, first + len(positions)) if steps else tuple(positions)


def _split(piece: Piece, split: Sequence[str]) -> Iterator[tuple[Piece, str]]:
    """Split a piece along the requested axes; yield parts and the marks in their names.

    A mark is there only where the axis is longer than 1, and counts from 0 in the source.
    """
    cuts: list[list[tuple[dict[str, Any], str]]] = []
    for axis in ("c", "t", "z"):
        positions: Sequence[int] = getattr(piece, axis)
        step = piece.samples if axis == "c" else 1
        if axis not in split or len(positions) <= step:
            cuts.append([({}, "")])
            continue
        cuts.append(
            [
                (
                    {axis: positions[i : i + step], "whole": False},
                    f"_{axis}{positions[i] // step}",
                )
                for i in range(0, len(positions), step)
            ]
        )
    for combined in itertools.product(*cuts):
        changes: dict[str, Any] = {}
        for change, _ in combined:
            changes.update(change)
        yield replace(piece, **changes), "".join(mark for _, mark in combined)
