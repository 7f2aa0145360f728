"""Segments that are copied from one TIFF to another without decoding and encoding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bfbridge.backend import StoredAs
from bfbridge.tiff.packing import BYTE_ORDER
from bfbridge.tiff.tags import BYTE_STREAMS
from bfbridge_ometiff.structure.segment_layout import (
    BLACK_IS_ZERO,
    JPEG,
    JPEG2000,
    PALETTE,
    SegmentLayout,
)

__all__ = ["Copied", "copied_from", "stored_as"]


@dataclass(frozen=True, slots=True)
class Copied:
    """The encoding of copied segments in the tags of a directory; see `encode.Encoding`."""

    dtype: np.dtype[Any]
    samples: int
    compression: str
    tag: int
    predictor: int
    photometric: int
    subsampling: tuple[int, ...]
    tables: bytes


def stored_as(layout: SegmentLayout) -> StoredAs | None:
    """Return how a directory's segments are encoded, or None if they cannot be copied.

    Only tiles are copied: strips are as wide as their image, and the last one is shorter. Segments
    whose pixels are converted when read (0 is white, packed bits) are not copied either.
    """
    if not layout.tiled or layout.planar or layout.packed:
        return None
    if layout.inverted or layout.reversed_bits:
        return None
    if layout.compression not in (BYTE_STREAMS | {JPEG, JPEG2000}):
        return None
    if layout.tile_width % 16 or layout.tile_length % 16 or not layout.counts.all():
        return None
    swapped = layout.byteorder != BYTE_ORDER and layout.dtype.itemsize > 1
    if swapped and layout.compression in BYTE_STREAMS:
        return None
    # Palette indices are read as grey, and written as such: OME has no palette.
    grey = layout.photometric == PALETTE
    return StoredAs(
        "tiff",
        (
            ("dtype", layout.dtype.name),
            ("samples", layout.samples),
            ("compression", layout.compression),
            ("tag", layout.compression_tag or 1),
            ("predictor", layout.predictor),
            ("photometric", BLACK_IS_ZERO if grey else layout.photometric),
            ("subsampling", layout.subsampling),
            ("tables", layout.tables),
        ),
    )


def copied_from(stored: StoredAs) -> Copied:
    """Return the tags for segments with this encoding."""
    details = dict(stored.details)
    return Copied(**{**details, "dtype": np.dtype(details["dtype"])})
