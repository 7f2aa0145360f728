"""The OME document of a new file: that of the source, for the selected pixels.

Elements that describe images or planes outside the selection are omitted: channels, planes, regions
of interest, wells, data sets and folders.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING, Any

from bfbridge.backend import Extras, Quantity
from bfbridge.convert.plan.pieces import Piece
from bfbridge.convert.plan.scaling import Scaling
from bfbridge.errors import UnreadableFile
from bfbridge.ome import metadata
from bfbridge.ome.extras import attach_extras, convert_unit, find_extras, moved
from bfbridge.ome.planes import time_step_of
from bfbridge.reader import BioReader

if TYPE_CHECKING:
    from ome_types import OME, model

__all__ = ["CONVERSION_NAMESPACE", "ORIGINAL_METADATA", "document_for"]

OME_NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
ORIGINAL_METADATA = "openmicroscopy.org/OriginalMetadata"
CONVERSION_NAMESPACE = "bfbridge/conversion"


def document_for(
    br: BioReader,
    pieces: Sequence[Piece],
    scalings: Sequence[Scaling],
    *,
    original_metadata: bool = False,
) -> OME:
    """Return the document of a new file.

    Parameters
    ----------
    br
        The open source.
    pieces, scalings
        What becomes the new file's images, in order, and how values change.
    original_metadata
        Whether the format's own metadata is added, as annotations in the namespace that
        Bio-Formats uses for them.

    Raises
    ------
    UnreadableFile
        The source's document does not have an image for each series.
    """
    ome = br.ome
    if len(ome.images) != len(br.series):
        raise UnreadableFile(
            f"{br.source_name}: the metadata describes {len(ome.images)} images and the file "
            f"contains {len(br.series)}, so the images of the metadata cannot be assigned."
        )
    new = ome.model_copy()
    new.images = [
        ome.images[piece.series] if piece.whole else _image(ome.images[piece.series], piece, br)
        for piece in pieces
    ]
    cut = [image.id for image, piece in zip(new.images, pieces, strict=True) if not piece.whole]
    if cut or len(new.images) < len(ome.images):
        _follow(new, ome, pieces, br)
    # The lists are copied before anything is added: the document of the source is not changed.
    if ome.structured_annotations is not None:
        new.structured_annotations = ome.structured_annotations.model_copy()
    if original_metadata:
        _annotate_original(new, br.original_metadata)
    for number, scaling in enumerate(scalings):
        if scaling.changes:
            new.images[number] = _retyped(new, new.images[number], scaling)
    extras = find_extras(new)
    if any(extras):
        attach_extras(
            new, [_extras(br, *each) for each in zip(extras, pieces, scalings, strict=True)]
        )
    return new


def _extras(br: BioReader, extras: Extras, piece: Piece, scaling: Scaling) -> Extras:
    """Return the extras of an image that are valid for the selected pixels."""
    if scaling.low is not None:
        # Windows are in the values of the source.
        channels = [{k: v for k, v in c.items() if k != "window"} for c in extras.channels]
        extras = replace(extras, channels=tuple(channels))
    return extras if piece.whole else moved(extras, piece.c, _starts(piece, br))


def _starts(piece: Piece, br: BioReader) -> dict[str, Quantity | None]:
    """Return the distance of a piece's first pixel from that of the image, where it is not 0.

    The centre of the first pixel of a lower level is at (f - 1) / 2 full pixels for a factor f.
    """
    view = piece.view(br)
    size = view.physical_pixel_size
    factors = {axis: 0.5 - 0.5 / f for axis, f in zip("yx", _factors(piece, br), strict=True)}
    steps = {
        "x": size.x, "y": size.y, "z": size.z,
        "t": time_step_of(br.ome.images[piece.series].pixels),
    }  # fmt: skip
    starts = {
        "x": piece.x[0] + factors["x"], "y": piece.y[0] + factors["y"],
        "z": piece.z[0], "t": piece.t[0],
    }  # fmt: skip
    found: dict[str, Quantity | None] = {}
    for axis, start in starts.items():
        step = steps[axis]
        if start:
            found[axis] = None if step is None else Quantity(start * step.value, step.unit)
    return found


def _image(image: model.Image, piece: Piece, br: BioReader) -> model.Image:
    """Return the image with the channels and planes that were taken, and their sizes."""
    old = image.pixels
    pixels = old.model_copy()
    y, x, z, c, t = piece.shape
    pixels.size_y, pixels.size_x, pixels.size_z, pixels.size_c, pixels.size_t = y, x, z, c, t
    place = _places(piece)
    deep = br.series[piece.series].sizes["Z"] / piece.view(br).sizes["Z"]
    if deep != 1:
        place["z"] = {round(z * deep): new for z, new in place["z"].items()}
    starts = {axis: start for axis, start in _starts(piece, br).items() if axis in "xy"}
    pixels.channels = [old.channels[i] for i in place["c"] if i < len(old.channels)]
    pixels.planes = [
        plane.model_copy(
            update={
                "the_z": place["z"][plane.the_z],
                "the_c": place["c"][plane.the_c],
                "the_t": place["t"][plane.the_t],
                **_shifted(plane, starts),
            }
        )
        for plane in old.planes
        if plane.the_z in place["z"] and plane.the_c in place["c"] and plane.the_t in place["t"]
    ]
    scale_y, scale_x = _factors(piece, br)
    if old.physical_size_x is not None:
        pixels.physical_size_x = old.physical_size_x * scale_x
    if old.physical_size_y is not None:
        pixels.physical_size_y = old.physical_size_y * scale_y
    if old.physical_size_z is not None and (step := _step(piece.z)):
        pixels.physical_size_z = old.physical_size_z * step * deep
    if old.time_increment is not None and t > 1:
        step = _step(piece.t)
        pixels.time_increment = old.time_increment * step if step else None
    return image.model_copy(update={"pixels": pixels})


def _shifted(plane: model.Plane, starts: Mapping[str, Quantity | None]) -> dict[str, float]:
    """Return the positions of a plane after a crop; unchanged where the distance is unknown."""
    found = {}
    for axis, start in starts.items():
        value = getattr(plane, f"position_{axis}")
        unit = getattr(plane, f"position_{axis}_unit").value
        distance = None if start is None else convert_unit(start, unit)
        if value is not None and distance is not None:
            found[f"position_{axis}"] = value + distance
    return found


def _places(piece: Piece) -> dict[str, dict[int, int]]:
    """New position of each old one that is taken, along "z", "t" and "c" (channels)."""
    channels = [number // piece.samples for number in list(piece.c)[:: piece.samples]]
    return {
        axis: {old: new for new, old in enumerate(taken)}
        for axis, taken in (("z", piece.z), ("t", piece.t), ("c", channels))
    }


def _factors(piece: Piece, br: BioReader) -> tuple[float, float]:
    """Number of full-size pixels in one pixel of the piece's level, along Y and X."""
    levels = br.series[piece.series].levels
    full, here = levels[0].sizes, levels[piece.level].sizes
    return full["Y"] / here["Y"], full["X"] / here["X"]


def _step(positions: Sequence[int]) -> int:
    """Return the even distance of the positions taken, or 0 where there is none."""
    steps = {b - a for a, b in itertools.pairwise(positions)}
    return steps.pop() if len(steps) == 1 and min(steps) > 0 else 0


def _follow(new: OME, ome: OME, pieces: Sequence[Piece], br: BioReader) -> None:
    """Remove references to images that are not in the new file, and shift cropped positions."""
    kept = {image.id for image in new.images}
    _follow_containers(new, ome, kept)
    new.rois = []
    by_image = list(zip(new.images, pieces, strict=True))
    for roi in ome.rois:
        owners = [i.id for i in ome.images if any(ref.id == roi.id for ref in i.roi_refs)]
        holders = [(i, p) for i, p in by_image if i.id in owners]
        if not owners:
            new.rois.append(roi)
        elif holders:
            moved = _moved_roi(roi, holders[0][1], br)
            if moved is not None:
                new.rois.append(moved)
    names = {roi.id for roi in new.rois}
    for number, image in enumerate(new.images):
        if any(ref.id not in names for ref in image.roi_refs):
            refs = [ref for ref in image.roi_refs if ref.id in names]
            new.images[number] = image.model_copy(update={"roi_refs": refs})


def _follow_containers(new: OME, ome: OME, kept: set[str]) -> None:
    def held(refs: Sequence[Any]) -> list[Any]:
        return [ref for ref in refs if ref.id in kept]

    new.datasets = [
        dataset.model_copy(update={"image_refs": held(dataset.image_refs)})
        for dataset in ome.datasets
    ]
    new.folders = [
        folder.model_copy(update={"image_refs": held(folder.image_refs)}) for folder in ome.folders
    ]
    new.plates = []
    for plate in ome.plates:
        wells: list[model.Well] = []
        samples_kept: set[str] = set()
        for well in plate.wells:
            samples = [
                s for s in well.well_samples if s.image_ref is not None and s.image_ref.id in kept
            ]
            if samples:
                samples_kept.update(s.id for s in samples)
                wells.append(well.model_copy(update={"well_samples": samples}))
        runs = [
            run.model_copy(
                update={
                    "well_sample_refs": [r for r in run.well_sample_refs if r.id in samples_kept]
                }
            )
            for run in plate.plate_acquisitions
        ]
        if wells:
            new.plates.append(plate.model_copy(update={"wells": wells, "plate_acquisitions": runs}))


def _moved_roi(roi: model.ROI, piece: Piece, br: BioReader) -> model.ROI | None:
    """Return a region of interest in the new image's pixels; None where nothing of it is left."""
    if piece.whole:
        return roi
    from ome_types import model

    place = _places(piece)
    scale = _factors(piece, br)
    shapes = []
    for shape in roi.union:
        positions = {axis: getattr(shape, f"the_{axis}") for axis in "zct"}
        if any(n is not None and n not in place[axis] for axis, n in positions.items()):
            continue
        moved = _moved_shape(shape, piece.x[0], piece.y[0], scale)
        for axis, n in positions.items():
            setattr(moved, f"the_{axis}", None if n is None else place[axis][n])
        shapes.append(moved)
    if not shapes:
        return None
    new = roi.model_copy(deep=True)
    new.union = model.ROI(union=shapes).union
    return new


def _moved_shape(shape: Any, left: int, top: int, scale: tuple[float, float]) -> Any:
    """Move a shape by whole pixels, or by its transform where it has one or the level changes."""
    from ome_types.model import AffineTransform

    moved = shape.model_copy(deep=True)
    scale_y, scale_x = scale
    if moved.transform is not None or scale != (1.0, 1.0):
        old = moved.transform or AffineTransform(a00=1, a10=0, a01=0, a11=1, a02=0, a12=0)
        moved.transform = AffineTransform(
            a00=old.a00 / scale_x, a01=old.a01 / scale_x, a02=old.a02 / scale_x - left,
            a10=old.a10 / scale_y, a11=old.a11 / scale_y, a12=old.a12 / scale_y - top,
        )  # fmt: skip
        return moved
    for name, offset in (
        ("x", left),
        ("x1", left),
        ("x2", left),
        ("y", top),
        ("y1", top),
        ("y2", top),
    ):
        if getattr(moved, name, None) is not None:
            setattr(moved, name, getattr(moved, name) - offset)
    if getattr(moved, "points", None):
        moved.points = " ".join(
            f"{float(px) - left:g},{float(py) - top:g}"
            for px, py in (point.split(",") for point in moved.points.split())
        )
    return moved


def _annotation_id(new: OME, number: int) -> str:
    used = {annotation.id for annotation in _notes(new)}
    while f"Annotation:bfbridge:{number}" in used:
        number += 1
    return f"Annotation:bfbridge:{number}"


def _annotate_original(new: OME, values: Mapping[str, Any]) -> None:
    """Add the format's own metadata as OMEXMLService.populateOriginalMetadata does."""
    notes = _notes(new)
    if any(a.namespace == ORIGINAL_METADATA for a in notes):
        return
    used = {a.id for a in notes}
    numbers = (n for n in itertools.count() if f"Annotation:original:{n}" not in used)
    text = "".join(
        f'<XMLAnnotation ID="Annotation:original:{number}" Namespace="{ORIGINAL_METADATA}"><Value>'
        f"<OriginalMetadata><Key>{_printable(str(key))}</Key><Value>{_printable(str(value))}</Value>"
        "</OriginalMetadata></Value></XMLAnnotation>"
        for number, (key, value) in zip(numbers, values.items(), strict=False)
    )
    if text:
        # Parsed, because the representation of foreign XML in ome_types is private.
        from ome_types import from_xml

        parsed = from_xml(
            f'<OME xmlns="{OME_NAMESPACE}"><StructuredAnnotations>{text}'
            "</StructuredAnnotations></OME>"
        )
        notes.xml_annotations = [*notes.xml_annotations, *_notes(parsed).xml_annotations]


def _notes(ome: OME) -> model.StructuredAnnotations:
    """Return a document's annotations; an empty set is made where there is none."""
    if ome.structured_annotations is None:
        from ome_types.model import StructuredAnnotations

        ome.structured_annotations = StructuredAnnotations()
    return ome.structured_annotations


def _printable(text: str) -> str:
    """Remove characters that XML 1.0 forbids (section 2.2, Char), and escape the rest."""
    return escape(
        "".join(
            ch
            for ch in text
            if ch in "\t\n\r"
            or " " <= ch <= "\ud7ff"
            or "\ue000" <= ch <= "\ufffd"
            or ch > "\uffff"
        )
    )


def _retyped(new: OME, image: model.Image, scaling: Scaling) -> model.Image:
    """Set the new pixel type, and note how values came to be."""
    from ome_types import model

    pixels = image.pixels.model_copy()
    if scaling.rule != "exact" or scaling.after.kind != scaling.before.kind:
        pixels.significant_bits = None
    known = metadata.ome_pixel_type(scaling.after)
    if known is not None:
        metadata.set_pixel_type(pixels, known)
    refs = list(image.annotation_refs)
    if scaling.low is not None:
        values = {key: str(value) for key, value in scaling.describe().items()}
        note = model.MapAnnotation(
            id=_annotation_id(new, 0),
            namespace=CONVERSION_NAMESPACE,
            description="How the pixels' values were changed by a conversion.",
            value=values,
        )
        notes = _notes(new)
        notes.map_annotations = [*notes.map_annotations, note]
        refs.append(model.AnnotationRef(id=note.id))
    return image.model_copy(update={"pixels": pixels, "annotation_refs": refs})
