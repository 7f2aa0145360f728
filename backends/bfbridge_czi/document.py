"""The OME document of a CZI file, with positions and times of planes from the subblocks.

The fields are those that Bio-Formats' ZeissCZIReader fills. It is made on demand, because the
metadata of every subblock of full size are read.
"""

from __future__ import annotations

import struct
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np

from bfbridge.backend import Image, Modulo, Quantity
from bfbridge.errors import BfbridgeError
from bfbridge.ome.documents.build import (
    add,
    add_channel,
    add_length,
    add_pixels,
    add_text,
    enumeration,
    modulo_annotations,
    number,
    text_of_document,
    timestamp,
)
from bfbridge.ome.documents.xml_tree import (
    Element,
    descendants,
    first,
    first_text,
    parse_tree,
    text_of,
)
from bfbridge_czi.instrument import Instrument, experimenter, read_instrument, rois
from bfbridge_czi.layout import Scene
from bfbridge_czi.metadata import ChannelInfo, CziMetadata, StagePosition, grandchildren
from bfbridge_czi.segments import CziFile

__all__ = ["document_xml", "time_stamps"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_AHEAD: Final = 2048
# Most stamps in one attachment; each has 8 bytes.
_MOST_STAMPS: Final = 4_000_000


@dataclass(slots=True)
class _SubblockNotes:
    """The metadata of one subblock: positions in µm, times in seconds."""

    x: float | None = None
    y: float | None = None
    z: float | None = None
    time: float | None = None
    exposure: float | None = None


@dataclass(slots=True)
class _PlanePosition:
    """Position and time of one plane."""

    x: Quantity | None = None
    y: Quantity | None = None
    z: Quantity | None = None
    time: float | None = None
    exposure: float | None = None
    known: bool = field(default=False)


def document_xml(
    file: CziFile, metadata: CziMetadata, scenes: Sequence[Scene], images: Sequence[Image]
) -> str:
    """Return the OME-XML of a file.

    Parameters
    ----------
    file, metadata, scenes
        The file, its document, and its images except label and macro.
    images
        All records, those of `scenes` first.
    """
    root = metadata.root
    instrument = read_instrument(root)
    drawings = rois(root)
    single = Counter(scene.number for scene in scenes)
    plate = _plate(metadata, len(images)) if len(single) == len(scenes) else ()
    children = [*plate, experimenter(root), instrument.element]
    acquired = metadata.acquired or _first_time(file)
    stamps = time_stamps(file)
    folded: dict[Element, Mapping[str, Modulo]] = {}
    for index, image in enumerate(images):
        element = ET.Element("Image", {"ID": f"Image:{index}", "Name": image.name or ""})
        add_text(element, "AcquisitionDate", acquired)
        add(element, "ExperimenterRef", ID="Experimenter:0")
        if index < len(scenes):
            scene = scenes[index]
            known = metadata.positions if single[scene.number] == 1 else []
            position = known[scene.number] if scene.number < len(known) else None
            _add_scene(element, index, image, file, metadata, scene, instrument, position, stamps)
        else:
            add(element, "InstrumentRef", ID="Instrument:0")
            _add_plain_pixels(element, index, image, metadata)
        for roi in drawings:
            add(element, "ROIRef", ID=roi.get("ID"))
        children.append(element)
        if index < len(scenes):
            folded[element] = scenes[index].modulo
    return text_of_document([*children, *modulo_annotations(folded), *drawings])


def _add_plain_pixels(parent: Element, index: int, image: Image, metadata: CziMetadata) -> None:
    """Append the Pixels of a label or macro image."""
    pixels = _pixels(parent, index, image, metadata)
    samples = image.samples
    for position, channel in enumerate(image.channels):
        add(
            pixels, "Channel", ID=f"Channel:{index}:{position}", SamplesPerPixel=channel.samples
        ).append(ET.Element("LightPath"))
    add(pixels, "MetadataOnly")
    for position in range(image.levels[0].shape[1] // samples):
        add(pixels, "Plane", TheZ=0, TheT=0, TheC=position)


def _pixels(parent: Element, index: int, image: Image, metadata: CziMetadata) -> Element:
    # ZeissCZIReader reports significant bits of the pixel type only.
    pixels = add_pixels(parent, index, image, "XYCZT", 8 * image.dtype.itemsize)
    if metadata.time_step is not None:
        pixels.set("TimeIncrement", str(metadata.time_step))
        pixels.set("TimeIncrementUnit", "s")
    return pixels


def _add_scene(
    element: Element,
    index: int,
    image: Image,
    file: CziFile,
    metadata: CziMetadata,
    scene: Scene,
    instrument: Instrument,
    place: StagePosition | None,
    stamps: Sequence[float],
) -> None:
    """Append the elements after the experimenter to the Image element of a scene."""
    information = None if metadata.root is None else first(metadata.root, "Information")
    add_text(
        element, "Description", first_text(first(information, "Document"), "Description") or None
    )
    add(element, "InstrumentRef", ID="Instrument:0")
    if instrument.objective is not None:
        _add_objective_settings(element, instrument.objective, first(information, "Image"))
    _add_environment(element, first(information, "Environment"))
    planes = _planes(file, metadata, scene, place, stamps)
    if planes and planes[0].known:
        label = add(element, "StageLabel", Name=f"Scene position #{index}")
        for axis in "XYZ":
            add_length(label, axis, getattr(planes[0], axis.lower()))
    pixels = _pixels(element, index, image, metadata)
    settings = _detector_settings(information)
    for position, channel in enumerate(image.channels):
        info = metadata.channels[position] if position < len(metadata.channels) else None
        node = add_channel(pixels, index, position, channel)
        if info is not None:
            _add_channel_info(node, info)
        _add_detector_settings(node, instrument, settings, position, info)
        if info is not None and info.filter_set:
            add(node, "FilterSetRef", ID=info.filter_set)
        add(node, "LightPath")
    add(pixels, "MetadataOnly")
    _add_planes(pixels, planes, scene)


def _add_objective_settings(parent: Element, identifier: str, image: Element | None) -> None:
    described = first(image, "ObjectiveSettings")
    medium = first_text(described, "Medium")
    add(
        parent, "ObjectiveSettings", ID=identifier,
        CorrectionCollar=number(first_text(described, "CorrectionCollar")),
        Medium=None if medium is None else enumeration("Medium", medium),
        RefractiveIndex=number(first_text(described, "RefractiveIndex")),
    )  # fmt: skip


def _add_environment(parent: Element, described: Element | None) -> None:
    names = {"Temperature": "°C", "AirPressure": "mbar", "Humidity": None, "CO2Percent": None}
    attributes: dict[str, Any] = {}
    for name, unit in names.items():
        value = number(first_text(described, name))
        if value is not None:
            attributes[name] = value
            if unit is not None:
                attributes[f"{name}Unit"] = unit
    if attributes:
        add(parent, "ImagingEnvironment", **attributes)


def _detector_settings(information: Element | None) -> tuple[list[str], list[str]]:
    """Return identifiers and binning of the detectors, in the order of the channels."""
    image = first(information, "Image")
    nodes = grandchildren(first(image, "Dimensions"), "Channels", "Channel")
    if nodes is None:
        nodes = [] if image is None else list(descendants(image, "Channel"))
    identifiers, binnings = [], []
    for node in nodes:
        settings = first(node, "DetectorSettings")
        binning = first_text(settings, "Binning")
        if binning is not None:
            binnings.append(enumeration("Binning", binning.replace(",", "x")))
        detector = first(settings, "Detector")
        if detector is not None:
            text = "".join(detector.get("Id", "").split())
            identifiers.append(text if text.startswith("Detector:") else f"Detector:{text}")
    return identifiers, binnings


def _add_detector_settings(
    node: Element,
    instrument: Instrument,
    settings: tuple[list[str], list[str]],
    position: int,
    info: ChannelInfo | None,
) -> None:
    identifiers, binnings = settings
    attributes: dict[str, Any] = dict(instrument.settings)
    gain = None if info is None else info.gain
    if position < len(identifiers):
        attributes["ID"] = identifiers[position]
        if position < len(binnings):
            attributes["Binning"] = binnings[position]
    if attributes:
        add(node, "DetectorSettings", **attributes, Gain=gain)


def _add_channel_info(node: Element, info: ChannelInfo) -> None:
    if info.fluor is not None:
        node.set("Fluor", info.fluor)
    if info.illumination is not None:
        node.set("IlluminationType", enumeration("IlluminationType", info.illumination))
    if info.acquisition_mode is not None:
        node.set("AcquisitionMode", enumeration("AcquisitionMode", info.acquisition_mode))
    pinhole = number(info.pinhole)
    if pinhole is not None:
        add_length(node, "PinholeSize", Quantity(pinhole, "µm"))


def _add_planes(pixels: Element, planes: Sequence[_PlanePosition], scene: Scene) -> None:
    size_t, size_c, size_z = scene.sizes
    places = ((t, z, c) for t in range(size_t) for z in range(size_z) for c in range(size_c))
    for (t, z, c), plane in zip(places, planes, strict=True):
        element = add(pixels, "Plane", TheZ=z, TheC=c, TheT=t)
        if plane.time is not None:
            add_length(element, "DeltaT", Quantity(plane.time, "s"))
        if plane.exposure is not None:
            add_length(element, "ExposureTime", Quantity(plane.exposure, "s"))
        for axis in "XYZ":
            add_length(element, f"Position{axis}", getattr(plane, axis.lower()))


def _planes(
    file: CziFile,
    metadata: CziMetadata,
    scene: Scene,
    position: StagePosition | None,
    stamps: Sequence[float],
) -> list[_PlanePosition]:
    """Return every plane of a scene, channels fastest, then Z, then T."""
    size_t, size_c, size_z = scene.sizes
    tiles = scene.levels[0]
    count = size_t * size_c * size_z
    start = None if metadata.acquired is None else _seconds(metadata.acquired)
    begins = np.searchsorted(tiles.plane, np.arange(count + 1))
    planes = []
    for t in range(size_t):
        for z in range(size_z):
            for c in range(size_c):
                number_ = scene.plane(t, c, z)
                blocks = tiles.block[begins[number_] : begins[number_ + 1]].tolist()
                plane = _PlanePosition(known=bool(blocks))
                planes.append(plane)
                if not blocks:
                    continue
                notes = [_read_notes(file, block) for block in blocks]
                start = notes[0].time if start is None else start
                _place(plane, notes, file, blocks[0], position, z, metadata)
                plane.time = _time(notes[0], start, len(planes) - 1, t, count, stamps)
                info = metadata.channels[c] if c < len(metadata.channels) else None
                exposure = None if info is None else info.exposure
                plane.exposure = exposure if notes[0].exposure is None else notes[0].exposure
    return planes


def _time(
    notes: _SubblockNotes,
    start: float | None,
    plane: int,
    t: int,
    count: int,
    stamps: Sequence[float],
) -> float | None:
    if notes.time is not None and start is not None:
        return notes.time - start
    if len(stamps) == count and plane < len(stamps):
        return stamps[plane]
    return stamps[t] if t < len(stamps) else None


def _place(
    plane: _PlanePosition,
    notes: Sequence[_SubblockNotes],
    file: CziFile,
    block: int,
    position: StagePosition | None,
    z: int,
    metadata: CziMetadata,
) -> None:
    """Set the position of a plane: the centre of its tiles, otherwise the position of its scene."""
    for axis, pixel in (("x", file.blocks.x), ("y", file.blocks.y)):
        values = [value for note in notes if (value := getattr(note, axis)) is not None]
        known = None if position is None else getattr(position, axis)
        if values:
            middle = Quantity(min(values) + (max(values) - min(values)) / 2, "µm")
            setattr(plane, axis, middle)
            if position is not None:
                setattr(position, axis, middle)
        elif known is not None:
            setattr(plane, axis, known)
        else:
            setattr(plane, axis, Quantity(int(pixel[block]), "reference frame"))
    if notes[0].z is not None:
        plane.z = Quantity(notes[0].z, "µm")
    elif position is not None and position.z is not None:
        step = metadata.pixel_size.z
        microns = position.z.value * (1e6 if position.z.unit == "m" else 1)
        plane.z = position.z if step is None else Quantity(microns + z * step.value, "µm")


def _seconds(moment: datetime) -> float:
    return (moment - _EPOCH) // timedelta(milliseconds=1) / 1000


def _first_time(file: CziFile) -> datetime | None:
    time = _read_notes(file, 0).time
    return None if time is None else _EPOCH + timedelta(seconds=time // 1)


def _read_notes(file: CziFile, block: int) -> _SubblockNotes:
    """Read the metadata of a subblock; empty if it is not well-formed."""
    notes = _SubblockNotes()
    position = int(file.blocks.position[block])
    head = file.access.read_at(position, min(int(file.rooms[block]), _AHEAD))
    header = file.subblock(block, head)
    begin = header.metadata - position
    raw = bytes(head[begin : begin + header.metadata_size])
    if len(raw) < header.metadata_size:
        raw = bytes(file.access.read_at(header.metadata, header.metadata_size))
    text = raw.decode("utf-8", "replace").strip("\0 \t\r\n")
    if len(text) <= 16:
        return notes
    try:
        root = parse_tree(text, f"{file.name}: metadata of a subblock", file.limits)
    except BfbridgeError:
        # As in Bio-Formats: the pixels are valid anyway.
        return notes
    for tag in (tag for tags in root.iterfind("Tags") for tag in tags):
        if tag.tag == "AcquisitionTime":
            moment = timestamp(text_of(tag))
            notes.time = None if moment is None else _seconds(moment)
        elif tag.tag in _TAGS:
            setattr(notes, _TAGS[tag.tag], number(text_of(tag)))
    return notes


_TAGS: Final = {
    "StageXPosition": "x",
    "StageYPosition": "y",
    "FocusPosition": "z",
    "ExposureTime": "exposure",
}


def time_stamps(file: CziFile) -> list[float]:
    """Return the seconds of all time points in an attachment of a file."""
    stamps: list[float] = []
    for attachment in file.attachments:
        if attachment.name == "TimeStamps":
            data = file.attachment_data(attachment)
            raw = bytes(data.read_at(8, min(max(data.size - 8, 0), 8 * _MOST_STAMPS)))
            stamps += struct.unpack(f"<{len(raw) // 8}d", raw[: len(raw) // 8 * 8])
    return stamps


def _plate(metadata: CziMetadata, images: int) -> Iterator[Element]:
    """Yield the plate whose wells are the scenes, if there is one."""
    rows, columns = metadata.plate
    if rows < 1 or columns < 1 or not metadata.wells:
        return
    plate = ET.Element("Plate", {"ID": "Plate:0", "Rows": str(rows), "Columns": str(columns)})
    fields = len(metadata.field_names) // len(metadata.wells) if metadata.field_names else 1
    well = sample = 0
    element: Element | None = None
    for image in range(images):
        if well >= len(metadata.wells):
            break
        place = [int(part) for part in metadata.wells[well].split("-") if part.isdecimal()]
        if len(place) != 2 or min(place) < 1:
            continue
        if sample == 0 or element is None:
            element = add(plate, "Well", ID=f"Well:0:{well}", Row=place[0] - 1, Column=place[1] - 1)
        holder = add(element, "WellSample", ID=f"WellSample:0:{well}:{sample}", Index=image)
        add(holder, "ImageRef", ID=f"Image:{image}")
        sample += 1
        if sample == fields:
            sample, well = 0, well + 1
    yield plate
