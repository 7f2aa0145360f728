"""Checks of a store: which groups there are, their documents, and how levels and labels fit."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from bfbridge.backend.findings import COPY_AGAIN, Finding
from bfbridge.errors import BfbridgeError, Unsupported
from bfbridge.ome.checks.validation import check_xml
from bfbridge.ome.documents.xml import parse_ome_xml
from bfbridge.storage.journal import find_interrupted
from bfbridge_omezarr.chunked.array_metadata import ArrayInfo, parse_array
from bfbridge_omezarr.hierarchy.documents import Documents, Node
from bfbridge_omezarr.hierarchy.store import join
from bfbridge_omezarr.hierarchy.zips import open_store
from bfbridge_omezarr.validation.chunks import ChunkChecker
from bfbridge_omezarr.validation.metadata import (
    Fault,
    check_image_label,
    check_multiscale,
    check_omero,
    check_plate,
    check_well,
    is_number,
)

if TYPE_CHECKING:
    from bfbridge.backend import OpenOptions
    from bfbridge.storage.source import Source
    from bfbridge_omezarr.hierarchy.store import Store

__all__ = ["validate"]

_XML: Final = "OME/METADATA.ome.xml"
_LAYOUT: Final = "bioformats2raw.layout"
_CORRECT: Final = "Correct the document, or write the store again with `bfbridge convert`."
_CHECKED: Final = {"0.4": 2, "0.5": 3}


def validate(source: Source, options: OpenOptions) -> Iterator[Finding]:
    """Yield what in a store breaks NGFF 0.4 or 0.5, or Zarr.

    Parameters
    ----------
    source
        A folder, a ZIP file or a URL. The chunks of a URL are not listed.
    options
        `limits` and `allow_outside` are used.
    """
    if source.path is not None:
        interrupted = find_interrupted(source.path)
        if interrupted is not None:
            yield Finding(
                "error",
                "zarr-journal",
                source.name,
                str(interrupted),
                "Call bfbridge.recover on it.",
            )
    with closing(open_store(source, options.limits, options.allow_outside)) as store:
        yield from _StoreChecker(store, options).check()


@dataclass(slots=True)
class _Image:
    """A group with multiscales, and what its arrays are.

    Attributes
    ----------
    key
        Key of the group.
    arrays
        The readable arrays of the first entry, full size first.
    """

    key: str
    arrays: list[ArrayInfo] = field(default_factory=list)


class _StoreChecker:
    """Checks of one store; each method yields findings."""

    def __init__(self, store: Store, options: OpenOptions) -> None:
        self._store = store
        self._limits = options.limits
        self._documents = Documents(store, options.limits, consolidated=False)
        self._arrays: dict[str, ArrayInfo] = {}
        self._images = 0
        self._version: str | None = None

    def check(self) -> Iterator[Finding]:
        """Check everything in the store."""
        root = yield from self._node("", "the store")
        if root is None:
            return
        ome = root.ome
        if root.array is not None:
            yield self._note("", "it is a Zarr array without NGFF metadata")
            yield from self._array("")
        else:
            yield from self._check_version(root)
            if isinstance(ome.get("plate"), Mapping):
                yield from self._plate(root)
            elif _LAYOUT in ome or _LAYOUT in root.attributes:
                yield from self._collection(root)
            elif "multiscales" in ome:
                yield from self._image(root)
            elif "well" in ome:
                yield from self._well(root, 0)
            elif "labels" in ome:
                yield from self._labels(root, None)
            else:
                yield self._fault(
                    "", Fault("error", "ngff-missing", "attributes", "there is no NGFF metadata")
                )
        yield from self._xml()
        yield from ChunkChecker(self._store, self._arrays, self._limits).check()

    # ---- documents

    def _where(self, key: str, place: str = "") -> str:
        label = self._store.label(key)
        return f"{label}: {place}" if place else label

    def _fault(self, key: str, fault: Fault) -> Finding:
        where = self._where(key, fault.place)
        return Finding(fault.severity, fault.code, where, fault.message, _CORRECT)

    def _faults(self, key: str, faults: Iterable[Fault]) -> Iterator[Finding]:
        """Yield violations of NGFF, if its version is one whose rules are known."""
        for fault in faults if self._version in (*_CHECKED, None) else ():
            yield self._fault(key, fault)

    def _note(self, key: str, message: str) -> Finding:
        return Finding("note", "zarr-note", self._where(key), message)

    def _node(self, key: str, what: str) -> Generator[Finding, None, Node | None]:
        """Fetch a group or array; return None if it is missing or damaged."""
        try:
            node = self._documents.node(key)
        except BfbridgeError as error:
            yield Finding(
                "error",
                "zarr-document",
                self._where(key),
                str(error).removeprefix(f"{self._where(key)}: "),
                COPY_AGAIN,
            )
            return None
        if node is None:
            yield Finding(
                "error",
                "zarr-missing",
                self._where(key),
                f"{what} has no Zarr document (zarr.json, .zgroup or .zarray)",
                COPY_AGAIN,
            )
        return node

    def _check_version(self, root: Node) -> Iterator[Finding]:
        entries = root.ome.get("multiscales")
        first = entries[0] if isinstance(entries, list) and entries else {}
        found = root.ome.get("version")
        for key, part in (("plate", root.ome.get("plate")), ("multiscales", first)):
            found = found or (part.get("version") if key and isinstance(part, Mapping) else None)
        if found is None:
            found = "0.5" if root.zarr_format == 3 else "0.4"
            if root.zarr_format == 3:
                yield self._fault("", Fault("error", "ngff-version", "ome", "it has no version"))
        self._version = str(found)
        wanted = _CHECKED.get(self._version)
        if wanted is None:
            yield self._note("", f"NGFF {self._version}: only its arrays are checked")
        elif wanted != root.zarr_format:
            yield self._fault(
                "",
                Fault(
                    "error",
                    "ngff-version",
                    "version",
                    f"NGFF {self._version} requires Zarr version {wanted}, this is version "
                    f"{root.zarr_format}",
                ),
            )

    def _take_version(self, node: Node, entry: Any) -> None:
        """Before 0.5 each image has its own version, which the root of a collection lacks."""
        version = entry.get("version") if isinstance(entry, Mapping) else None
        if node.zarr_format == 2 and isinstance(version, str):
            self._version = version

    def _xml(self) -> Iterator[Finding]:
        """Check the OME-XML of the store."""
        try:
            data = self._store.get(_XML, self._limits.xml_bytes)
        except BfbridgeError as error:
            yield Finding("error", "ome-xml", self._where(_XML), str(error), COPY_AGAIN)
            return
        if data is None:
            return
        xml = bytes(data).decode("utf-8-sig", "replace")
        yield from check_xml(xml, self._where(_XML), self._limits)
        try:
            count = len(parse_ome_xml(xml, self._where(_XML), self._limits).images)
        except BfbridgeError:
            return  # `check_xml` reports it
        if count != self._images:
            yield Finding(
                "warning",
                "ome-images",
                self._where(_XML),
                f"it describes {count} images, the store has {self._images}: readers ignore it",
                _CORRECT,
            )

    # ---- kinds of groups

    def _keys(
        self, base: str, paths: Iterable[Any], place: str
    ) -> Generator[Finding, None, list[str]]:
        """Return the keys of paths in a document."""
        keys = []
        for path in paths:
            try:
                keys.append(join(base, path, self._where(base)))
            except BfbridgeError as error:
                yield self._fault(base, Fault("error", "zarr-path", place, str(error)))
        return keys

    def _collection(self, root: Node) -> Iterator[Finding]:
        listed = self._documents.node("OME")
        series = None if listed is None else listed.ome.get("series")
        if isinstance(series, list):
            keys = yield from self._keys("", series, "OME: series")
        else:
            keys = []
            while self._documents.node(str(len(keys))) is not None:
                keys.append(str(len(keys)))
        if not keys:
            yield self._fault(root.key, Fault("error", "ngff-series", _LAYOUT, "it has no images"))
        for key in keys:
            node = yield from self._node(key, "an image of the collection")
            if node is not None:
                yield from self._image(node)

    def _plate(self, root: Node) -> Iterator[Finding]:
        plate = root.ome["plate"]
        yield from self._faults("", check_plate(plate))
        if self._version == "0.4" and "version" not in plate:
            yield self._fault("", Fault("warning", "ngff-version", "plate", "it has no version"))
        wells = plate.get("wells")
        paths = (
            [w.get("path") for w in wells if isinstance(w, Mapping)]
            if isinstance(wells, list)
            else []
        )
        keys = yield from self._keys("", dict.fromkeys(map(str, paths)), "plate.wells")
        acquisitions = plate.get("acquisitions")
        count = len(acquisitions) if isinstance(acquisitions, list) else 0
        for key in keys:
            node = yield from self._node(key, "a well of the plate")
            if node is not None:
                yield from self._well(node, count)

    def _well(self, node: Node, acquisitions: int) -> Iterator[Finding]:
        well = node.ome.get("well")
        yield from self._faults(node.key, check_well(well, acquisitions))
        images = well.get("images") if isinstance(well, Mapping) else None
        listed = images if isinstance(images, list) else []
        paths = [i["path"] for i in listed if isinstance(i, Mapping) and "path" in i]
        keys = yield from self._keys(node.key, paths, "well.images")
        for key in keys:
            image = yield from self._node(key, "an image of the well")
            if image is not None:
                yield from self._image(image)

    def _image(
        self, node: Node, of: _Image | None = None
    ) -> Generator[Finding, None, _Image | None]:
        """Check a group with multiscales; `of` is the image that its labels belong to."""
        self._images += of is None
        entries = node.ome.get("multiscales")
        if not isinstance(entries, list) or not entries:
            yield self._fault(
                node.key,
                Fault("error", "ngff-multiscales", "multiscales", "it is not a list of images"),
            )
            return None
        self._take_version(node, entries[0])
        first = _Image(node.key)
        for number, entry in enumerate(entries):
            place = f"multiscales[{number}]"
            yield from self._faults(node.key, check_multiscale(entry, place))
            if isinstance(entry, Mapping):
                arrays = yield from self._levels(node, entry, place)
                if number == 0:
                    first.arrays = arrays
        yield from self._omero(node, entries[0], first)
        if of is None:
            labels = self._documents.node(f"{node.key}/labels".lstrip("/"))
            if labels is not None:
                yield from self._labels(labels, first)
        return first

    def _omero(self, node: Node, entry: Any, image: _Image) -> Iterator[Finding]:
        omero = node.ome.get("omero")
        if omero is None:
            return
        axes = entry.get("axes") if isinstance(entry, Mapping) else None
        kinds = (
            [a.get("type") for a in axes if isinstance(a, Mapping)]
            if isinstance(axes, list)
            else []
        )
        size = None
        if image.arrays and "channel" in kinds and len(kinds) == len(image.arrays[0].shape):
            size = image.arrays[0].shape[kinds.index("channel")]
        yield from self._faults(node.key, check_omero(omero, size))

    def _labels(self, group: Node, of: _Image | None) -> Iterator[Finding]:
        names = group.ome.get("labels")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            yield self._fault(
                group.key, Fault("error", "ngff-labels", "labels", "it is not a list of paths")
            )
            return
        if not names:
            yield self._fault(group.key, Fault("warning", "ngff-labels", "labels", "it is empty"))
        keys = yield from self._keys(group.key, names, "labels")
        for key in keys:
            node = yield from self._node(key, "a listed label image")
            if node is None:
                continue
            found = yield from self._image(node, of or _Image(""))
            label = node.ome.get("image-label")
            if label is None:
                yield self._fault(
                    key, Fault("warning", "ngff-image-label", "image-label", "it is missing")
                )
            else:
                yield from self._faults(key, check_image_label(label))
            if found is not None and of is not None:
                yield from self._compare_labels(found, of)

    def _compare_labels(self, label: _Image, image: _Image) -> Iterator[Finding]:
        for info in label.arrays[:1]:
            if info.dtype.kind not in "iu":
                yield self._fault(
                    label.key,
                    Fault(
                        "error",
                        "ngff-labels",
                        "dtype",
                        f"labels are integers, not {info.dtype.name}",
                    ),
                )
            for other in image.arrays[:1]:
                if info.shape[-2:] != other.shape[-2:]:
                    yield self._fault(
                        label.key,
                        Fault(
                            "warning",
                            "ngff-labels",
                            "shape",
                            f"rows and columns {info.shape[-2:]} differ from those of the image, "
                            f"{other.shape[-2:]}",
                        ),
                    )
        if len(label.arrays) != len(image.arrays):
            yield self._fault(
                label.key,
                Fault(
                    "warning",
                    "ngff-labels",
                    "multiscales",
                    f"it has {len(label.arrays)} levels, its image {len(image.arrays)}",
                ),
            )

    # ---- levels

    def _array(self, key: str) -> Generator[Finding, None, ArrayInfo | None]:
        """Read the document of an array; return None if it is missing, damaged or unsupported."""
        node = yield from self._node(key, "a level of an image")
        if node is None:
            return None
        if node.array is None:
            yield self._fault(key, Fault("error", "zarr-array", "", "it is a group, not an array"))
            return None
        where = self._where(node.array_path)
        try:
            info = parse_array(key, node.array, node.zarr_format, self._limits, where)
        except Unsupported as error:
            yield self._note(key, f"its chunks are not checked: {error}")
            return None
        except BfbridgeError as error:
            yield Finding(
                "error", "zarr-array", where, str(error).removeprefix(f"{where}: "), _CORRECT
            )
            return None
        self._arrays[key] = info
        return info

    def _levels(
        self, node: Node, entry: Mapping[str, Any], place: str
    ) -> Generator[Finding, None, list[ArrayInfo]]:
        """Check the arrays of one image, and compare their shapes with their scales."""
        datasets = entry.get("datasets")
        listed = (
            [d for d in datasets if isinstance(d, Mapping)] if isinstance(datasets, list) else []
        )
        axes = entry.get("axes")
        names = (
            [a.get("name") if isinstance(a, Mapping) else a for a in axes]
            if isinstance(axes, list)
            else []
        )
        arrays: list[ArrayInfo] = []
        placed: list[tuple[ArrayInfo, Any]] = []
        for number, dataset in enumerate(listed):
            keys = yield from self._keys(node.key, [dataset.get("path")], f"{place}.datasets")
            for key in keys:
                info = yield from self._array(key)
                if info is None:
                    continue
                arrays.append(info)
                placed.append((info, dataset.get("coordinateTransformations")))
                yield from self._faults(key, self._check_array(info, arrays[0], names, number))
        for fault in _check_steps(placed, place):
            yield self._fault(node.key, fault)
        return arrays

    def _check_array(
        self, info: ArrayInfo, first: ArrayInfo, names: Sequence[Any], number: int
    ) -> Iterator[Fault]:
        if len(info.shape) != len(names):
            yield Fault(
                "error",
                "ngff-axes",
                "shape",
                f"{list(info.shape)} has {len(info.shape)} axes, the metadata name {len(names)}",
            )
        if info.dtype.newbyteorder("=") != first.dtype.newbyteorder("="):
            yield Fault(
                "error",
                "ngff-levels",
                "data_type",
                f"level {number} is {info.dtype.name}, level 0 {first.dtype.name}",
            )
        if 0 in info.shape:
            yield Fault("error", "ngff-levels", "shape", f"{list(info.shape)} has no pixels")
        if self._version == "0.5" and list(info.dimension_names or ()) != list(names):
            stored = None if info.dimension_names is None else list(info.dimension_names)
            yield Fault(
                "error",
                "ngff-axes",
                "dimension_names",
                f"{stored} are not the names of the axes, {list(names)}",
            )
        if self._version == "0.4" and info.separator_given and info.separator != "/":
            yield Fault(
                "warning",
                "ngff-separator",
                "dimension_separator",
                'it is ".", where NGFF 0.4 uses "/"',
            )


def _vector(found: Any, kind: str, count: int) -> list[float] | None:
    """Return the "scale" or "translation" of a list of transformations, if it is valid."""
    for each in found if isinstance(found, list) else []:
        values = each.get(kind) if isinstance(each, Mapping) and each.get("type") == kind else None
        if isinstance(values, list) and len(values) == count and all(map(is_number, values)):
            return [float(value) for value in values]
    return None


def _check_steps(placed: Sequence[tuple[ArrayInfo, Any]], place: str) -> Iterator[Fault]:
    """Compare the scale and position of each level with its shape."""
    if not placed:
        return
    first, transformations = placed[0]
    count = len(first.shape)
    base = _vector(transformations, "scale", count)
    origin = _vector(transformations, "translation", count) or [0.0] * count
    before = first
    for number, (info, found) in enumerate(placed):
        where = f"{place}.datasets[{number}]"
        scale = _vector(found, "scale", count)
        if len(info.shape) != count or base is None or scale is None or number == 0:
            continue
        if any(a > b for a, b in zip(info.shape, before.shape, strict=True)):
            yield Fault(
                "error",
                "ngff-levels",
                where,
                f"its shape {list(info.shape)} is above that of the level before it, "
                f"{list(before.shape)}",
            )
        before = info
        shift = _vector(found, "translation", count) or [0.0] * count
        for axis, size in enumerate(info.shape):
            if not base[axis] or not scale[axis]:
                continue
            factor = scale[axis] / base[axis]
            yield from _check_step(first.shape[axis], size, factor, axis, where)
            moved = (shift[axis] - origin[axis]) / scale[axis]
            if not math.isfinite(moved) or abs(moved) > 1.001:
                yield Fault(
                    "warning",
                    "ngff-translation",
                    where,
                    f"along axis {axis} its first element is {moved:g} elements away from "
                    "that of level 0: levels are displayed at different positions",
                )


def _check_step(full: int, size: int, factor: float, axis: int, where: str) -> Iterator[Fault]:
    # Each halving may round up or down: at most one element altogether.
    exact = full / factor if math.isfinite(factor) else math.inf
    if abs(exact - size) > 1.001:
        yield Fault(
            "error",
            "ngff-scale",
            where,
            f"along axis {axis} its scale is {factor:g} times that of level 0, its length "
            f"{size} instead of {full}: scales and shapes contradict each other",
        )
