"""Options of `OmeZarrWriter`: checked, and converted to codecs and grids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from bfbridge.backend import AXES, Shape5
from bfbridge.errors import BadArgument
from bfbridge.ngff.compression import Compression, parse_compression
from bfbridge.runtime.writer_options import refuse_unknown, split_compression

if TYPE_CHECKING:
    from bfbridge.backend import Level

__all__ = ["DEFAULT_CHUNK", "WRITER_OPTIONS", "WriteOptions", "normalized", "parse_options"]

DEFAULT_CHUNK: Final[Shape5] = (1, 1, 1, 1024, 1024)
DEFAULT_COMPRESSION: Final = "blosc-zstd"
OPTIONS: Final = ("version", "chunks", "shards", "compression", "wells", "hcs", "drop_axes")
WRITER_OPTIONS: Final = (*OPTIONS, "level", "tile")


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """Checked options.

    Attributes
    ----------
    version
        NGFF version: "0.4" (Zarr version 2) or "0.5" (Zarr version 3).
    chunks, shards
        Along T, C, Z, Y, X; `shards` is None without sharding.
    compression
        Compression of every chunk.
    wells
        Well of each image, or None.
    hcs
        Whether images in wells form a plate; None: if there are several wells.
    drop_axes
        Whether axes of length 1 are not written.
    """

    version: Literal["0.4", "0.5"]
    chunks: Shape5
    shards: Shape5 | None
    compression: Compression
    wells: tuple[str, ...] | None = None
    hcs: bool | None = None
    drop_axes: bool = False

    def shard_grid(self, level: Level) -> Shape5 | None:
        """Return the chunks per shard along each axis, limited to the level; or None."""
        if self.shards is None:
            return None
        t, c, z, y, x = (
            max(1, min(-(-shard // chunk), -(-size // chunk)))
            for shard, chunk, size in zip(self.shards, level.chunk, level.shape, strict=True)
        )
        return t, c, z, y, x


def parse_options(options: Mapping[str, Any]) -> WriteOptions:
    """Check the writer's options.

    Parameters
    ----------
    options
        ``version``: "0.5" (default) or "0.4". ``chunks``, ``shards``: a number for Y and X, or one
        number for each of the last axes of T, C, Z, Y, X, so that (512, 512) is Y, X.
        ``compression``: "blosc-zstd" (default), "blosc-lz4", "zstd", "gzip", "none" or None, or a
        pair of one of them and its level. ``wells``: the well of each image ("B03"), which makes
        the store a plate. ``hcs``: whether images in wells of the OME metadata form a plate; by
        default, if there are several wells. ``drop_axes``: whether T, C and Z are left out where
        their length is 1; time points cannot be added to an image without T.

    Raises
    ------
    BadArgument
        A name or a value is not one of these.
    """
    refuse_unknown(options, OPTIONS, "OME-Zarr")
    version = "0.5" if options.get("version") is None else str(options["version"])
    if version not in ("0.4", "0.5"):
        raise BadArgument(f"version={version!r}: OME-Zarr is written in version '0.4' or '0.5'.")
    chunks = _grid(options.get("chunks"), "chunks") or DEFAULT_CHUNK
    shards = _grid(options.get("shards"), "shards")
    if shards is not None:
        if version == "0.4":
            raise BadArgument("shards=: OME-Zarr 0.4 has no shards; write version='0.5'.")
        for axis, shard, chunk in zip(AXES, shards, chunks, strict=True):
            if shard % chunk:
                raise BadArgument(
                    f"shards={shards}: {shard} along {axis} is no multiple of the chunk size, "
                    f"{chunk}."
                )
    wells = options.get("wells")
    if wells is not None and (isinstance(wells, str) or not isinstance(wells, (list, tuple))):
        raise BadArgument(f"wells={wells!r:.100}: give a list with the name of each image's well.")
    hcs = options.get("hcs")
    if hcs is not None and not isinstance(hcs, bool):
        raise BadArgument(f"hcs={hcs!r}: give True, False or None.")
    drop_axes = options.get("drop_axes") or False
    if not isinstance(drop_axes, bool):
        raise BadArgument(f"drop_axes={drop_axes!r}: give True, False or None.")
    return WriteOptions(
        "0.4" if version == "0.4" else "0.5",
        chunks,
        shards,
        parse_compression(options.get("compression", DEFAULT_COMPRESSION)),
        None if wells is None else tuple(wells),
        hcs,
        drop_axes,
    )


def normalized(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with the level in ``compression``, and ``tile`` as ``chunks``.

    Raises
    ------
    BadArgument
        Options contradict each other.
    """
    refuse_unknown(options, WRITER_OPTIONS, "OME-Zarr")
    found = split_compression(options)
    level = found.pop("level", None)
    if level is not None:
        found["compression"] = (found.get("compression", DEFAULT_COMPRESSION), level)
    tile = found.pop("tile", None)
    if tile is not None:
        if "chunks" in found and _grid(found["chunks"], "chunks") != _grid(tile, "tile"):
            raise BadArgument(
                f"chunks={found['chunks']!r} and tile={tile!r} differ. Give one of them."
            )
        found.setdefault("chunks", tile)
    return found


def _grid(value: Any, what: str) -> Shape5 | None:
    """Return sizes along all five axes; missing ones are 1."""
    if value is None:
        return None
    sizes: Sequence[Any] = (value, value)
    if not isinstance(value, (int, np.integer)):
        listed = isinstance(value, (tuple, list, np.ndarray)) and np.iterable(value)
        sizes = tuple(value) if listed else ()
    whole = all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in sizes)
    if not 1 <= len(sizes) <= 5 or not whole or min(sizes, default=0) < 1:
        raise BadArgument(
            f"{what}={value!r}: give one number for Y and X, or up to five for the last of T, C, "
            "Z, Y, X, each 1 or more."
        )
    t, c, z, y, x = (1,) * (5 - len(sizes)) + tuple(int(n) for n in sizes)
    return t, c, z, y, x
