"""Writing to a finished store: time points are added, or pixels changed.

Each change is applied completely or not at all: written data are kept in the store's journal until
`finish` (see `bfbridge.storage.journal`). If the process is killed before that, the image is
unchanged; if it is killed later, the next writer completes the change.

A store at a URL has no journal, and only time points are added to it. Their chunks are beyond the
end of the arrays, where no reader looks for them; `finish` then replaces the documents of the
arrays, that of the full size last.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bfbridge.backend import Image, ImageSpec, Level, OpenOptions, Shape5
from bfbridge.chunked_store import ChunkedStoreBackend
from bfbridge.errors import BadArgument, BfbridgeError, Unsupported
from bfbridge.limits import DEFAULT_LIMITS
from bfbridge.ngff.documents import to_json
from bfbridge.ngff.hierarchy import ome_xml_of
from bfbridge.ome.documents.model import model_from_xml
from bfbridge.storage.source import as_source
from bfbridge_omezarr.added_levels import AddedLevels
from bfbridge_omezarr.chunked.array_metadata import ArrayInfo, parse_array
from bfbridge_omezarr.chunked.codec_options import options_of
from bfbridge_omezarr.hierarchy.documents import Documents, Node
from bfbridge_omezarr.hierarchy.files import JournalTree, ObjectTree, tree_of
from bfbridge_omezarr.hierarchy.layout import FoundImage, find_images
from bfbridge_omezarr.hierarchy.zips import open_store
from bfbridge_omezarr.in_place import InPlaceWriter
from bfbridge_omezarr.labelling import AddedLabel
from bfbridge_omezarr.options import parse_options
from bfbridge_omezarr.reader import METADATA_KEY, OmeZarrReader
from bfbridge_omezarr.shared import load_plan
from bfbridge_omezarr.writer import StoreWriter

if TYPE_CHECKING:
    from ome_types import OME

    from bfbridge.storage.source import Source
    from bfbridge_omezarr.options import WriteOptions

__all__ = ["Changes", "Extension", "OmeZarrWriter"]

_AXES = ("t", "c", "z", "y", "x")


class Extension(InPlaceWriter):
    """A writer of further time points; its image has only these, and its blocks count from 0.

    Attributes
    ----------
    first_t
        Number of existing time points.
    """

    def __init__(
        self, tree: JournalTree | ObjectTree, spec: ImageSpec, ome: OME | None,
        options: WriteOptions, nodes: Sequence[Node], first_t: int, root: Node,
    ) -> None:  # fmt: skip
        super().__init__(tree, spec, ome, options, first_t=first_t)
        self.first_t = first_t
        self._nodes = nodes
        self._root = root
        self._described = False

    @classmethod
    def begin(cls, path: Path | Source, count: int) -> Extension:
        """Start to add `count` time points to the image at `path`.

        Raises
        ------
        BadArgument
            `count` is not 1 or more.
        Unsupported
            The store is not one image in bfbridge's layout (axes t, c, z, y, x, one time point
            per chunk and shard, a compression that can be written).
        BfbridgeError
            The store cannot be read.
        """
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise BadArgument(f"{path}: {count!r} time points cannot be added; give 1 or more.")
        tree = JournalTree(path) if isinstance(path, Path) else ObjectTree(path)
        stored = _stored(path)
        spec = _spec_of(stored.image, stored.found, stored.infos, count)
        first_t = stored.infos[0].shape[0]
        writer = cls(tree, spec, stored.ome, stored.options, stored.nodes, first_t, stored.root)
        writer._check_layout(stored.infos)
        writer._clear()
        return writer

    def finish(self) -> None:
        """Make the new time points part of the image.

        Raises
        ------
        WriteFailed
            The file system refuses.
        """
        self._start_finish()
        self._complete()
        self._remove_consolidated(self._root)
        total = self.first_t + self._specs[0].image.levels[0].shape[0]
        if self._ome is not None:
            self._ome.images[0].pixels.size_t = total
            self._files.write(METADATA_KEY, ome_xml_of(self._ome, self._places.order).encode())
        # From now on the new chunks may be visible, also if a request seems to have failed.
        self._described = True
        documents = [node.array_path for node in reversed(self._nodes)]
        for path, node in zip(documents, reversed(self._nodes), strict=True):
            document = dict(node.array or {})
            document["shape"] = [total, *document["shape"][1:]]
            self._files.write(path, to_json(document))
        self._tree.commit(last=[METADATA_KEY, *documents])
        self._files.close()

    def abort(self) -> None:
        """Discard what was added; does nothing after `finish`."""
        super().abort()
        if isinstance(self._tree, ObjectTree) and not self._described:
            with suppress(BfbridgeError):
                self._clear()

    def release(self) -> None:
        """Raise `Unsupported`: one process adds time points."""
        raise Unsupported(f"{self._files.root}: one process adds time points and finishes.")

    def _clear(self) -> None:
        """Remove chunks beyond the end.

        They remain if a program has shortened the store, or a writer at a URL was killed. If that
        writer had begun to replace documents, lower levels are longer than the image; they get the
        length of the image first, so that nobody reads chunks that are being removed.
        """
        if isinstance(self._tree, ObjectTree):
            for node in self._nodes[1:]:
                document = dict(node.array or {})
                if document["shape"][0] != self.first_t:
                    document["shape"] = [self.first_t, *document["shape"][1:]]
                    self._tree.write(node.array_path, to_json(document))
            for level in self._levels[0]:
                self._tree.remove_from(level.prefix.rstrip("/"), self.first_t)
            return
        for level in self._levels[0]:
            folder = Path(self._files.path(level.prefix.rstrip("/")))
            for entry in folder.glob("[0-9]*"):
                if re.fullmatch("[0-9]+", entry.name) and int(entry.name) >= self.first_t:
                    shutil.rmtree(entry, ignore_errors=True)


class Changes(InPlaceWriter):
    """A writer that changes pixels of a finished store."""

    @classmethod
    def begin(cls, path: Path) -> Changes:
        """Start to change the image at `path`.

        Raises
        ------
        Unsupported
            The store is not one image in bfbridge's layout, or is sharded: a shard would have to be
            rewritten for each of its chunks.
        BfbridgeError
            The store cannot be read.
        """
        tree = JournalTree(path)
        stored = _stored(path)
        if any(info.shard is not None for info in stored.infos):
            raise Unsupported(f"{path}: shards of a finished store are not changed")
        count = stored.infos[0].shape[0]
        spec = _spec_of(stored.image, stored.found, stored.infos, count)
        writer = cls(tree, spec, stored.ome, stored.options)
        writer._check_layout(stored.infos)
        return writer

    def finish(self) -> None:
        """Apply all changes; the metadata do not change.

        Raises
        ------
        WriteFailed
            The file system refuses.
        """
        self._start_finish()
        self._tree.commit()

    def release(self) -> None:
        """Raise `Unsupported`: one process makes the changes."""
        raise Unsupported(f"{self._files.root}: one process changes a finished store.")


@dataclass(frozen=True)
class _StoredImage:
    """The metadata of a store of one image."""

    image: Image
    found: FoundImage
    infos: list[ArrayInfo]
    options: WriteOptions
    nodes: list[Node]
    root: Node
    ome: OME | None


def _stored(place: Path | Source) -> _StoredImage:
    """Read the metadata of a store that is to be changed."""
    source = as_source(place)
    path = place if isinstance(place, Path) else place.name
    reader = OmeZarrReader.open(source, OpenOptions())
    image, stored_ome = reader.images[0], _document(reader, tree_of(place).read(METADATA_KEY))
    reader.close()
    store = open_store(source, DEFAULT_LIMITS, allow_outside=False)
    documents = Documents(store, DEFAULT_LIMITS)
    layout = find_images(documents, str(path))
    root = documents.root()
    if root is None or layout.kind != "image" or len(layout.images) != 1:
        raise Unsupported(f"{path}: time points are added to a store of one image, no labels")
    found = layout.images[0]
    nodes = [node for node in documents.nodes(found.arrays) if node is not None]
    infos = [
        parse_array(n.key, n.array or {}, n.zarr_format, DEFAULT_LIMITS, store.label(n.key))
        for n in nodes
    ]
    _refuse(path, found, infos)
    options = parse_options(options_of(path, nodes[0], infos[0]))
    return _StoredImage(image, found, infos, options, nodes, root, stored_ome)


def _document(reader: OmeZarrReader, data: bytes | None) -> OME | None:
    """Return the OME metadata of a store; None if it has no OME-XML."""
    if data is None:
        return None
    shape = reader.images[0].levels[0].shape
    with suppress(BfbridgeError, UnicodeDecodeError):
        stored = model_from_xml(data.decode())
        # The reader ignores OME-XML with other sizes. Only T differs after a writer at a URL was
        # killed while it replaced documents.
        if len(stored.images) == 1:
            pixels = stored.images[0].pixels
            sizes = (pixels.size_c, pixels.size_z, pixels.size_y, pixels.size_x)
            if pixels.size_t != shape[0] and sizes == shape[1:]:
                return stored
    return reader.ome()


def _refuse(path: Path | str, found: FoundImage, infos: Sequence[ArrayInfo]) -> None:
    """Raise `Unsupported` for stores whose layout differs from bfbridge's."""
    axes = () if found.multiscale is None else found.multiscale.axes
    if tuple(axis.name for axis in axes) != _AXES:
        raise Unsupported(f"{path}: time points are added to images with axes t, c, z, y, x")
    if [info.key for info in infos] != [str(i) for i in range(len(infos))]:
        raise Unsupported(f"{path}: time points are added to levels called 0, 1, 2 and so on")
    first = infos[0].chunks
    for info in infos:
        outer = info.chunks if info.shard is None else info.shard.shape
        if not info.direct or outer[0] != 1 or info.separator != "/":
            raise Unsupported(
                f"{path}/{info.key}: chunks of {list(outer)} that contain other time points, or "
                "have another layout than bfbridge's"
            )
        cut = tuple(min(n, size) for n, size in zip(first, info.shape, strict=True))
        # A writer at a URL that was killed while it replaced documents leaves longer lower levels.
        if info.chunks != cut or info.shape[0] < infos[0].shape[0]:
            raise Unsupported(f"{path}/{info.key}: chunks or time points unlike those of level 0")
        straight = info.order == tuple(range(5))
        if not straight or info.dtype.str[0] == ">":
            raise Unsupported(f"{path}/{info.key}: bytes in another order than bfbridge writes")


def _spec_of(image: Image, found: FoundImage, infos: Sequence[ArrayInfo], count: int) -> ImageSpec:
    def five(values: Sequence[int]) -> Shape5:
        _, c, z, y, x = values
        return count, c, z, y, x

    chunk = (1, *five(infos[0].chunks)[1:])
    levels = tuple(Level(five(info.shape), chunk) for info in infos)
    fields: Mapping[str, Any] = {
        name: getattr(image, name) for name in image.__slots__ if name != "levels"
    }
    method = found.multiscale.method if found.multiscale is not None else None
    usual = "nearest" if image.is_mask else "mean"
    known = method if method in ("mean", "nearest", "mode") else usual
    return ImageSpec(Image(levels=levels, **fields), infos[0].fill.item(), known)


class OmeZarrWriter(StoreWriter, ChunkedStoreBackend):
    """NGFF 0.4 and 0.5: new stores, by one process or several, and changes of finished stores."""

    @classmethod
    def extend(cls, path: Path | Source, count: int) -> StoreWriter:
        """Start to add `count` time points to a finished store, in place.

        The writer's image has only the new time points: T and blocks count from 0. `finish` adds
        them to the image; until then, and after `abort`, the image is unchanged.

        Raises
        ------
        Unsupported
            The store is not one image in bfbridge's layout, with one time point per chunk.
        """
        return Extension.begin(path, count)

    @classmethod
    def update(cls, path: Path) -> StoreWriter:
        """Start to change pixels of a finished store, in place.

        `finish` applies all changes; until then, and after `abort`, the store is unchanged.

        Raises
        ------
        Unsupported
            The store is not one image in bfbridge's layout, or is sharded.
        """
        return Changes.begin(Path(path))

    @classmethod
    def add_label(
        cls,
        path: Path,
        image: int,
        spec: ImageSpec,
        options: Mapping[str, Any],
        *,
        replaced: bool = False,
    ) -> StoreWriter:
        """Start to add a label image to an image of a finished store.

        `finish` adds it; until then, and after `abort`, the store is unchanged.

        Raises
        ------
        TargetExists
            The image has labels of that name, and `replaced` is False.
        Unsupported
            The store is a bare array.
        """
        return AddedLabel.begin(Path(path), image, spec, options, replaced=replaced)

    @classmethod
    def open_existing(cls, target: Path | Source) -> StoreWriter:
        """Join the writing of a new store, or of lower levels of a finished one.

        Raises
        ------
        FileMissing
            Nothing is being written there by several processes.
        UnreadableFile
            The plan is damaged.
        """
        plan = load_plan(tree_of(target))
        return AddedLevels(target, plan) if plan.added else cls._of_plan(target, plan)

    @classmethod
    def create_levels(
        cls, target: Path | Source, wanted: Callable[[Image], ImageSpec | None]
    ) -> int:
        """Start to add lower levels to images of a finished store.

        Raises
        ------
        Unsupported
            An image is not one of NGFF 0.4 or 0.5 whose axes are in the order t, c, z, y, x.
        """
        return AddedLevels.begin(target, wanted)

    @classmethod
    def discard_levels(cls, target: Path | Source) -> None:
        """Remove what `create_levels` began and nobody finished."""
        AddedLevels.discard(target)
