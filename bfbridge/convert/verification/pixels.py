"""Verification of pixels: source and target are read again, tile by tile, and compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from bfbridge.convert.options import ConvertOptions
from bfbridge.convert.plan.blocks import BlockGrid, plan_grid
from bfbridge.convert.plan.pieces import Output, Piece
from bfbridge.convert.plan.scaling import Scaling
from bfbridge.convert.reports.record import OutputRecord
from bfbridge.convert.verification.checksum import PixelChecksum
from bfbridge.convert.verification.levels import check_levels, difference
from bfbridge.convert.verification.selection import open_again, read_planes
from bfbridge.engine.workers import run
from bfbridge.errors import ReadFailed
from bfbridge.reader import BioReader
from bfbridge.views import ImageView

__all__ = ["Checked", "CheckedImage", "verify_output", "verify_share"]

Array = np.ndarray[Any, Any]


@dataclass
class CheckedImage:
    """Result of a share of the verification of one image.

    Attributes
    ----------
    description
        The record of the image, without its checksum.
    grid
        The blocks in which it was compared.
    sums
        Key and checksums of each block of the share.
    """

    description: dict[str, Any]
    grid: BlockGrid
    sums: list[tuple[tuple[slice, ...], Array]] = field(default_factory=list)


Checked = tuple[str, list[CheckedImage]]
"""Backend that read the new file, and its images."""


def verify_output(
    source: Any,
    output: Output,
    scalings: Sequence[Scaling],
    options: ConvertOptions,
    record: OutputRecord,
    count: Callable[[int], None],
    shares: Callable[..., Iterable[Checked]] | None = None,
) -> None:
    """Compare a new file with its source, and add the checksums to its record.

    Parameters
    ----------
    source
        The source; it is opened again, and read independently of the conversion.
    output, scalings
        The new file, and how values were changed.
    options
        The conversion options; their workers and memory are used.
    record
        Gets ``verified=True`` and the checksum of every image.
    count
        Called with the number of bytes that were read.
    shares
        Takes the first five arguments of `verify_share`; returns its results for shares that
        together are the whole file. By default, the file is verified in this process.

    Raises
    ------
    ReadFailed
        Something differs: images, sizes, type or pixels; the message states what and where.
    """
    copied = [image.get("copied") for image in record.images] or [None] * len(output.pieces)
    if shares is None:
        checked = [verify_share(source, output, scalings, options, copied, (0, 1), count)]
    else:
        checked = list(shares(source, output, scalings, options, copied))
    record.backend = record.backend or checked[0][0]
    images = []
    for number, parts in enumerate(zip(*(images for _, images in checked), strict=True)):
        image_record = record.images[number] if record.images else {}
        total = PixelChecksum(parts[0].grid)
        for part in parts:
            for key, sums in part.sums:
                total.at(key)[...] = sums
        checksum = total.describe()
        before = image_record.get("checksum")
        if before is not None and before["tile"] == checksum["tile"] and before != checksum:
            raise ReadFailed(
                f"{output.target}, image {number}: the source gave other pixels when it was "
                "read again. Its disk or network may be failing."
            )
        images.append({**parts[0].description, **image_record, "checksum": checksum})
    record.images = images
    record.verified = True


def verify_share(
    source: Any,
    output: Output,
    scalings: Sequence[Scaling],
    options: ConvertOptions,
    copied: Sequence[dict[str, Any] | None],
    share: tuple[int, int],
    count: Callable[[int], None] = lambda read: None,
) -> Checked:
    """Compare a share of the blocks of a new file with its source.

    Parameters
    ----------
    source, output, scalings, options, count
        As of `verify_output`.
    copied
        For each image, the record of encoded chunks that were copied; None where none were.
    share
        (number, how many): every how many-th block, from this number, counted from 0.

    Raises
    ------
    ReadFailed
        Something differs.
    """
    with (
        open_again(source, options) as br,
        BioReader(
            output.target,
            max_workers=options.workers,
            cache=0,
            storage_options=options.target_storage,
        ) as made,
    ):
        # A source may have no image with a role (labels) where the target's format keeps them.
        views = list(made.series)[: len(output.pieces)]
        if len(made.series) != len(output.pieces):
            raise ReadFailed(
                f"{output.target}: it has {len(made.series)} image(s), and "
                f"{len(output.pieces)} were written."
            )
        images = []
        for piece, scaling, view, kept in zip(output.pieces, scalings, views, copied, strict=True):
            images.append(_verify_image(br, piece, scaling, view, options, share, count))
            _verify_levels(piece.view(br), view, kept, options, share)
        return made.backend, images


def _verify_levels(
    source: ImageView,
    made: ImageView,
    copied: dict[str, Any] | None,
    options: ConvertOptions,
    share: tuple[int, int],
) -> None:
    """Compare lower levels with the source's where these were copied, else with level 0."""
    where = f"{made.source_name}, image {made.index}"
    if copied is not None:
        check_levels(source if copied["levels"] > 1 else None, made, options, where, share)
        return
    try:
        check_levels(None, made, options, where, share)
    except ReadFailed:
        # Of a file that an interrupted run left it is not known whether its levels were copied.
        if source.level or len(source.levels) < 2 or source.stored_as is None:
            raise
        check_levels(source, made, options, where, share)


def _described(piece: Piece, scaling: Scaling, view: ImageView) -> dict[str, Any]:
    return {
        "series": piece.series,
        "level": piece.level,
        "name": view.name,
        "shape": list(piece.shape),
        "dtype": scaling.after.name,
        "scaling": scaling.describe() if scaling.changes else None,
    }


def _verify_image(
    br: BioReader,
    piece: Piece,
    scaling: Scaling,
    view: ImageView,
    options: ConvertOptions,
    share: tuple[int, int],
    count: Callable[[int], None],
) -> CheckedImage:
    where = f"{view.source_name}, image {view.index}"
    shape = tuple(view.sizes.values())
    if shape != piece.shape or view.dtype != scaling.after:
        raise ReadFailed(
            f"{where}: it is {shape} (Y, X, Z, C, T) of {view.dtype}, and {piece.shape} of "
            f"{scaling.after} was written."
        )
    source = piece.view(br)
    grid = plan_grid(
        piece.shape, source.chunks, view.chunks, source.dtype.itemsize, piece.samples,
        options.memory_bytes // (2 * options.workers),
    )  # fmt: skip
    checked = CheckedImage(_described(piece, scaling, view), grid)
    checksum = PixelChecksum(grid)
    keys = list(islice(grid, share[0], None, share[1]))
    run(
        (
            partial(_compare, piece, scaling, source, view, key, options, checksum, where, count)
            for key in keys
        ),
        options.workers,
    )
    checked.sums = [(key, checksum.at(key).copy()) for key in keys]
    return checked


def _compare(
    piece: Piece,
    scaling: Scaling,
    source: ImageView,
    made: ImageView,
    key: tuple[slice, ...],
    options: ConvertOptions,
    checksum: PixelChecksum,
    where: str,
    count: Callable[[int], None],
) -> None:
    y, x, z, c, t = key
    raw = read_planes(source, piece, key, options.crop)
    wanted = scaling(raw)
    found = made.read(X=x, Y=y, Z=z, C=c, T=t, keepdims=True)
    equal = np.array_equal(wanted, found, equal_nan=wanted.dtype.kind in "fc")
    if not equal:
        raise ReadFailed(
            difference(wanted, found, key, f"{where}: the pixels are not the source's")
        )
    checksum.add(key, found)
    count(raw.nbytes + raw.nbytes)
