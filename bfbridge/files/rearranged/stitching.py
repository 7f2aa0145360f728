"""Fields of a well, or tiles of a scene, fused to one image on their stage positions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bfbridge.backend import Image, Level, ReaderBackend, Region
from bfbridge.errors import BadArgument
from bfbridge.files.rearranged.wrapper import Wrapper, five
from bfbridge.ome.planes import corners, first_position

if TYPE_CHECKING:
    from ome_types import OME, model

__all__ = ["Stitched"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class _Mosaic:
    """One new image: the fields it is made of, and the place of each.

    Attributes
    ----------
    fields
        Numbers of the inner images.
    places
        (top, left) of each in the new image.
    name
        Name of the new image.
    """

    fields: tuple[int, ...]
    places: tuple[tuple[int, int], ...]
    name: str | None


class Stitched(Wrapper):
    """Images of fields, fused on their positions: one for each well or scene.

    Images of one well (of the OME plate) and one run, or tiles of one scene, or else all images of
    the same size and type, are one new image. Positions are rounded to whole pixels. A block is
    made from the fields that it overlaps, and only from the part that it needs. Associated images
    are unchanged, and follow.

    Parameters
    ----------
    inner
        The open backend.
    overlap
        Pixels where fields overlap: those of the "last" field, or the "mean" or "max" of all.
    fill
        Value of pixels outside all fields.
    flip
        Axes of the stage, of "x" and "y", that run against those of the pixels.
    name
        Name of the file, for messages.

    Raises
    ------
    BadArgument
        There is nothing to stitch, fields differ in size or type, or a position is unknown.
    """

    def __init__(
        self, inner: ReaderBackend, overlap: str, fill: float, flip: str, name: str
    ) -> None:
        self._overlap, self._fill = overlap, fill
        groups = _groups(inner)
        if all(len(group) < 2 for group in groups.values()):
            raise BadArgument(
                f"{name}: stitch: no well, scene or file has several fields of the same size and "
                "type, so there is nothing to stitch."
            )
        self._mosaics = [_mosaic(inner, key, group, flip, name) for key, group in groups.items()]
        self._others = [i for i, image in enumerate(inner.images) if image.role != "image"]
        new = {mosaic.fields[0]: n for n, mosaic in enumerate(self._mosaics)}
        owner = {f: new[m.fields[0]] for m in self._mosaics for f in m.fields}
        images = [self._image(inner, mosaic, name) for mosaic in self._mosaics]
        for number in self._others:
            image = inner.images[number]
            of = None if image.label_of is None else owner.get(image.label_of)
            images.append(replace(image, label_of=of))
        super().__init__(inner, images)

    def _image(self, inner: ReaderBackend, mosaic: _Mosaic, name: str) -> Image:
        first = inner.images[mosaic.fields[0]]
        level = first.levels[0]
        t, c, z, height, width = level.shape
        for number in mosaic.fields[1:]:
            other = inner.images[number]
            same = (other.dtype, other.samples, other.levels[0].shape)
            if same != (first.dtype, first.samples, level.shape):
                raise BadArgument(
                    f"{name}: stitch: image {number} differs in size or type from image "
                    f"{mosaic.fields[0]}, so they are not fields of one image."
                )
        y = max(top for top, _ in mosaic.places) + height
        x = max(left for _, left in mosaic.places) + width
        stitched = Level((t, c, z, y, x), level.chunk)
        return replace(first, name=mosaic.name, levels=(stitched,), placement=None)

    def _is_same(self, image: int) -> bool:
        return False

    def read(self, region: Region, out: Array) -> None:
        """Fill `out` from the fields that the region overlaps."""
        if region.image >= len(self._mosaics):
            number = self._others[region.image - len(self._mosaics)]
            self._inner.read(replace(region, image=number), out)
            return
        mosaic = self._mosaics[region.image]
        height, width = self._inner.images[mosaic.fields[0]].levels[0].shape[3:]
        parts = []
        for number, (top, left) in zip(mosaic.fields, mosaic.places, strict=True):
            y = max(region.start[3], top), min(region.stop[3], top + height)
            x = max(region.start[4], left), min(region.stop[4], left + width)
            if y[0] < y[1] and x[0] < x[1]:
                start = five((*region.start[:3], y[0] - top, x[0] - left))
                stop = five((*region.stop[:3], y[1] - top, x[1] - left))
                rows = slice(y[0] - region.start[3], y[1] - region.start[3])
                columns = slice(x[0] - region.start[4], x[1] - region.start[4])
                parts.append((Region(number, 0, start, stop), (rows, columns)))
        self._fuse(parts, out)

    def _fuse(self, parts: Sequence[tuple[Region, tuple[slice, slice]]], out: Array) -> None:
        if len(parts) == 1 and parts[0][0].shape == out.shape:
            self._inner.read(parts[0][0], out)
            return
        out[...] = self._fill
        if self._overlap == "last":
            for region, box in parts:
                self._inner.read(region, out[(..., *box)])
            return
        covered = np.zeros(out.shape[3:], np.int64)
        mean = self._overlap == "mean" and len(parts) > 1
        wide = np.int64 if out.dtype.kind in "iu" and out.dtype.itemsize < 8 else None
        total = np.zeros(out.shape, wide or np.result_type(out.dtype, np.float64)) if mean else None
        for region, box in parts:
            pixels = np.empty(region.shape, out.dtype)
            self._inner.read(region, pixels)
            if total is not None:
                total[(..., *box)] += pixels
            target = out[(..., *box)]
            larger = pixels if total is not None else np.maximum(target, pixels)
            target[...] = np.where(covered[box] > 0, larger, pixels)
            covered[box] += 1
        if total is not None:
            self._divide(total, covered, out)

    @staticmethod
    def _divide(total: Array, covered: Array, out: Array) -> None:
        """Set pixels that several fields cover to their mean; integers are rounded half up."""
        several = covered > 1
        if not several.any():
            return
        sums, counts = total[..., several], covered[several]
        if out.dtype.kind in "iu":
            out[..., several] = (sums + counts // 2) // counts
        else:
            out[..., several] = sums / counts

    def change_document(self, ome: OME) -> None:
        """Describe the new images; wells have one field each, and regions of interest are dropped.

        The regions' positions are those of single fields.
        """
        old = list(ome.images)
        ome.images = [self._element(old, number) for number in range(len(self._mosaics))]
        ome.images += [old[number] for number in self._others]
        merged = {
            old[f].id: (old[m.fields[0]].id, f == m.fields[0])
            for m in self._mosaics
            for f in m.fields
        }
        ome.rois = []
        for image in ome.images:
            image.roi_refs = []
        kept: set[str] = set()
        for plate in ome.plates:
            for well in plate.wells:
                well.well_samples = [
                    sample
                    for sample in well.well_samples
                    if sample.image_ref is None or merged.get(sample.image_ref.id, ("", True))[1]
                ]
                kept.update(sample.id for sample in well.well_samples)
            for run in plate.plate_acquisitions:
                run.well_sample_refs = [r for r in run.well_sample_refs if r.id in kept]
        holders: list[Any] = [*ome.datasets, *ome.folders]
        for holder in holders:
            holder.image_refs = [
                ref for ref in holder.image_refs if merged.get(ref.id, ("", True))[1]
            ]

    def _element(self, old: Sequence[model.Image], number: int) -> model.Image:
        """Return the Image element of a mosaic: that of its first field, with its own position."""
        mosaic, image = self._mosaics[number], self._images[number]
        element = old[mosaic.fields[0]].model_copy()
        pixels = element.pixels = element.pixels.model_copy()
        element.name = mosaic.name
        pixels.size_y, pixels.size_x = image.levels[0].shape[3:]
        for axis, side in (("y", 0), ("x", 1)):
            edge = mosaic.fields[[place[side] for place in mosaic.places].index(0)]
            first = first_position(old[edge].pixels).get(axis)
            for plane in pixels.planes:
                setattr(plane, f"position_{axis}", None if first is None else first.value)
        return element


def _groups(inner: ReaderBackend) -> dict[Any, tuple[int, ...]]:
    """Return the images that are fields of one image each; in a plate by the name of the image."""
    numbers = [i for i, image in enumerate(inner.images) if image.role == "image"]
    ome = inner.ome()
    found: dict[Any, list[int]] = {}
    if len(ome.plates) and len(ome.images) == len(inner.images):
        wells = _wells(ome)
        if all(ome.images[number].id in wells for number in numbers):
            for number in numbers:
                found.setdefault(wells[ome.images[number].id], []).append(number)
            return {well: tuple(group) for well, group in found.items()}
    for number in numbers:
        image = inner.images[number]
        scene = None if image.placement is None else image.placement.scene
        key = (scene, image.dtype.str, image.samples, image.levels[0].shape)
        found.setdefault(key, []).append(number)
    return {key: tuple(group) for key, group in found.items()}


def _wells(ome: OME) -> dict[str, str]:
    """Return the name of the stitched image of each field, by the ID of its image.

    It is the name of the well. A well that was taken in several runs (``PlateAcquisition``) has an
    image for each: their fields lie at the same places.
    """
    found = {}
    for number, plate in enumerate(ome.plates):
        names = Counter(run.name for run in plate.plate_acquisitions)
        runs = {
            ref.id: run.name if run.name and names[run.name] == 1 else f"run {i}"
            for i, run in enumerate(plate.plate_acquisitions)
            for ref in run.well_sample_refs
        }
        for well in plate.wells:
            name = f"{number if number else ''}{_letters(well.row)}{well.column + 1}"
            several = len({runs.get(sample.id) for sample in well.well_samples}) > 1
            for sample in well.well_samples:
                if sample.image_ref is not None:
                    run = runs.get(sample.id) if several else None
                    found[sample.image_ref.id] = name if run is None else f"{name} {run}"
    return found


def _letters(row: int) -> str:
    """Return the name of a row of wells: A, B, ..., Z, AA."""
    text, row = "", row + 1
    while row:
        row, rest = divmod(row - 1, 26)
        text = chr(ord("A") + rest) + text
    return text


def _mosaic(
    inner: ReaderBackend, key: Any, fields: tuple[int, ...], flip: str, name: str
) -> _Mosaic:
    ome = inner.ome()
    shown = key if isinstance(key, str) else inner.images[fields[0]].name
    if len(fields) == 1:
        return _Mosaic(fields, ((0, 0),), shown)
    images = [inner.images[number] for number in fields]
    pixels = [ome.images[n].pixels if n < len(ome.images) else None for n in fields]
    placed = corners(images, pixels, fields, name)
    if any(image.placement is None for image in images):
        down, right = (-1 if axis in flip else 1 for axis in "yx")
        placed = [(down * y, right * x) for y, x in placed]
    top, left = min(y for y, _ in placed), min(x for _, x in placed)
    places = tuple((round(y - top), round(x - left)) for y, x in placed)
    return _Mosaic(fields, places, shown)
