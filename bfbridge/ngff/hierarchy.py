"""Positions of the images of a new store: the root, a numbered collection, or wells of a plate."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from bfbridge.backend import Extras, Quantity
from bfbridge.errors import BadArgument
from bfbridge.ngff.documents import Version, label_attributes, multiscale_attributes
from bfbridge.ome.documents.model import xml_from_model
from bfbridge.ome.extras import attach_extras
from bfbridge.ome.planes import first_position, time_step_of

if TYPE_CHECKING:
    from ome_types import OME
    from ome_types.model import Image, Plate, PlateAcquisition

    from bfbridge.backend import ImageSpec
    from bfbridge.ngff.omero import Window

__all__ = ["Places", "image_attributes", "ome_xml_of", "place_images", "placed", "time_step"]


class _Field(NamedTuple):
    """Row and column names of the well that contains an image."""

    row: str
    column: str


@dataclass(frozen=True, slots=True)
class Places:
    """The groups of a store.

    Attributes
    ----------
    groups
        Key of each image's group.
    order
        Numbers of the images except labels, in the order in which a reader counts them.
    documents
        Attributes of the groups that contain no image themselves, by key; including the root
        unless it is an image.
    """

    groups: tuple[str, ...]
    order: tuple[int, ...]
    documents: Mapping[str, Mapping[str, Any]]


def place_images(
    specs: Sequence[ImageSpec],
    ome: OME | None,
    wells: Sequence[str] | None,
    hcs: bool | None = None,
) -> Places:
    """Choose the group of each image.

    Parameters
    ----------
    specs
        All images. Masks are placed in ``labels`` of the image they belong to, or of the first
        image, under their own names; without any other image, they are the store's images.
    ome
        If it has a plate with a well for each image, the store becomes that plate.
    wells
        Name of each image's well ("B03" or "B/3"), instead of the wells in `ome`.
    hcs
        Whether the wells in `ome` make a plate: True, False, or None for images in several wells.
        Many formats store the one well in which an image was taken.

    Raises
    ------
    BadArgument
        The length of `wells` is not the number of images, or a name is not a well name.
    """
    numbers = [i for i, spec in enumerate(specs) if not spec.image.is_mask]
    if not numbers:
        return _masks_alone(specs)
    name = None
    fields: list[_Field] | None = None
    if wells is not None:
        fields = _named_wells(wells, len(numbers))
    elif hcs is not False and ome is not None and len(ome.plates) == 1:
        fields = _fields_of(ome, ome.plates[0], numbers)
        name = ome.plates[0].name
        if fields is not None and hcs is None and len(set(fields)) < 2:
            fields = None
    documents: dict[str, Mapping[str, Any]] = {}
    groups: dict[int, str]
    if fields is not None:
        groups, order, documents = _plate(numbers, fields, name)
        if wells is None and ome is not None:
            _add_acquisitions(documents, ome, groups)
    elif len(numbers) == 1:
        groups, order = {numbers[0]: ""}, tuple(numbers)
    else:
        groups = {number: str(place) for place, number in enumerate(numbers)}
        order = tuple(numbers)
        documents[""] = {"bioformats2raw.layout": 3}
        documents["OME"] = {"series": list(groups.values())}
    documents.setdefault("OME", {})
    _place_labels(specs, groups, documents)
    return Places(tuple(groups[i] for i in range(len(specs))), order, documents)


def _masks_alone(specs: Sequence[ImageSpec]) -> Places:
    """Place masks without an image: one at the root, several as a group of labels."""
    if len(specs) == 1:
        return Places(("",), (), {})
    names = _label_names(specs, range(len(specs)))
    return Places(tuple(names), (), {"": {"labels": names}})


def _place_labels(
    specs: Sequence[ImageSpec], groups: dict[int, str], documents: dict[str, Mapping[str, Any]]
) -> None:
    first = next(iter(groups.values()))
    owned: dict[str, list[int]] = {}
    for number, spec in enumerate(specs):
        if number not in groups:
            owner = groups.get(-1 if spec.image.label_of is None else spec.image.label_of, first)
            owned.setdefault(owner, []).append(number)
    for owner, numbers in owned.items():
        parent = f"{owner}/labels" if owner else "labels"
        names = _label_names(specs, numbers)
        groups.update({n: f"{parent}/{name}" for n, name in zip(numbers, names, strict=True)})
        documents[parent] = {"labels": names}


def _label_names(specs: Sequence[ImageSpec], numbers: Sequence[int]) -> list[str]:
    """Return a name for the group of each mask, with characters that every store allows."""
    names: list[str] = []
    for number in numbers:
        stored = (specs[number].image.name or "").rsplit("/", 1)[-1]
        name = re.sub(r"[^\w.-]+", "_", stored).strip("._") or str(number)
        names.append(name if name not in names else f"{name}_{number}")
    return names


def _named_wells(wells: Sequence[str], count: int) -> list[_Field]:
    if isinstance(wells, str) or len(wells) != count:
        raise BadArgument(f"wells={wells!r:.100}: give one name for each of {count} images.")
    fields = []
    for well in wells:
        match = re.fullmatch(r"([A-Za-z]{1,3})/?([0-9]{1,4})", str(well))
        if match is None:
            raise BadArgument(f"wells: {well!r} is not the name of a well, such as 'B03' or 'B/3'.")
        fields.append(_Field(match[1].upper(), match[2]))
    return fields


def _fields_of(ome: OME, plate: Plate, numbers: Sequence[int]) -> list[_Field] | None:
    """Return the well of each image; None unless each image is in exactly one well."""
    found: dict[str, _Field] = {}
    for well in plate.wells:
        field = _Field(
            _well_part(well.row, plate.row_naming_convention, letters=True),
            _well_part(well.column, plate.column_naming_convention, letters=False),
        )
        for sample in well.well_samples:
            if sample.image_ref is not None:
                if sample.image_ref.id in found:
                    return None
                found[sample.image_ref.id] = field
    wanted = [ome.images[number].id for number in numbers]
    if not wanted or any(image not in found for image in wanted):
        return None
    return [found[image] for image in wanted]


def _well_part(index: int, convention: Any, letters: bool) -> str:
    """Return the name of a row or column: A, B, ..., Z, AA or 1, 2, ... as the plate defines."""
    if convention is not None:
        letters = getattr(convention, "value", convention) == "letter"
    if not letters:
        return str(index + 1)
    text, index = "", index + 1
    while index:
        index, rest = divmod(index - 1, 26)
        text = chr(ord("A") + rest) + text
    return text


def _plate(
    numbers: Sequence[int], fields: Sequence[_Field], name: str | None
) -> tuple[dict[int, str], tuple[int, ...], dict[str, Mapping[str, Any]]]:
    """Lay out a plate: wells in the order of their first image, fields numbered within a well."""
    wells: dict[_Field, list[int]] = {}
    for number, field in zip(numbers, fields, strict=True):
        wells.setdefault(field, []).append(number)
    rows = sorted({field.row for field in wells}, key=lambda row: (len(row), row))
    columns = sorted({field.column for field in wells}, key=lambda column: (int(column), column)
                     if column.isdigit() else (0, column))  # fmt: skip
    groups: dict[int, str] = {}
    documents: dict[str, Mapping[str, Any]] = {}
    for field, members in wells.items():
        key = f"{field.row}/{field.column}"
        documents[field.row] = {}
        documents[key] = {"well": {"images": [{"path": str(i)} for i in range(len(members))]}}
        groups.update({number: f"{key}/{i}" for i, number in enumerate(members)})
    plate: dict[str, Any] = {
        "rows": [{"name": row} for row in rows],
        "columns": [{"name": column} for column in columns],
        "wells": [
            {
                "path": f"{field.row}/{field.column}",
                "rowIndex": rows.index(field.row),
                "columnIndex": columns.index(field.column),
            }
            for field in wells
        ],
        "field_count": max(map(len, wells.values())),
    }
    if name:
        plate["name"] = name
    documents[""] = {"plate": plate}
    return groups, tuple(number for members in wells.values() for number in members), documents


def _add_acquisitions(
    documents: dict[str, Mapping[str, Any]], ome: OME, groups: Mapping[int, str]
) -> None:
    """Add the acquisitions of a plate, and that of each image, if the metadata have any."""
    plate = ome.plates[0]
    runs = {
        ref.id: number
        for number, run in enumerate(plate.plate_acquisitions)
        for ref in run.well_sample_refs
    }
    of_image = {
        sample.image_ref.id: runs[sample.id]
        for well in plate.wells
        for sample in well.well_samples
        if sample.image_ref is not None and sample.id in runs
    }
    of_group = {group: of_image.get(ome.images[number].id) for number, group in groups.items()}
    if not plate.plate_acquisitions:
        return
    fields: list[Counter[str]] = [Counter() for _ in plate.plate_acquisitions]
    for group, run in of_group.items():
        if run is not None:
            well, _, field = group.rpartition("/")
            fields[run][well] += 1
            images = documents[well]["well"]["images"]
            images[int(field)]["acquisition"] = run
    documents[""]["plate"]["acquisitions"] = [
        _acquisition(number, run, max(found.values(), default=0))
        for number, (run, found) in enumerate(zip(plate.plate_acquisitions, fields, strict=True))
    ]


def _acquisition(number: int, run: PlateAcquisition, fields: int) -> dict[str, Any]:
    """Return an entry of ``plate.acquisitions``; times are seconds since 1970, as NGFF has them."""
    entry: dict[str, Any] = {"id": number}
    if run.name:
        entry["name"] = run.name
    if run.description:
        entry["description"] = run.description
    count = run.maximum_field_count or fields
    if count:
        entry["maximumfieldcount"] = count
    for key, moment in (("starttime", run.start_time), ("endtime", run.end_time)):
        # OME's times without a zone are UTC.
        if isinstance(moment, datetime):
            zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            entry[key] = max(0, int(zoned.timestamp()))
    return entry


def image_attributes(
    group: str,
    spec: ImageSpec,
    windows: Sequence[Window],
    version: Version,
    time_step: Quantity | None,
) -> dict[str, Any]:
    """Return the attributes of the group at key `group`, which contains an image or labels.

    Parameters
    ----------
    group
        Key in `Places.groups`.
    spec, windows, version, time_step
        As in `multiscale_attributes`.
    """
    attributes = multiscale_attributes(spec, windows, version, time_step)
    if spec.image.is_mask:
        attributes |= label_attributes(spec, version, "../../" if "labels/" in group else None)
    return attributes


def time_step(spec: ImageSpec, ome: OME | None, image: int) -> Quantity | None:
    """Return the time between two time points of an image; see `bfbridge.ome.planes`."""
    if spec.image.time_step is not None:
        return spec.image.time_step
    if ome is None or image >= len(ome.images):
        return None
    return time_step_of(ome.images[image].pixels)


def placed(spec: ImageSpec, ome: OME | None, image: int) -> ImageSpec:
    """Return an image with the position of its first pixel, which becomes NGFF's translation.

    Axes without a position in the image's extras get the first plane's position.
    """
    if ome is None or image >= len(ome.images):
        return spec
    origin = {**first_position(ome.images[image].pixels), **spec.extras.origin}
    return replace(spec, extras=replace(spec.extras, origin=origin))


def ome_xml_of(ome: OME, order: Sequence[int]) -> str:
    """Return the OME document of images in that order, without references to other files' pixels.

    Information in the NGFF documents is not repeated.
    """
    # What is changed is copied; `ome` shares the rest.
    new = ome.model_copy()
    new.images = [_without_pixels(ome.images[number]) for number in order]
    attach_extras(new, [Extras()] * len(new.images))
    return xml_from_model(new)


def _without_pixels(image: Image) -> Image:
    """Return a copy of an image with metadata-only Pixels."""
    from ome_types.model import MetadataOnly

    pixels = image.pixels.model_copy(
        update={
            "tiff_data_blocks": [], "bin_data_blocks": [], "metadata_only": MetadataOnly(),
        }
    )  # fmt: skip
    return image.model_copy(update={"pixels": pixels})
