"""The groups, arrays and chunks of a file as an OME-Zarr store: keys, documents, bytes.

Nothing here needs zarr-python: a server can serve the same keys over HTTP.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np

from bfbridge.backend import ImageSpec, Level, Shape5
from bfbridge.engine.pyramid import factors_of
from bfbridge.errors import BadArgument, BfbridgeError
from bfbridge.ngff.compression import parse_compression
from bfbridge.ngff.documents import (
    Version,
    array_document,
    dimension_names,
    group_documents,
    to_json,
)
from bfbridge.ngff.hierarchy import image_attributes, ome_xml_of, place_images, placed, time_step
from bfbridge.ngff.omero import Window
from bfbridge.ome.extras import NAMESPACE as EXTRAS_NAMESPACE
from bfbridge.ome.extras import find_extras
from bfbridge.rendering.contrast import Contrast
from bfbridge.runtime import forking
from bfbridge.runtime.cached_property import cached_property
from bfbridge.virtual.chunks import encode_chunk
from bfbridge.virtual.pyramid import LARGEST_SIDE, Pyramid, VirtualImage, check_side

if TYPE_CHECKING:
    from ome_types import OME

    from bfbridge.backend import Extras
    from bfbridge.ngff.compression import Compression
    from bfbridge.ngff.hierarchy import Places
    from bfbridge.views import ImageView

__all__ = ["ArrayNode", "ChunkName", "VirtualHierarchy"]

Array = np.ndarray[Any, Any]
_METADATA: Final = "METADATA.ome.xml"
_VERSIONS: Final[Mapping[int, Version]] = {3: "0.5", 2: "0.4"}
_IN_OME: Final = ("PositionX", "PositionY", "PositionZ", "TimeIncrement", EXTRAS_NAMESPACE)
_MOST_WINDOWS: Final = 16
"""Up to this number of images, each has separate display windows; more images share them."""
_SAMPLED_IMAGES: Final = 4


class ArrayNode(NamedTuple):
    """An array: a level of an image, given by its index in `VirtualHierarchy.views`."""

    image: int
    level: int


class ChunkName(NamedTuple):
    """A chunk: its array and its position in the grid, along T, C, Z, Y, X."""

    array: ArrayNode
    place: Shape5


class VirtualHierarchy:
    """A file, or one image of it, as an OME-Zarr store. Thread-safe.

    One image is at the root; several are laid out as bioformats2raw does, or as the plate that the
    metadata describe; segmentations are in ``labels``. `BioWriter` writes the same layout.

    Parameters
    ----------
    views
        The images, of one file.
    version
        Of Zarr: 3 (NGFF 0.5) or 2 (NGFF 0.4).
    compression
        As for `parse_compression`; for chunks that are not passed through undecoded.
    side
        As for `VirtualImage`.
    cache
        As for `VirtualImage`.

    Attributes
    ----------
    views
        The images, at full size.
    file
        The open file of the images.
    version
        Version of NGFF.
    compression
        Compression of chunks that are encoded here.

    Raises
    ------
    BadArgument
        A version, compression or side that is not supported.
    """

    def __init__(
        self,
        views: Sequence[ImageView],
        version: Literal[2, 3] = 3,
        compression: Any = None,
        side: int = LARGEST_SIDE,
        cache: MutableMapping[Hashable, Array] | None = None,
    ) -> None:
        if isinstance(version, bool) or version not in _VERSIONS:
            raise BadArgument(f"version={version!r}: Zarr has the versions 3 and 2.")
        check_side(side)
        self.version: Version = _VERSIONS[version]
        self.compression: Compression = parse_compression(compression)
        self.views = [view.levels[0] for view in views]
        self.file = self.views[0]._file
        self._side = side
        self._cache = cache
        self._lock = forking.rlock()
        self._images: dict[int, VirtualImage] = {}
        self._documents: dict[str, bytes] = {}
        self._contrasts: dict[Hashable, list[Window]] = {}

    # ---- images

    def image(self, number: int) -> VirtualImage:
        """Return the pyramid of an image of the hierarchy, by its index in `views`."""
        found = self._images.get(number)
        if found is None:
            # Without a lock: making one twice is harmless, and reads of other images do not wait.
            found = VirtualImage(self.views[number], self._side, self._cache)
            found = self._images.setdefault(number, found)
        return found

    def pyramid(self, number: int) -> Pyramid:
        """Return the levels of an image that the documents describe."""
        return self.image(number)

    def level_count(self, number: int) -> int:
        """Return how many levels the documents describe, without inspecting the image."""
        height, width = self.views[number].sizes["Y"], self.views[number].sizes["X"]
        return 1 + len(factors_of(True, height, width))

    @cached_property
    def _ome(self) -> OME:
        """OME metadata of the images of this hierarchy, in their order."""
        whole = self.views[0].ome
        images = [whole.images[view.index] for view in self.views]
        # The UUID identifies the source's document, not this one.
        return whole.model_copy(update={"images": images, "uuid": None, "binary_only": None})

    @cached_property
    def _needs_ome(self) -> bool:
        """Whether the OME metadata have values of the documents that `Image` has not."""
        xml = self.views[0].ome_xml
        return xml is None or any(word in xml for word in _IN_OME)

    @cached_property
    def _extras(self) -> list[Extras]:
        return find_extras(self._ome)

    @cached_property
    def places(self) -> Places:
        """The group of each image, and the documents of groups without an image."""
        specs = [ImageSpec(view._image) for view in self.views]
        # Wells come from the OME metadata, which take longer to build than a tile takes to read.
        ome = self._ome if len(self.views) > 1 else None
        return place_images(specs, ome, None)

    @cached_property
    def _arrays(self) -> dict[str, ArrayNode]:
        """Keys of all arrays."""
        return {
            f"{group}/{level}" if group else str(level): ArrayNode(number, level)
            for number, group in enumerate(self.places.groups)
            for level in range(self.level_count(number))
        }

    @cached_property
    def _groups(self) -> dict[str, int | None]:
        """Keys of all groups, the root's last, with the image that each holds, or None."""
        found: dict[str, int | None] = dict.fromkeys(self.places.documents)
        found.update({group: number for number, group in enumerate(self.places.groups)})
        found.setdefault("", None)
        return dict(sorted(found.items(), key=lambda item: (item[0] == "", item[0])))

    @cached_property
    def _children(self) -> dict[str, list[str]]:
        """Names in each group: groups, arrays and documents."""
        names = self._names_of_group()
        found: dict[str, dict[str, None]] = {group: dict.fromkeys(names) for group in self._groups}
        for key in (*self._groups, *self._arrays):
            parent, _, name = key.rpartition("/")
            if key:
                found.setdefault(parent, {})[name] = None
        found[""]["OME"] = None
        found.setdefault("OME", {})[_METADATA] = None
        if self.version == "0.4":
            found[""][".zmetadata"] = None
        return {group: list(known) for group, known in found.items()}

    def _names_of_group(self) -> tuple[str, ...]:
        return ("zarr.json",) if self.version == "0.5" else (".zgroup", ".zattrs")

    def _names_of_array(self) -> tuple[str, ...]:
        return ("zarr.json",) if self.version == "0.5" else (".zarray", ".zattrs")

    # ---- keys

    def chunk_name(self, key: str) -> ChunkName | None:
        """Return the chunk that a key names, or None."""
        if self.version == "0.5":
            prefix, *rest = key.rsplit("/", 6)
            if len(rest) != 6 or rest.pop(0) != "c":
                return None
        else:
            prefix, *rest = key.rsplit("/", 5)
        array = self._arrays.get(prefix)
        if array is None or len(rest) != 5:
            return None
        counts = self.pyramid(array.image).levels[array.level].counts
        place = [_position(part, count) for part, count in zip(rest, counts, strict=True)]
        if None in place:
            return None
        t, c, z, y, x = place
        return ChunkName(array, (t, c, z, y, x))  # type: ignore[arg-type]

    def exists(self, key: str) -> bool:
        """Return whether a document or a chunk of this name exists, without reading pixels.

        True for a chunk of zeros, for which `get` returns None.
        """
        return self.chunk_name(key) is not None or self._document_parts(key) is not None

    def get(self, key: str) -> bytes | memoryview | None:
        """Return the bytes of a document or chunk; None if it does not exist or is all zeros.

        Raises
        ------
        ReadFailed
            The pixels cannot be read.
        """
        name = self.chunk_name(key)
        return self.document(key) if name is None else self.chunk(name)

    def chunk(self, name: ChunkName) -> bytes | memoryview | None:
        """Return the bytes of a chunk, or None for one of zeros."""
        image = self.image(name.array.image)
        level = image.levels[name.array.level]
        if level.compression is not None:
            return image.read_stored(name.array.level, name.place)
        pixels = image.chunk(name.array.level, name.place)
        return encode_chunk(pixels, level.chunk, self.compression)

    # ---- documents

    def document(self, key: str) -> bytes | None:
        """Return the cached bytes of a document; None if there is no document of this name."""
        parts = self._document_parts(key)
        if parts is None:
            return None
        with self._lock:
            found = self._documents.get(key)
            if found is None:
                found = self._documents[key] = self._make_document(*parts)
            return found

    def _document_parts(self, key: str) -> tuple[str, str] | None:
        """Return the key of a group or array, and the name of a document in it; None for others."""
        parent, _, name = key.rpartition("/")
        if parent in self._arrays:
            return (parent, name) if name in self._names_of_array() else None
        # The names in a group are those of its documents, groups and arrays.
        if name not in self._children.get(parent, ()) or key in self._children:
            return None
        return (parent, name) if key not in self._arrays else None

    def _make_document(self, node: str, name: str) -> bytes:
        if name == _METADATA:
            # All images except labels, as the layout counts them.
            return ome_xml_of(self._ome, self.places.order).encode()
        if name == ".zmetadata":
            return to_json({"zarr_consolidated_format": 1, "metadata": self._all_documents()})
        content = self._content(node)[name]
        if name == "zarr.json" and node == "":
            metadata = self._all_documents()
            content = {
                **content,
                "consolidated_metadata": {
                    "kind": "inline",
                    "must_understand": False,
                    "metadata": {
                        key.removesuffix("/zarr.json"): document
                        for key, document in metadata.items()
                        if key != "zarr.json"
                    },
                },
            }
        return to_json(content)

    def document_keys(self) -> list[str]:
        """Return the keys of all documents, without listing chunks."""
        keys = [
            f"{node}/{name}" if node else name
            for node in (*self._groups, *self._arrays)
            for name in self.list_dir(node)
        ]
        return [key for key in keys if self._document_parts(key) is not None]

    def _all_documents(self) -> dict[str, Mapping[str, Any]]:
        """Return the documents of all groups and arrays by key."""
        return {
            f"{node}/{name}" if node else name: document
            for node in (*self._groups, *self._arrays)
            for name, document in self._content(node).items()
        }

    def _content(self, node: str) -> dict[str, dict[str, Any]]:
        """Return the documents of one group or array by name."""
        array = self._arrays.get(node)
        if array is not None:
            return self._array_content(array)
        number = self._groups[node]
        attributes = self.places.documents.get(node, {})
        if number is not None:
            attributes = self._image_attributes(number, node)
        content = dict(group_documents(attributes, self.version))
        if self.version == "0.4":
            content.setdefault(".zattrs", {})
        return content

    def _image_attributes(self, number: int, group: str) -> Mapping[str, Any]:
        image = self.pyramid(number)
        record = image.record
        spec = ImageSpec(record, downsample=image.method)
        # The OME metadata take long to build.
        ome = self._ome if record.levels[0].shape[0] > 1 or self._needs_ome else None
        step = time_step(spec, ome, number)
        if ome is not None:
            spec = placed(replace(spec, extras=self._extras[number]), ome, number)
        attributes = image_attributes(group, spec, self.windows(number), self.version, step)
        if any(level.stored for level in image.levels):
            # The file does not say how its own levels were computed.
            for entry in attributes["multiscales"]:
                entry.pop("type", None)
                entry.pop("metadata", None)
        return attributes

    def _array_content(self, array: ArrayNode) -> dict[str, dict[str, Any]]:
        image = self.pyramid(array.image)
        level = image.levels[array.level]
        name, document = array_document(
            Level(level.shape, level.chunk),
            image.dtype,
            self.version,
            level.compression or self.compression,
        )
        if self.version == "0.5":
            return {name: document}
        # xarray reads the axis names of a version 2 array from this attribute.
        return {name: document, ".zattrs": {"_ARRAY_DIMENSIONS": list(dimension_names())}}

    # ---- display windows

    def windows(self, number: int) -> list[Window]:
        """Return the display window of each channel and sample of an image.

        Measured by `Contrast`. In a plate, and among more than 16 images, images with the same
        channels share windows that are measured on four of them: opening a plate must not read all
        of it, and wells must be comparable.
        """
        view = self.views[number]
        if view.is_mask or view.dtype.kind not in "iuf":
            return []
        shares = "plate" in self.places.documents.get("", {}) or len(self.views) > _MOST_WINDOWS
        key = _kind(view) if shares else number
        with self._lock:
            found = self._contrasts.get(key)
            if found is None:
                similar = [v for v in self.views if _kind(v) == key] if shares else [view]
                step = max(1, len(similar) // _SAMPLED_IMAGES)
                found = _measured(similar[::step][:_SAMPLED_IMAGES])
                self._contrasts[key] = found
            return found

    # ---- listing

    def list_dir(self, prefix: str) -> Iterator[str]:
        """Yield the names in a folder: documents, groups, arrays, or parts of chunk names.

        The cost depends on the number of names in the folder, not on the keys below it.
        """
        folder = prefix.strip("/")
        if folder in self._children:
            yield from self._children[folder]
            return
        if folder in self._arrays:
            yield from self._names_of_array()
            if self.version == "0.5":
                yield "c"
                return
        within = self._within_grid(folder)
        if within is not None:
            counts, depth = within
            yield from (str(i) for i in range(counts[depth]))

    def _within_grid(self, folder: str) -> tuple[Shape5, int] | None:
        """Return an array's grid, and the number of parts of a chunk name in a folder; or None.

        "0/c/2/1" is two parts of the names of chunks of the array "0".
        """
        parts = folder.split("/")
        for depth in range(min(len(parts), 5)):
            head, tail = parts[: len(parts) - depth], parts[len(parts) - depth :]
            if self.version == "0.5" and head.pop() != "c":
                continue
            array = self._arrays.get("/".join(head))
            if array is None:
                continue
            counts = self.pyramid(array.image).levels[array.level].counts
            known = (_position(part, n) for part, n in zip(tail, counts, strict=False))
            return None if None in known else (counts, depth)
        return None

    def list_keys(self, prefix: str = "") -> Iterator[str]:
        """Yield all keys that begin with `prefix`, one by one; there may be millions."""
        folder = prefix.rpartition("/")[0]
        stack = [folder]
        while stack:
            here = stack.pop()
            deeper = []
            for name in self.list_dir(here):
                key = f"{here}/{name}" if here else name
                if not (key.startswith(prefix) or prefix.startswith(f"{key}/")):
                    continue
                if self.exists(key):
                    yield key
                else:
                    deeper.append(key)
            stack.extend(reversed(deeper))


def _kind(view: ImageView) -> Hashable:
    """Return a key that is equal for images with comparable brightness."""
    return (view.dtype.str, view.samples_per_pixel, view.sizes["C"], *view.channel_names)


def _measured(views: Sequence[ImageView]) -> list[Window]:
    """Return display windows that cover all these images."""
    contrasts = [Contrast(view) for view in views]
    return [
        reduce(Window.joined, (_window(contrast, c) for contrast in contrasts))
        for c in range(views[0].sizes["C"])
    ]


def _window(contrast: Contrast, c: int) -> Window:
    """Return a display window, or an empty one if the pixels cannot be read."""
    try:
        return Window(*contrast.window(c))
    except BfbridgeError:
        return Window()


def _position(part: str, count: int) -> int | None:
    """Return the number in a part of a chunk name; None for another spelling ("01")."""
    if len(part) > 10 or not part.isdecimal():
        return None
    number = int(part)
    return number if number < count and str(number) == part else None
