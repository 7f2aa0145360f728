"""Lower levels that are added to images of a finished store.

Several processes may compute them. New arrays are written at their final place, where no reader
looks for them, and ``.bfbridge-shared`` names them until `AddedLevels.finish` adds them to the
``multiscales`` of their image. That is one replacement of one document for each image, on a disk
and at a URL. Level 0 and its metadata stay as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bfbridge.backend import Image, OpenOptions, Region, Shape5
from bfbridge.errors import FileMissing, UnreadableFile, Unsupported
from bfbridge.ngff.documents import method_of, to_json
from bfbridge.ngff.hierarchy import Places
from bfbridge.runtime import forking
from bfbridge.storage.source import as_source
from bfbridge_omezarr.chunked.codec_options import options_of
from bfbridge_omezarr.chunked.levels import LevelWriter
from bfbridge_omezarr.hierarchy.files import tree_of
from bfbridge_omezarr.hierarchy.ngff import vector
from bfbridge_omezarr.hierarchy.store import join
from bfbridge_omezarr.in_place import remove_consolidated
from bfbridge_omezarr.options import parse_options
from bfbridge_omezarr.reader import OmeZarrReader
from bfbridge_omezarr.shared import FOLDER, AddedArrays, SharedPlan, load_plan, plan_document
from bfbridge_omezarr.writer import StoreWriter

if TYPE_CHECKING:
    from pathlib import Path

    from bfbridge.backend import ImageSpec
    from bfbridge.storage.source import Source
    from bfbridge_omezarr.hierarchy.files import KeyTree
    from bfbridge_omezarr.reader import StoredImage

__all__ = ["AddedLevels"]

Array = np.ndarray[Any, Any]
_NUMBERED: Final = re.compile(r"(.*?)([0-9]+)")


class AddedLevels(StoreWriter):
    """A writer of lower levels of images of a finished store, for one of several processes.

    Its level 0 is that of the store: it is read, and cannot be written.

    Parameters
    ----------
    target
        The store.
    plan
        The plan that `begin` wrote into it.
    """

    def __init__(self, target: Path | Source, plan: SharedPlan) -> None:
        super().__init__(
            target, (), None, parse_options({}), shared=True, places=Places((), (), {})
        )
        self._target = target
        self._specs = tuple(plan.specs)
        self._added = tuple(plan.added)
        self._levels = tuple(
            tuple(
                LevelWriter(
                    self._files, _join(arrays.group, path), spec, level,
                    parse_options(arrays.options), shared=True, axes=arrays.axes,
                )
                for level, path in enumerate(arrays.paths)
            )
            for spec, arrays in zip(plan.specs, plan.added, strict=True)
        )  # fmt: skip
        self._reader: OmeZarrReader | None = None
        self._lock = forking.lock()

    @classmethod
    def begin(cls, target: Path | Source, wanted: Callable[[Image], ImageSpec | None]) -> int:
        """Start to add levels; see `ChunkedStoreBackend.create_levels`."""
        cls.discard(target)
        reader = OmeZarrReader.open(as_source(target), OpenOptions())
        files = tree_of(target)
        specs, added = [], []
        try:
            for number, image in enumerate(reader.images):
                spec = wanted(image)
                if spec is None:
                    continue
                stored = reader.stored(number)
                arrays = _arrays_of(files, number, stored, len(spec.image.levels))
                fill = stored.info.fill
                # The processes need nothing else of the image.
                known = Image(name=image.name, levels=spec.image.levels, dtype=image.dtype)
                value = 0 if fill is None else fill.item()
                specs.append(replace(spec, image=known, fill_value=value))
                added.append(arrays)
        finally:
            reader.close()
        if added:
            key, document = plan_document(SharedPlan(specs, {}, None, added))
            files.write(key, to_json(document))
        files.close()
        return len(added)

    @classmethod
    def discard(cls, target: Path | Source) -> None:
        """Remove the arrays of levels that were begun and not finished, if there are any."""
        files = tree_of(target)
        try:
            plan = load_plan(files)
        except FileMissing:
            return
        if not plan.added:
            return
        unlisted = [key for arrays in plan.added for key in _unlisted(files, arrays)]
        for key in (*unlisted, FOLDER):
            files.remove_folder(key)
        files.close()

    def read_block(self, image: int, level: int, index: Shape5) -> Array | None:
        """Return a block of the store's level 0, or one of another level that was written."""
        if level:
            return super().read_block(image, level, index)
        start, stop = self._specs[image].image.levels[0].grid.box(index)
        found: Array = np.empty(
            [b - a for a, b in zip(start, stop, strict=True)], self._specs[image].image.dtype
        )
        self._source().read(Region(self._added[image].image, 0, start, stop), found)
        return found

    def _checked_level(self, image: int, level: int, *arguments: Any) -> LevelWriter:
        """Return the writer of a lower level; see `StoreWriter._checked_level`.

        Raises
        ------
        Unsupported
            It is level 0, which the store has already.
        """
        if level == 0:
            raise Unsupported(
                f"{self._files.root}: lower levels are being added to this store, and its full "
                "size cannot be changed meanwhile."
            )
        return super()._checked_level(image, level, *arguments)

    def finish(self) -> None:
        """Make the levels part of their images.

        Raises
        ------
        WriteFailed
            The file system refuses.
        """
        self._start_finish()
        self._complete()
        self._files.remove_unfinished()
        for levels in self._levels:
            for level in levels[1:]:
                level.describe()
        root = json.loads(self._files.read("zarr.json") or b"{}")
        remove_consolidated(self._files, root)
        for spec, arrays in zip(self._specs, self._added, strict=True):
            key, document = _document(self._files, arrays)
            document.pop("consolidated_metadata", None)
            _extend(_entry(document, arrays), spec, arrays)
            self._files.write(key, to_json(document))
        self._files.remove_folder(FOLDER)
        self._close()

    def release(self) -> None:
        """End the part of this process."""
        if self._open:
            self._open = False
            self._complete()
        self._close()

    def abort(self) -> None:
        """End the part of this process after an error."""
        super().abort()
        self._close()

    def _source(self) -> OmeZarrReader:
        """Return the reader of level 0, opened on first use."""
        with self._lock:
            if self._reader is None:
                self._reader = OmeZarrReader.open(as_source(self._target), OpenOptions())
            return self._reader

    def _close(self) -> None:
        self._files.close()
        with self._lock:
            if self._reader is not None:
                self._reader.close()


def _arrays_of(files: KeyTree, image: int, stored: StoredImage, count: int) -> AddedArrays:
    """Return the arrays of the new levels of an image.

    Raises
    ------
    Unsupported
        The image is not one to which levels can be added.
    """
    found, info, places = stored.found, stored.info, stored.places
    where = f"{files.root}/{info.key}" if info.key else files.root
    multiscale = found.multiscale
    transforms = None
    if multiscale is not None and "coordinateSystems" not in multiscale.stored:
        transforms = multiscale.stored["datasets"][0].get("coordinateTransformations")
    if multiscale is None or found.node is None or not vector(transforms, "scale", len(places)):
        raise Unsupported(
            f"{where}: lower levels are added to images of NGFF 0.4 and 0.5, whose metadata have "
            "the scale of each level. Convert the store to a new one instead."
        )
    axes = [place for place in places if place is not None]
    if len(axes) != len(places) or axes != sorted(axes):
        names = "".join(axis.name for axis in multiscale.axes)
        raise Unsupported(
            f"{where}: lower levels are added to images whose axes are in the order t, c, z, y, x; "
            f"these are {names}. Convert the store to a new one instead."
        )
    listed = found.node.ome["multiscales"]
    entry = next(i for i, known in enumerate(listed) if known is multiscale.stored)
    paths = _names(multiscale.paths[0], count)
    for path in paths[1:]:
        key = _join(found.group, path)
        if files.names(key):
            raise Unsupported(
                f"{files.path(key)}: something is here, where a lower level would be written, and "
                "the image does not list it. Move it away first."
            )
    return AddedArrays(image, found.group, entry, paths, axes, _options_of(files, stored, axes))


def _options_of(files: KeyTree, stored: StoredImage, axes: Sequence[int]) -> dict[str, Any]:
    """Return the options of arrays with the encoding of a stored one, if that can be written."""
    info, node = stored.info, stored.node

    def five(values: Sequence[int]) -> tuple[int, ...]:
        sizes = dict(zip(axes, values, strict=True))
        return tuple(sizes.get(place, 1) for place in range(5))

    options: dict[str, Any] = {"version": "0.4" if node.zarr_format == 2 else "0.5"}
    # Where bfbridge does not write its compression, the new levels have the default one.
    with suppress(Unsupported):
        options["compression"] = options_of(files.root, node, info)["compression"]
    if info.shard is not None:
        options |= {"chunks": five(info.chunks), "shards": five(info.shard.shape)}
    return options


def _names(first: str, count: int) -> list[str]:
    """Return the paths of levels: "0", "1", "2", or "s0", "s1", "s2"."""
    numbered = _NUMBERED.fullmatch(first)
    if numbered is None:
        return [first, *(f"{first}-{number}" for number in range(1, count))]
    prefix, digits = numbered.groups()
    return [f"{prefix}{int(digits) + number:0{len(digits)}}" for number in range(count)]


def _document(files: KeyTree, arrays: AddedArrays) -> tuple[str, dict[str, Any]]:
    """Return key and content of the document with the ``multiscales`` of an image."""
    is_v2 = arrays.options["version"] == "0.4"
    key = _join(arrays.group, ".zattrs" if is_v2 else "zarr.json")
    return key, json.loads(files.read(key) or b"{}")


def _entry(document: Mapping[str, Any], arrays: AddedArrays) -> dict[str, Any]:
    attributes = document.get("attributes", {}) if "node_type" in document else document
    inner = attributes.get("ome")
    found: dict[str, Any] = (inner if isinstance(inner, dict) else attributes)["multiscales"][
        arrays.entry
    ]
    return found


def _unlisted(files: KeyTree, arrays: AddedArrays) -> list[str]:
    """Return the keys of the arrays that an image does not list.

    A writer that was killed in `AddedLevels.finish` has completed the first images. The plan may
    come from somebody else: only what `AddedLevels.begin` could have named is returned.

    Raises
    ------
    UnreadableFile
        The plan names something else.
    """
    where = files.path(f"{FOLDER}/plan.json")
    group = join("", arrays.group, where)
    try:
        entry = _entry(_document(files, arrays)[1], arrays)
        listed = [join("", dataset["path"], where) for dataset in entry["datasets"]]
        if list(arrays.paths) == _names(listed[0], len(arrays.paths)):
            keys = [_join(group, path) for path in arrays.paths if path not in listed]
            if all(map(files.contains, keys)):
                return keys
    except (KeyError, IndexError, TypeError, ValueError):
        pass
    raise UnreadableFile(
        f"{where}: this record of lower levels that were not finished does not fit the store "
        "beside it, so nothing was removed. If no other program is writing there, delete the "
        f"folder {FOLDER}."
    )


def _extend(entry: dict[str, Any], spec: ImageSpec, arrays: AddedArrays) -> None:
    """Add the levels to an entry of ``multiscales``, with their scales and positions."""
    axes = arrays.axes
    stored = entry["datasets"][0]["coordinateTransformations"]
    scale = vector(stored, "scale", len(axes))
    origin = vector(stored, "translation", len(axes)) or (0.0,) * len(axes)
    factors = accumulate(
        spec.steps, lambda before, step: tuple(a * b for a, b in zip(before, step, strict=True))
    )
    for path, factor in zip(arrays.paths[1:], factors, strict=True):
        sizes = [(1, 1, *factor)[place] for place in axes]
        # A mean belongs to the centre of its block; "nearest" takes its first element.
        half = 0 if spec.downsample == "nearest" else 0.5
        moved = [o + s * (n - 1) * half for o, s, n in zip(origin, scale, sizes, strict=True)]
        found: list[dict[str, Any]] = [
            {"type": "scale", "scale": [s * n for s, n in zip(scale, sizes, strict=True)]}
        ]
        if any(moved):
            found.append({"type": "translation", "translation": moved})
        entry["datasets"].append({"path": path, "coordinateTransformations": found})
    entry["type"] = spec.downsample
    entry["metadata"] = method_of(spec.downsample)


def _join(group: str, name: str) -> str:
    return f"{group}/{name}" if group else name
