"""`OmeZarrReader`: OME-Zarr stores of every version, and bare Zarr arrays."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from bfbridge.backend import (
    AXES,
    Extras,
    Image,
    Level,
    ReaderBackend,
    Shape5,
    StoredAs,
)
from bfbridge.errors import BadArgument, Closed, UnreadableFile, Unsupported
from bfbridge.limits import check
from bfbridge.ome.documents.xml import OmeDocument, OmeImage, parse_ome_xml
from bfbridge.ome.objectives import magnifications_in, magnifications_of
from bfbridge.ome.roles import ImageRole, roles_in_xml
from bfbridge.runtime.cached_property import cached_property
from bfbridge_omezarr.attributes.extras import extras_of
from bfbridge_omezarr.attributes.records import channels_from, name_from, sizes_from, time_step_from
from bfbridge_omezarr.chunked.array_metadata import ArrayInfo, parse_array
from bfbridge_omezarr.chunked.chunks import Workspace, ZarrArrayReader
from bfbridge_omezarr.chunked.codec_options import options_of
from bfbridge_omezarr.hierarchy.documents import Documents, Guard, Node, flatten
from bfbridge_omezarr.hierarchy.layout import FoundImage, find_images, implied_axes
from bfbridge_omezarr.hierarchy.ngff import NgffAxis, map_axes
from bfbridge_omezarr.hierarchy.store import Store
from bfbridge_omezarr.hierarchy.zips import ZipStore, open_store

if TYPE_CHECKING:
    from ome_types import OME

    from bfbridge.backend import OpenOptions, Region
    from bfbridge.storage.source import Source

__all__ = ["METADATA_KEY", "OmeZarrReader", "StoredImage"]

log = logging.getLogger("bfbridge.omezarr")

_BATCH: Final = 256
# Pixels of neighbouring chunks that one thread reads at a time, in bytes.
_UNIT: Final = 1 << 20
METADATA_KEY: Final = "OME/METADATA.ome.xml"


class _Plane5:
    """One level of an image: an array, and which of T, C, Z, Y, X each of its axes is."""

    def __init__(
        self, info: ArrayInfo, places: Sequence[int | None], source: Any, guard: Guard | None
    ) -> None:
        self.info = info
        self.places = tuple(places)
        self.source = source
        self._guard = guard
        present = [place for place in self.places if place is not None]
        absent = [place for place in range(5) if place not in present]
        self._transpose = (*present, *absent)
        self._absent = len(absent)
        self._dropped = tuple(i for i, place in enumerate(self.places) if place is None)

    @cached_property
    def unit(self) -> Shape5:
        """Box of chunks that are read together."""
        return self.level.grid.unit(_UNIT // self.info.dtype.itemsize, self.level.shard)

    @cached_property
    def level(self) -> Level:
        """Shape, chunk and shard along T, C, Z, Y, X."""
        shape, chunk, shard = [1] * 5, [1] * 5, [1] * 5
        outer = self.info.chunks if self.info.shard is None else self.info.shard.shape
        for size, length, whole, place in zip(
            self.info.shape, self.info.chunks, outer, self.places, strict=True
        ):
            if place is not None:
                shape[place] = size
                chunk[place] = max(1, min(size, length))
                shard[place] = whole
        stored = None if self.info.shard is None else _five(shard)
        return Level(_five(shape), _five(chunk), stored)

    def box(
        self, region: Region, out: np.ndarray[Any, Any]
    ) -> tuple[list[int], list[int], np.ndarray[Any, Any]]:
        """Return start, stop and `out` (T, C, Z, Y, X) in the order of the array's axes."""
        view: Any = out.transpose(self._transpose)
        for _ in range(self._absent):
            view = view[..., 0]
        if self._dropped:
            view = np.expand_dims(view, self._dropped)
        start = [0 if place is None else region.start[place] for place in self.places]
        stop = [1 if place is None else region.stop[place] for place in self.places]
        return start, stop, view

    def check_unchanged(self) -> None:
        """Raise an error if the array has changed since it was opened."""
        if self._guard is not None:
            self._guard.check()

    @property
    def is_plain(self) -> bool:
        """Whether the bytes of a chunk are those of the same chunk along T, C, Z, Y, X."""
        places = [place for place in self.places if place is not None]
        whole = all(n <= size for n, size in zip(self.info.chunks, self.info.shape, strict=True))
        straight = self.info.order in ((), tuple(range(len(self.info.shape))))
        little = self.info.dtype.newbyteorder("<") == self.info.dtype
        absent = self.info.fill is None or not np.any(self.info.fill)
        ordered = places == sorted(places) and not self._dropped
        return self.info.direct and whole and straight and little and absent and ordered

    def stored(self, index: Shape5) -> bytes | None:
        """Return the stored bytes of the chunk at a grid position (T, C, Z, Y, X)."""
        place = tuple(0 if place is None else index[place] for place in self.places)
        try:
            found: bytes | None = self.source.stored(place)
        finally:
            self.check_unchanged()
        return found


def _supported(info: ArrayInfo | Unsupported) -> ArrayInfo:
    if isinstance(info, Unsupported):
        raise info
    return info


def _five(values: Sequence[int]) -> Shape5:
    t, c, z, y, x = values
    return t, c, z, y, x


@dataclass(frozen=True, slots=True)
class StoredImage:
    """How an image is stored.

    Attributes
    ----------
    found
        Its place in the hierarchy.
    node, info
        The array of its full size.
    places
        Which of T, C, Z, Y, X each axis of the arrays is; None for an axis that is omitted.
    """

    found: FoundImage
    node: Node
    info: ArrayInfo
    places: tuple[int | None, ...]


class OmeZarrReader(ReaderBackend):
    """An OME-Zarr store, or a Zarr array without metadata.

    NGFF 0.1 to 0.6 in Zarr versions 2 and 3; a single image, a bioformats2raw collection, a plate
    or a well, with labels as images of role "label". Folders, zip files (".zip", ".ozx") and
    fsspec URLs.

    Backend options
    ---------------
    axes
        Names of an array's axes, of "tczyx" ("zyx"), if the store does not name them.
    consolidated
        Whether to use consolidated metadata at the root of a store at a URL, which saves requests
        (default: True). They are first compared with the document of one array.
    """

    name: ClassVar[str] = "omezarr"

    def __init__(self, store: Store, options: OpenOptions) -> None:
        self._store = store
        self.waits = store.is_remote
        self._limits = options.limits
        self._axes, consolidated = _checked_options(options.backend_options)
        self._documents = Documents(store, options.limits, consolidated=consolidated)
        self._workspace = Workspace()
        self._closed = False
        layout = find_images(self._documents, store.name.rstrip("/"))
        self._layout = layout
        self._xml = self._read_xml()
        self._document = self._parse_xml()
        ids = [] if self._document is None else [image.id for image in self._document.images]
        self._roles = roles_in_xml(self._xml or "", ids)
        self._magnifications: Sequence[float | None] | None = None
        self._images: tuple[Image, ...] = ()
        self._found: tuple[FoundImage, ...] = ()
        self._levels: tuple[tuple[_Plane5, ...], ...] = ()
        self._make_images(layout.images)

    @classmethod
    def open(cls, source: Source, options: OpenOptions) -> OmeZarrReader:
        """Open a store, reading its metadata documents only.

        Raises
        ------
        Unsupported
            It is not a Zarr store, has no NGFF metadata, or uses unsupported features.
        UnreadableFile
            A document is damaged, names missing parts, or names paths outside the store.
        LimitExceeded
            A document or a chunk is larger than the limits allow.
        """
        store = open_store(source, options.limits, options.allow_outside)
        try:
            return cls(store, options)
        except BaseException:
            store.close()
            raise

    @property
    def images(self) -> Sequence[Image]:
        """Every image; labels last."""
        return self._images

    def read(self, region: Region, out: np.ndarray[Any, Any]) -> None:
        """Fill `out` with a region. Chunks that are not stored have the array's fill value.

        Raises
        ------
        ReadFailed
            A chunk is damaged or cannot be read; the message names its file.
        Closed
            The reader was closed.
        """
        if self._closed:
            raise Closed(f"{self._store.name}: read after close().")
        plane = self._levels[region.image][region.level]
        start, stop, pixels = plane.box(region, out)
        try:
            plane.source.read(start, stop, pixels)
        finally:
            plane.check_unchanged()

    def reads_parts(self, image: int, level: int) -> bool:
        """Whether a crop decodes only the part it needs: with Blosc, and without compression."""
        info = self._levels[image][level].info
        codecs = [decoder.name for decoder in info.decoders]
        return info.direct and not self.waits and codecs in ([], ["blosc"])

    def decodes(self, image: int, level: int) -> bool:
        """Whether chunks are compressed."""
        return bool(self._levels[image][level].info.decoders)

    def read_unit(self, image: int, level: int) -> Shape5:
        """Return several small chunks, if they are local; see `ChunkGrid.unit`."""
        plane = self._levels[image][level]
        if self.waits or not plane.info.direct:
            return self._images[image].levels[level].chunk
        return plane.unit

    def stored_as(self, image: int, level: int) -> StoredAs | None:
        """Return the encoding of the chunks of a level, if the writer supports it."""
        plane = self._levels[image][level]
        node = self._documents.node(plane.info.key)
        if not plane.is_plain or node is None:
            return None
        try:
            options = options_of(self._store.name, node, plane.info)
        except Unsupported:
            return None
        details = {"dtype": plane.info.dtype.name, "compression": options["compression"]}
        return StoredAs("zarr", tuple(details.items()))

    def read_stored(self, image: int, level: int, index: Shape5) -> bytes | None:
        """Return a stored chunk, or None if there is none."""
        if self._closed:
            raise Closed(f"{self._store.name}: read after close().")
        return self._levels[image][level].stored(index)

    def stored(self, image: int) -> StoredImage:
        """Return how an image is stored, for writers that change the store."""
        plane = self._levels[image][0]
        node = self._documents.node(plane.info.key)
        if node is None:
            raise UnreadableFile(f"{self._store.label(plane.info.key)}: the array is missing.")
        return StoredImage(self._found[image], node, plane.info, plane.places)

    def own_metadata(self) -> str | None:
        node = self._documents.root()
        return None if node is None else json.dumps(node.attributes)

    def ome_xml(self) -> str | None:
        """Return ``OME/METADATA.ome.xml`` as stored, or a document made from the NGFF metadata.

        It is made if none is stored, or if the stored one has another number of images.
        """
        if self._xml is not None and self._document is not None:
            return self._xml
        return self.ome().to_xml()

    def ome(self) -> OME:
        """Return the stored OME metadata, updated from the NGFF metadata.

        Images that it does not describe are added. Names and colours of channels, pixel sizes and
        time steps are those of `images`. Annotations contain metadata that OME has no element for;
        see `bfbridge.ome.extras`.
        """
        from bfbridge_omezarr.attributes.ome import make_ome

        described = self._described()
        xml = self._xml if any(described) else None
        extras = [self._extras(i) for i in range(len(self._images))]
        return make_ome(self._images, xml, described, extras, self._layout.plate)

    def magnifications(self) -> Sequence[float | None]:
        """Return those of a stored OME-XML; NGFF has no objectives."""
        if self._xml is None:
            return [None] * len(self._images)
        if self._magnifications is None:
            described = self._described()
            if all(described):
                self._magnifications = magnifications_in(self._xml)
            elif any(described):
                self._magnifications = magnifications_of(self.ome())
            else:
                self._magnifications = [None] * len(described)
        return self._magnifications

    @property
    def original_metadata(self) -> Mapping[str, Any]:
        """All documents, flat: "0/.zattrs/multiscales[0].name" and so on."""
        found: dict[str, Any] = {}
        for node in self._documents.seen():
            for name, document in node.documents.items():
                prefix = f"{node.key}/{name}/" if node.key else f"{name}/"
                found.update(flatten(document, prefix))
        return found

    @property
    def used_files(self) -> Sequence[str]:
        """The store, then every file in it if it is a folder that can be listed."""
        if isinstance(self._store, ZipStore):
            return [self._store.name]
        return [self._store.name, *(self._store.label(key) for key in self._store.keys())]

    def close(self) -> None:
        """Release the store. May be called twice."""
        self._closed = True
        self._store.close()

    def _read_xml(self) -> str | None:
        if self._layout.kind == "array":
            return None
        found = self._store.get_many([METADATA_KEY], self._limits.xml_bytes)
        data = found.get(METADATA_KEY)
        if data is None:
            return None
        return bytes(data.data).decode("utf-8-sig", "replace")

    def _parse_xml(self) -> OmeDocument | None:
        if self._xml is None:
            return None
        document = parse_ome_xml(self._xml, self._store.label(METADATA_KEY), self._limits)
        count = self._image_count()
        if len(document.images) != count:
            log.warning(
                "%s: describes %d images where the store has %d, so it is not used",
                self._store.label(METADATA_KEY),
                len(document.images),
                count,
            )
            return None
        return document

    def _image_count(self) -> int:
        return sum(found.role == "image" for found in self._layout.images)

    def _make_images(self, found: Sequence[FoundImage]) -> None:
        known: dict[str, ArrayInfo | Unsupported] = {}
        keys = list(dict.fromkeys(key for image in found for key in image.arrays))
        for start in range(0, len(keys), _BATCH):
            batch = keys[start : start + _BATCH]
            for key, node in zip(batch, self._documents.nodes(batch), strict=True):
                known[key] = self._array(key, node)
        images: list[Image] = []
        kept: list[FoundImage] = []
        levels: list[tuple[_Plane5, ...]] = []
        channels = 0
        for item in found:
            try:
                arrays = [_supported(known[key]) for key in item.arrays]
                image, planes = self._make_image(len(images), item, arrays)
            except Unsupported as error:
                if item.role != "label":
                    raise
                log.warning("%s: the label %s is omitted: %s", self._store.name, item.name, error)
                continue
            images.append(image)
            channels += len(image.channels)
            check(channels, self._limits.channels, "number of channels", self._store.name)
            kept.append(item)
            levels.append(planes)
        if not images:
            raise Unsupported("no image that can be read")
        self._images, self._levels, self._found = tuple(images), tuple(levels), tuple(kept)

    def _extras(self, number: int) -> Extras:
        """Return the metadata of an image in addition to its record."""
        found = self._found[number]
        level = self._levels[number][0]
        return extras_of(found, level.places, level.level.shape[1])

    def _array(self, key: str, node: Node | None) -> ArrayInfo | Unsupported:
        """Read one array; an unsupported one raises its error when an image needs it."""
        where = self._store.label(key)
        if node is None:
            raise UnreadableFile(f"{where}: the metadata names this array, but it is missing.")
        if node.array is None:
            raise UnreadableFile(f"{where}: the metadata names this as an array; it is a group.")
        try:
            return parse_array(key, node.array, node.zarr_format, self._limits, where)
        except Unsupported as error:
            return error

    def _make_image(
        self, number: int, found: FoundImage, arrays: Sequence[ArrayInfo]
    ) -> tuple[Image, tuple[_Plane5, ...]]:
        first = arrays[0]
        where = self._store.label(first.key)
        if 0 in first.shape:
            raise UnreadableFile(f"{where}: the image has no pixels (shape {list(first.shape)}).")
        axes = self._axes_of(found, first, where)
        planes = []
        for info in arrays:
            if info.dtype.newbyteorder("=") != first.dtype.newbyteorder("="):
                log.warning(
                    "%s: is omitted: its pixels are %s, those of level 0 are %s",
                    self._store.label(info.key),
                    info.dtype,
                    first.dtype,
                )
                continue
            if 0 in info.shape:
                continue
            places = map_axes(axes, info.shape, self._store.label(info.key))
            guard = self._documents.guard(info.key)
            planes.append(_Plane5(info, places, self._source_of(info), guard))
        levels = tuple(plane.level for plane in planes)
        places = map_axes(axes, first.shape, where)
        # Each channel is a record, so a size in a header must not create millions of them.
        most = self._limits.image_channels
        check(levels[0].shape[1], most, "number of channels of one image", where)
        described = self._xml_image(number, levels[0].shape)
        image = Image(
            name=name_from(found, described),
            levels=levels,
            dtype=first.dtype.newbyteorder("="),
            byteorder=">" if first.dtype.str[0] == ">" else "<",
            pixel_size=sizes_from(found, axes, places, described),
            channels=channels_from(found, described, levels[0].shape[1]),
            significant_bits=None if described is None else described.significant_bits,
            time_step=time_step_from(found, axes, places, described),
            **self._role(number, found, described)._asdict(),
        )
        return image, tuple(planes)

    def _role(self, number: int, found: FoundImage, described: OmeImage | None) -> ImageRole:
        """Return the role of an image: labels are known by their place, others by the OME-XML."""
        if found.role == "label":
            owners = (i for i, image in enumerate(self._layout.images) if image.role == "image"
                      and image.group == found.owner)  # fmt: skip
            return ImageRole("label", next(owners, None))
        return self._roles[number] if described is not None else ImageRole()

    def _source_of(self, info: ArrayInfo) -> Any:
        if info.direct:
            return ZarrArrayReader(info, self._store, self._limits, self._workspace)
        from bfbridge_omezarr.chunked.indirect import IndirectReader

        return IndirectReader(info, self._store)

    def _axes_of(self, found: FoundImage, info: ArrayInfo, where: str) -> tuple[NgffAxis, ...]:
        multiscale = found.multiscale
        if multiscale is not None and multiscale.axes:
            return multiscale.axes
        if self._axes:
            if len(self._axes) != len(info.shape):
                raise BadArgument(
                    f"{where}: axes={''.join(a.name for a in self._axes)!r} names "
                    f"{len(self._axes)} axes for an array of shape {list(info.shape)}."
                )
            return self._axes
        names = info.dimension_names or ()
        if names and all(name and re.fullmatch("[tczyxTCZYX]", name) for name in names):
            return tuple(NgffAxis(str(name).lower()) for name in names)
        # A bare array of five axes is interpreted in NGFF's order, as in bfio.
        if multiscale is not None or len(info.shape) in (2, 5):
            implied = implied_axes(len(info.shape))
            if implied:
                return implied
        raise Unsupported(
            f"the {len(info.shape)} axes of shape {list(info.shape)} have no names; name "
            "them with options={'axes': 'zyx'} or similar"
        )

    def _described(self) -> list[OmeImage | None]:
        return [self._xml_image(i, image.levels[0].shape) for i, image in enumerate(self._images)]

    def _xml_image(self, number: int, shape: Shape5) -> OmeImage | None:
        """Return the stored OME-XML of an image, if it fits."""
        if self._document is None or number >= self._image_count():
            return None
        image = self._document.images[number]
        sizes = (image.size_t, image.size_c, image.size_z, image.size_y, image.size_x)
        if sizes != shape:
            log.warning(
                "%s: sizes %s of image %d differ from the array's %s (%s), so it is not used",
                self._store.label(METADATA_KEY),
                sizes,
                number,
                shape,
                AXES,
            )
            return None
        return image


def _checked_options(options: Mapping[str, Any]) -> tuple[tuple[NgffAxis, ...], bool]:
    unknown = sorted(set(options) - {"axes", "consolidated"})
    if unknown:
        raise BadArgument(
            f"backend_options: {', '.join(unknown)}: the omezarr backend has no such option. Its "
            "options are axes and consolidated."
        )
    consolidated = options.get("consolidated", True)
    if not isinstance(consolidated, bool):
        raise BadArgument(f"backend_options: consolidated={consolidated!r}: give True or False.")
    axes = options.get("axes")
    if axes is None:
        return (), consolidated
    names = [str(name).lower() for name in axes]
    if not names or len(set(names)) != len(names) or not set(names) <= set("tczyx"):
        raise BadArgument(
            f"backend_options: axes={axes!r}: give each axis of the array once, as one of t, c, z, "
            "y, x ('zyx')."
        )
    return tuple(NgffAxis(name) for name in names), consolidated
