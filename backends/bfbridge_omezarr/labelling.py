"""Adding a label image to a finished store.

Its chunks and documents are written to the store's journal (see `bfbridge.storage.journal`) and
moved into the store by `finish`; the list of labels, which makes it visible, is moved last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bfbridge.backend import Extras
from bfbridge.errors import BadArgument, TargetExists, Unsupported
from bfbridge.limits import DEFAULT_LIMITS
from bfbridge.ngff.documents import group_documents, to_json
from bfbridge.ngff.hierarchy import Places
from bfbridge.storage.source import as_source
from bfbridge_omezarr.attributes.extras import extras_of
from bfbridge_omezarr.chunked.array_metadata import parse_array
from bfbridge_omezarr.hierarchy.documents import Documents, Node
from bfbridge_omezarr.hierarchy.files import JournalTree
from bfbridge_omezarr.hierarchy.layout import FoundImage, find_images, implied_axes
from bfbridge_omezarr.hierarchy.ngff import map_axes
from bfbridge_omezarr.hierarchy.zips import open_store
from bfbridge_omezarr.in_place import InPlaceWriter
from bfbridge_omezarr.options import WriteOptions, parse_options

if TYPE_CHECKING:
    from bfbridge.backend import ImageSpec

__all__ = ["AddedLabel"]


class AddedLabel(InPlaceWriter):
    """A writer of one label image in a finished store.

    Parameters
    ----------
    tree
        The store.
    spec
        The label image; its name is that of its group.
    options
        Version of the store.
    key
        Key of the group ``labels``.
    listing
        That group, or None if there is none yet.
    root
        The root of the store.
    """

    def __init__(
        self, tree: JournalTree, spec: ImageSpec, options: WriteOptions, key: str,
        listing: Node | None, root: Node,
    ) -> None:  # fmt: skip
        name = str(spec.image.name)
        places = Places((f"{key}/{name}",), (), {})
        super().__init__(tree, spec, None, options, places=places)
        self._key = key
        self._listing = listing
        self._root = root

    @classmethod
    def begin(
        cls, path: Path, image: int, spec: ImageSpec, options: Mapping[str, Any], *, replaced: bool
    ) -> AddedLabel:
        """Start to add a label image; see `ChunkedStoreBackend.add_label`."""
        tree = JournalTree(path)
        store = open_store(as_source(path), DEFAULT_LIMITS, allow_outside=False)
        try:
            documents = Documents(store, DEFAULT_LIMITS, consolidated=False)
            layout = find_images(documents, str(path))
            root = documents.root()
            found = layout.images[image]
            if root is None or found.node is None or layout.kind in ("array", "labels"):
                raise Unsupported(f"{path}: labels are added to images with NGFF metadata")
            version = "0.4" if root.zarr_format == 2 else "0.5"
            parsed = parse_options({**options, "version": version})
            key = f"{found.group}/labels" if found.group else "labels"
            listing = documents.node(key)
            _check_listing(path, key, listing)
            existing = documents.node(f"{key}/{spec.image.name}")
            if existing is not None and not replaced:
                raise TargetExists(
                    f"{path}: there is a label image {spec.image.name!r} already. Choose another "
                    "name, or give overwrite=True to replace it."
                )
            extras = Extras(origin=_origin(documents, found), other=spec.extras.other)
            keys = [k for k in store.keys() if k.startswith(f"{key}/{spec.image.name}/")]
        finally:
            store.close()
        writer = cls(tree, replace(spec, extras=extras), parsed, key, listing, root)
        for old in keys:
            tree.remove(old)
        return writer

    def finish(self) -> None:
        """Add the label image to the store.

        Raises
        ------
        WriteFailed
            The file system refuses.
        """
        self._start_finish()
        self._complete()
        for level in self._levels[0]:
            level.describe()
        (group,) = self._places.groups
        version = self._options.version
        for name, document in group_documents(self._documents()[group], version):
            self._files.write(f"{group}/{name}", to_json(document))
        last = self._write_listing(group.rpartition("/")[2])
        self._remove_consolidated(self._root)
        self._tree.commit(last=last)

    def _write_listing(self, name: str) -> list[str]:
        """Write the list of labels; return the keys of its documents."""
        stored = self._listing
        known = [] if stored is None else list(stored.ome.get("labels") or [])
        labels = {"labels": known if name in known else [*known, name]}
        if stored is None or self._options.version == "0.4":
            others = {} if stored is None else dict(stored.attributes)
            documents = group_documents({**others, **labels}, self._options.version)
        else:
            document = dict(stored.documents["zarr.json"])
            ome = {"version": "0.5", **stored.ome, **labels}
            document["attributes"] = {**stored.attributes, "ome": ome}
            document.pop("consolidated_metadata", None)
            documents = [("zarr.json", document)]
        keys = []
        for file, content in documents:
            keys.append(f"{self._key}/{file}")
            self._files.write(keys[-1], to_json(content))
        return keys

    def release(self) -> None:
        """Raise `Unsupported`: one process adds a label image."""
        raise Unsupported(f"{self._files.root}: one process adds labels and finishes.")


def _check_listing(path: Path, key: str, listing: Node | None) -> None:
    names = [] if listing is None else listing.ome.get("labels", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadArgument(
            f"{path}/{key}: its list of labels is damaged. Correct it first; `bfbridge validate` "
            "shows where."
        )


def _origin(documents: Documents, found: FoundImage) -> Mapping[str, Any]:
    """Return the position of the image's first element."""
    node = documents.node(found.arrays[0])
    if found.multiscale is None or node is None or node.array is None:
        return {}
    info = parse_array(node.key, node.array, node.zarr_format, DEFAULT_LIMITS, node.key)
    axes = found.multiscale.axes or implied_axes(len(info.shape))
    return extras_of(found, map_axes(axes, info.shape, node.key), 1).origin
