"""`InPlaceWriter`: the base of writers that change a finished store through its journal.

Chunks and documents are written to the journal (see `bfbridge.storage.journal`); `finish` of the
derived class moves them into the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bfbridge.ngff.documents import to_json
from bfbridge_omezarr.writer import StoreWriter

if TYPE_CHECKING:
    from ome_types import OME

    from bfbridge.backend import ImageSpec
    from bfbridge.ngff.hierarchy import Places
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

    def _remove_consolidated(self, root: Node) -> None:
        remove_consolidated(self._files, root.documents.get("zarr.json", {}))

    def abort(self) -> None:
        """Discard the change; does nothing after `finish`."""
        super().abort()
        self._tree.discard()
