"""Verification of pixels: source and target are read again, tile by tile, and compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from bfbridge.convert.options import ConvertOptions
from bfbridge.convert.plan.blocks import plan_grid
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

__all__ = ["verify_output"]


def verify_output(
    source: Any,
    output: Output,
    scalings: Sequence[Scaling],
    options: ConvertOptions,
    record: OutputRecord,
    count: Callable[[int], None],
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

    Raises
    ------
    ReadFailed
        Something differs: images, sizes, type or pixels; the message states what and where.
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
        record.backend = record.backend or made.backend
        images = []
        for number, (piece, scaling, view) in enumerate(
            zip(output.pieces, scalings, views, strict=True)
        ):
            image_record = record.images[number] if record.images else {}
            checksum = _verify_image(br, piece, scaling, view, options, count)
            _verify_levels(piece.view(br), view, image_record.get("copied"), options)
            before = image_record.get("checksum")
            if before is not None and before["tile"] == checksum["tile"] and before != checksum:
                raise ReadFailed(
                    f"{output.target}, image {number}: the source gave other pixels when it was "
                    "read again. Its disk or network may be failing."
                )
            images.append(
                {**_described(piece, scaling, view), **image_record, "checksum": checksum}
            )
        record.images = images
        record.verified = True


def _verify_levels(
    source: ImageView, made: ImageView, copied: dict[str, Any] | None, options: ConvertOptions
) -> None:
    """Compare lower levels with the source's where these were copied, else with level 0."""
    where = f"{made.source_name}, image {made.index}"
    if copied is not None:
        check_levels(source if copied["levels"] > 1 else None, made, options, where)
        return
    try:
        check_levels(None, made, options, where)
    except ReadFailed:
        # Of a file that an interrupted run left it is not known whether its levels were copied.
        if source.level or len(source.levels) < 2 or source.stored_as is None:
            raise
        check_levels(source, made, options, where)


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
    count: Callable[[int], None],
) -> dict[str, Any]:
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
    checksum = PixelChecksum(grid)
    run(
        (
            partial(_compare, piece, scaling, source, view, key, options, checksum, where, count)
            for key in grid
        ),
        options.workers,
    )
    return checksum.describe()


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
