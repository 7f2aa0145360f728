"""Which images a Zarr hierarchy contains: one, a collection, a plate, labels, or a bare array."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from bfbridge.errors import UnreadableFile, Unsupported
from bfbridge.limits import check
from bfbridge_omezarr.hierarchy.ngff import Multiscale, NgffAxis, clean_text, parse_multiscale
from bfbridge_omezarr.hierarchy.store import join

if TYPE_CHECKING:
    from bfbridge.backend import Role
    from bfbridge_omezarr.hierarchy.documents import Documents, Node

log = logging.getLogger("bfbridge.omezarr")

__all__ = ["FoundImage", "HierarchyLayout", "PlateWells", "find_images", "implied_axes"]

_LAYOUT_KEY: Final = "bioformats2raw.layout"
_PROBED: Final = 16
# One group may list this fraction (1/n) of the images that a store may have.
_ONE_GROUP: Final = 50
_BATCH: Final = 256


@dataclass(frozen=True, slots=True)
class FoundImage:
    """One image of a hierarchy, before its arrays are read.

    Attributes
    ----------
    group
        Key of the group that describes it.
    arrays
        Keys of its levels, full size first.
    multiscale
        Its description; None for a bare array.
    omero
        The ``omero`` block, as stored.
    name
        Name from its place in the hierarchy (a well's, a label's), or None.
    role
        "image" or "label".
    owner
        For a label: the key of the group of its image, or None.
    well
        Number of its well in the plate's list, or None.
    node
        The group itself; None for a bare array.
    """

    group: str
    arrays: tuple[str, ...]
    multiscale: Multiscale | None
    omero: Any
    name: str | None = None
    role: Role = "image"
    owner: str | None = None
    well: int | None = None
    node: Node | None = None


@dataclass(frozen=True, slots=True)
class PlateWells:
    """A plate.

    Attributes
    ----------
    name
        As stored, or None.
    wells
        Row and column of each, as names ("B", "03").
    fields
        Numbers of the images in each well.
    """

    name: str | None
    wells: tuple[tuple[str, str], ...]
    fields: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class HierarchyLayout:
    """All images of a hierarchy, labels last, and the type of hierarchy.

    Attributes
    ----------
    kind
        "image", "collection" (bioformats2raw), "plate", "well", "scene", "labels" or "array".
    images
        In the order of image numbers.
    plate
        Its wells, if it is a plate whose wells are named by row and column.
    """

    kind: str
    images: tuple[FoundImage, ...]
    plate: PlateWells | None = None


def find_images(documents: Documents, where: str) -> HierarchyLayout:
    """Find the images of a hierarchy.

    Raises
    ------
    Unsupported
        It has no image with NGFF metadata.
    UnreadableFile
        A description is damaged, or names missing groups.
    """
    root = documents.root()
    if root is None:
        raise Unsupported("no Zarr group or array at its top")
    if root.array is not None:
        return HierarchyLayout("array", (FoundImage("", ("",), None, None),))
    ome = root.ome
    if isinstance(ome.get("plate"), dict):
        kind, images = "plate", _plate(documents, ome["plate"], where)
    elif _LAYOUT_KEY in ome or _LAYOUT_KEY in root.attributes:
        kind, images = "collection", _collection(documents, where)
    elif "multiscales" in ome:
        # A label group that is opened directly.
        role: Role = "label" if isinstance(ome.get("image-label"), dict) else "image"
        kind, images = "image", _images_of(documents, root, where, None, role)
    elif isinstance(ome.get("well"), dict):
        kind, images = "well", _wells(documents, [("", None)], where)
    elif isinstance(ome.get("scene"), dict):
        kind, images = "scene", _scene(documents, ome["scene"], where)
    elif isinstance(ome.get("labels"), list):
        kind, images = "labels", []
    else:
        raise Unsupported("a Zarr group without NGFF image metadata (multiscales)")
    if kind == "labels":
        labels = _label_group(documents, root, where)
    else:
        labels = _labels(documents, images, where)
    # An image uses about 2 KB of memory, even if a hostile document needs few bytes to list it.
    check(len(images) + len(labels), documents.limits.images, "number of images", where)
    if not images and not labels:
        raise Unsupported("a Zarr group without NGFF image metadata (multiscales)")
    plate = _wells_of(ome["plate"], images) if kind == "plate" else None
    return HierarchyLayout(kind, (*images, *labels), plate)


def _wells_of(plate: Mapping[str, Any], images: Sequence[FoundImage]) -> PlateWells | None:
    """Return rows and columns of a plate's wells, from their paths ("B/03")."""
    wells: list[tuple[str, str]] = []
    for well in plate["wells"]:
        row, _, column = well["path"].strip("/").partition("/")
        if not row or not column or "/" in column:
            return None
        wells.append((row, column))
    fields: list[list[int]] = [[] for _ in wells]
    for number, image in enumerate(images):
        if image.well is not None:
            fields[image.well].append(number)
    name = plate.get("name")
    return PlateWells(
        clean_text(name) if isinstance(name, str) and name else None,
        tuple(wells),
        tuple(map(tuple, fields)),
    )


def _images_of(
    documents: Documents, node: Node, where: str, name: str | None = None, role: Role = "image"
) -> list[FoundImage]:
    """Return the images that a group's ``multiscales`` lists."""
    entries = node.ome.get("multiscales")
    place = f"{where}/{node.key}" if node.key else where
    if not isinstance(entries, list) or not entries:
        raise UnreadableFile(f"{place}: this group should be an image, but has no multiscales.")
    limits = documents.limits
    check(len(entries), limits.images // _ONE_GROUP, "number of images of one group", place)
    images = []
    for entry in entries:
        multiscale = parse_multiscale(entry, place)
        check(len(multiscale.paths), limits.levels, "number of levels of one image", place)
        if multiscale.version is None and node.ome.get("version") is not None:
            version = str(node.ome["version"])
            multiscale = replace(multiscale, version=version)
        arrays = tuple(join(node.key, path, place) for path in multiscale.paths)
        known = None if name is None else clean_text(name)
        images.append(
            FoundImage(node.key, arrays, multiscale, node.ome.get("omero"), known, role, node=node)
        )
    return images


def _listed(documents: Documents, keys: Sequence[str], where: str) -> Iterator[Node | None]:
    """Yield groups or None, fetched in batches so that a long list of names alone costs little."""
    check(len(keys), documents.limits.images, "number of images", where)
    if len(set(keys)) != len(keys):
        # Otherwise a short list could declare one image a hundred thousand times.
        raise UnreadableFile(f"{where}: names a group twice.")
    for start in range(0, len(keys), _BATCH):
        yield from documents.nodes(keys[start : start + _BATCH])


def _existing(documents: Documents, keys: Sequence[str], where: str) -> Iterator[Node]:
    """Yield groups, all of which must exist."""
    for node, key in zip(_listed(documents, keys, where), keys, strict=True):
        if node is None:
            raise UnreadableFile(
                f"{where}: names the group {key!r}, which is missing: a part of the store is "
                "missing. Its other images can be opened separately, by their own paths."
            )
        yield node


def _collection(documents: Documents, where: str) -> list[FoundImage]:
    """Return the images of a bioformats2raw layout: those listed in ``OME``, otherwise 0, 1, 2."""
    listed = documents.node("OME")
    series = listed.ome.get("series") if listed is not None else None
    if isinstance(series, list):
        keys = [join("", path, f"{where}/OME") for path in series]
        nodes = list(_existing(documents, keys, f"{where}/OME"))
    else:
        nodes = []
        while len(nodes) % _PROBED == 0:
            found = documents.nodes([str(len(nodes) + i) for i in range(_PROBED)])
            present = (
                [node for node in found[: found.index(None)] if node] if None in found else found
            )
            nodes += [node for node in present if node is not None]
            if len(present) < _PROBED:
                break
        # Without a list, a bare array named "0" is not an image of a collection.
        nodes = [node for node in nodes if "multiscales" in node.ome]
    return [image for node in nodes for image in _images_of(documents, node, where)]


def _scene(documents: Documents, scene: Mapping[str, Any], where: str) -> list[FoundImage]:
    """Return the images of a scene (0.6), in the order of the scene."""
    listed = scene.get("coordinateTransformations")
    ends = [
        item.get(end)
        for item in (listed if isinstance(listed, list) else [])
        if isinstance(item, dict)
        for end in ("input", "output")
    ]
    paths = [end["path"] for end in ends if isinstance(end, dict) and end.get("path") is not None]
    keys = list(dict.fromkeys(join("", path, where) for path in paths))
    return [
        image
        for node, key in zip(_existing(documents, keys, where), keys, strict=True)
        for image in _images_of(documents, node, where, key)
    ]


def _plate(documents: Documents, plate: Mapping[str, Any], where: str) -> list[FoundImage]:
    wells = plate.get("wells")
    if not isinstance(wells, list) or not wells:
        raise UnreadableFile(f"{where}: the plate lists no wells.")
    places = []
    for well in wells:
        path = well.get("path") if isinstance(well, dict) else None
        key = join("", path, where)
        # "B/03" is well B03, as plates are labelled.
        places.append((key, key.replace("/", "")))
    return _wells(documents, places, where)


def _wells(
    documents: Documents, places: Sequence[tuple[str, str | None]], where: str
) -> list[FoundImage]:
    """Return the fields of wells (key, name); an image's name contains its well ("B03/0")."""
    fields: list[tuple[str, str, int]] = []
    groups = _existing(documents, [key for key, _ in places], where)
    for number, (node, (key, name)) in enumerate(zip(groups, places, strict=True)):
        well = node.ome.get("well")
        images = well.get("images") if isinstance(well, dict) else None
        if not isinstance(images, list):
            raise UnreadableFile(
                f"{where}/{key}: this group should be a well, but lists no images."
            )
        for image in images:
            path = image.get("path") if isinstance(image, dict) else None
            field = join(key, path, f"{where}/{key}")
            fields.append((field, f"{name}/{path}" if name else str(path), number))
    nodes = list(_existing(documents, [key for key, _, _ in fields], where))
    return [
        replace(image, well=number)
        for node, (_, name, number) in zip(nodes, fields, strict=True)
        for image in _images_of(documents, node, where, name)
    ]


def _labels(documents: Documents, images: Sequence[FoundImage], where: str) -> list[FoundImage]:
    """Return the label images of all images; their names contain the name of the image."""
    groups = list(dict.fromkeys(image.group for image in images))
    keys = [f"{group}/labels" if group else "labels" for group in groups]
    labels = []
    for node in documents.nodes(keys):
        if node is not None:
            labels += _label_group(documents, node, where)
    return labels


def _label_group(documents: Documents, group: Node, where: str) -> list[FoundImage]:
    """Return the label images that a group lists. They are optional, so one may be missing."""
    names = group.ome.get("labels")
    if not isinstance(names, list):
        return []
    place = f"{where}/{group.key}" if group.key else where
    keys = [join(group.key, name, place) for name in names]
    owner = re.sub(r"/?labels$", "", group.key)
    labels = []
    for node, key, name in zip(_listed(documents, keys, place), keys, names, strict=True):
        if node is None:
            log.warning("%s: the label %s is listed, but is missing", place, key)
            continue
        known = f"{owner}/{name}" if owner else str(name)
        found = _images_of(documents, node, where, known, "label")
        labels += [replace(image, owner=owner) for image in found]
    return labels


def implied_axes(ndim: int) -> tuple[NgffAxis, ...]:
    """Return the axes of an image whose metadata names none; empty if they are unknown.

    Versions 0.1 and 0.2 have five axes in the order t, c, z, y, x; a plane can only be y, x.
    """
    return tuple(NgffAxis(name) for name in {5: "tczyx", 2: "yx"}.get(ndim, ""))
