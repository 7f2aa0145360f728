"""`InPlaceWriter`: the base of writers that change a finished store through its journal.

Chunks and documents are written to the journal (see `bfbridge.storage.journal`); `finish` of the
derived class moves them into the store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bfbridge.errors import Unsupported
from bfbridge.limits import DEFAULT_LIMITS
from bfbridge.ngff.documents import to_json
from bfbridge_omezarr.chunked.array_metadata import parse_array
from bfbridge_omezarr.chunked.codecs import last_name
from bfbridge_omezarr.writer import StoreWriter

if TYPE_CHECKING:
    from ome_types import OME

    from bfbridge.backend import ImageSpec
    from bfbridge.ngff.hierarchy import Places
    from bfbridge_omezarr.chunked.array_metadata import ArrayInfo
    from bfbridge_omezarr.hierarchy.documents import Node
    from bfbridge_omezarr.hierarchy.files import JournalTree, KeyTree, ObjectTree
    from bfbridge_omezarr.options import WriteOptions

__all__ = ["InPlaceWriter", "remove_consolidated"]


def remove_consolidated(files: KeyTree, root: Mapping[str, Any]) -> None:
    """Remove the consolidated metadata of a store, which a change of its documents makes outdated.

    Parameters
    ----------
    files
        The store.
    root
        Its ``zarr.json``; empty in Zarr version 2.
    """
    files.remove(".zmetadata")
    document = dict(root)
    if document.pop("consolidated_metadata", None) is not None:
        files.write("zarr.json", to_json(document))


class InPlaceWriter(StoreWriter):
    """A writer of one image whose files replace or complete those of a finished store.

    Parameters
    ----------
    tree
        The store, with its journal; or at a URL, where there is none.
    spec, ome, options, first_t, places
        As for `StoreWriter`.
    """

    def __init__(
        self, tree: JournalTree | ObjectTree, spec: ImageSpec, ome: OME | None,
        options: WriteOptions, *, first_t: int = 0, places: Places | None = None,
    ) -> None:  # fmt: skip
        super().__init__(tree, [spec], ome, options, first_t=first_t, places=places)
        self._tree = tree

    def _check_layout(self, stored: Sequence[ArrayInfo]) -> None:
        """Raise `Unsupported` if new chunks would not be chunks of the arrays of the store.

        The documents of the arrays are kept, and the chunks are written for those of `_levels`.
        """
        for info, level in zip(stored, self._levels[0], strict=True):
            where, version = self._files.path(info.key), 2 if level.document[0] == ".zarray" else 3
            own = parse_array(info.key, level.document[1], version, DEFAULT_LIMITS, where)
            for what, value in _layout(info).items():
                written = _layout(own)[what]
                if value != written:
                    raise Unsupported(
                        f"{where}: the {what} of this array is {value}, and chunks for {written} "
                        "would be written. Convert the store to a new one, which can be changed"
                    )

    def _remove_consolidated(self, root: Node) -> None:
        remove_consolidated(self._files, root.documents.get("zarr.json", {}))

    def abort(self) -> None:
        """Discard the change; does nothing after `finish`."""
        super().abort()
        self._tree.discard()


def _layout(info: ArrayInfo) -> dict[str, str]:
    """Return the properties of an array that its chunks depend on."""
    shard = info.shard
    place = shard and ("end" if shard.at_end else "start", "crc32c" if shard.checked else "none")
    return {
        "shape of chunks": str(info.chunks),
        "shape of shards": str(shard and shard.shape),
        "location and checksum of shard indexes": str(place),
        "data type": info.dtype.str,
        "order of axes": str(info.order),
        "key of the first chunk": info.chunk_key((0,) * len(info.shape)),
        "compression": last_name(info.decoders),
        # Bit by bit, like the chunks that are omitted.
        "fill value": f"{info.fill} ({np.asarray(info.fill, info.dtype).tobytes().hex()})",
    }
