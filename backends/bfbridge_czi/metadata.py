"""The metadata of images in a CZI file's XML: names, channels, pixel sizes, positions.

The mapping of elements to fields follows Bio-Formats' ZeissCZIReader. Where that fails because of a
missing element or an invalid number, the field is omitted here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from bfbridge.backend import Channel, PixelSize, Quantity
from bfbridge.errors import LimitExceeded
from bfbridge.limits import Limits, check
from bfbridge.ome.documents.build import enumeration, number, timestamp, wavelength
from bfbridge.ome.documents.xml_tree import Element, descendants, first, first_text, text_of

__all__ = [
    "ChannelInfo",
    "CziMetadata",
    "StagePosition",
    "flattened",
    "grandchildren",
    "original_entries",
    "read_metadata",
]

_MICRONS: Final = 1_000_000
_MOST_FIELDS: Final = 1_000_000


@dataclass(slots=True)
class ChannelInfo:
    """The description of one channel in the document, as text; None for missing values."""

    name: str | None = None
    color: str | None = None
    emission: str | None = None
    excitation: str | None = None
    pinhole: str | None = None
    illumination: str | None = None
    acquisition_mode: str | None = None
    fluor: str | None = None
    filter_set: str | None = None
    exposure: float | None = None
    gain: float | None = None


@dataclass(slots=True)
class StagePosition:
    """The stage position of a scene."""

    x: Quantity | None = None
    y: Quantity | None = None
    z: Quantity | None = None


@dataclass(slots=True)
class CziMetadata:
    """The metadata of a document.

    Attributes
    ----------
    root
        The document's Metadata element, or None.
    channels
        By number; there may be more or fewer than channels of the image.
    pixel_size
        Pixel size of every image.
    bits
        Significant bits of each value, or None.
    acquired
        Acquisition date, or None.
    time_step
        Seconds between time points, or None.
    positions
        Positions of the scenes; empty if the document has no experiment.
    image_names, field_names, wells
        Names and wells of the scenes, from the layout of a plate or sample holder.
    plate
        Rows and columns of the plate; 0 if there is none.
    """

    root: Element | None = None
    channels: list[ChannelInfo] = field(default_factory=list)
    pixel_size: PixelSize = field(default_factory=PixelSize)
    bits: int | None = None
    acquired: datetime | None = None
    time_step: float | None = None
    positions: list[StagePosition] = field(default_factory=list)
    image_names: list[str] = field(default_factory=list)
    field_names: list[str] = field(default_factory=list)
    wells: list[str] = field(default_factory=list)
    plate: tuple[int, int] = (0, 0)

    def name_of(self, scene: int, scenes: int, images: int) -> str:
        """Return the name of an image.

        Parameters
        ----------
        scene, scenes
            Number of the scene, and number of scenes.
        images
            Number of images of the file, including label and macro.
        """
        if scenes == 1:
            return self.image_names[0] if len(self.image_names) == 1 else ""
        if scene >= len(self.image_names):
            return f"Scene #{scene + 1:0{len(str(images))}d}"
        name = self.image_names[scene]
        if scene < len(self.field_names) and self.field_names[scene] != name:
            name += f" {self.field_names[scene]}"
        return name

    def channel(self, position: int, samples: int) -> Channel:
        """Return the record of a channel."""
        if position >= len(self.channels):
            return Channel(samples=samples)
        info = self.channels[position]
        return Channel(
            name=info.name,
            color=None if samples > 1 else color_of(info.color),
            emission=wavelength(number(info.emission)),
            excitation=wavelength(number(info.excitation)),
            samples=samples,
        )


def color_of(text: str | None) -> tuple[int, int, int, int] | None:
    """Read a colour "#AARRGGBB" or "#RRGGBB" as red, green, blue and 255."""
    if text is None:
        return None
    digits = text.replace("#", "")
    if len(digits) > 6:
        digits = digits[2:8]
    try:
        value = int(digits, 16)
    except ValueError:
        return None
    return value >> 16 & 255, value >> 8 & 255, value & 255, 255


def grandchildren(root: Element | None, parent: str, name: str) -> list[Element] | None:
    """Return all elements `name` inside the first `parent`; None if there is no `parent`."""
    found = first(root, parent)
    return None if found is None else list(descendants(found, name))


def read_metadata(document: Element | None, places: int) -> CziMetadata:
    """Read a document.

    Parameters
    ----------
    document
        Its root element, or None for a file without metadata.
    places
        Maximum number of positions: images and lower levels.
    """
    metadata = CziMetadata()
    root = None if document is None else next(iter(document), None)
    if root is None:
        return metadata
    metadata.root = root
    _read_experiment(first(root, "Experiment"), metadata, places)
    _read_image(first(first(root, "Information"), "Image"), metadata)
    metadata.pixel_size = _pixel_size(first(root, "Scaling"))
    for setting in descendants(root, "DisplaySetting"):
        _read_display(setting, metadata)
    return metadata


def _grown(channels: list[ChannelInfo], position: int) -> ChannelInfo:
    while len(channels) <= position:
        channels.append(ChannelInfo())
    return channels[position]


# ---- experiment: positions, plate, exposure


def _read_experiment(experiment: Element | None, metadata: CziMetadata, places: int) -> None:
    if experiment is None:
        return
    metadata.positions = [StagePosition() for _ in range(places)]
    block = first(first(experiment, "ExperimentBlocks"), "AcquisitionBlock")
    groups = grandchildren(first(block, "TilesSetup"), "PositionGroups", "PositionGroup")
    if groups is not None:
        _read_groups(groups, metadata.positions)
    else:
        _read_regions(first(first(block, "RegionsSetup"), "SampleHolder"), metadata)
    multi_track = first(block, "MultiTrackSetup")
    if multi_track is None:
        return
    for position, track in enumerate(descendants(multi_track, "Track")):
        channel = first(track, "Channel")
        info = _grown(metadata.channels, position)
        info.exposure = _or(number(first_text(channel, "ExposureTime")), info.exposure)
        info.gain = _or(number(first_text(channel, "EMGain")), info.gain)


def _or(value: float | None, other: float | None) -> float | None:
    return other if value is None else value


def _read_groups(groups: list[Element], positions: list[StagePosition]) -> None:
    for index, group in enumerate(groups):
        place = first(group, "Position")
        across, down = _whole(first_text(group, "TilesX")), _whole(first_text(group, "TilesY"))
        if place is None or across is None or down is None:
            continue
        x, y, z = (_quantity(place.get(axis), "m") for axis in "XYZ")
        if len(groups) == len(positions):
            wanted = range(index, index + 1) if across * down else range(0)
        else:
            wanted = range(index * across * down, (index + 1) * across * down)
        for number_ in range(max(wanted.start, 0), min(wanted.stop, len(positions))):
            positions[number_] = StagePosition(x, y, z)


def _read_regions(holder: Element | None, metadata: CziMetadata) -> None:
    if holder is None:
        return
    template = first(holder, "Template")
    if template is not None:
        rows, columns = (_whole(first_text(template, f"Shape{n}")) for n in ("Rows", "Columns"))
        metadata.plate = (rows or 0, columns or 0)
        wells = list(descendants(holder, "SingleTileRegionArray"))
        for well in wells or descendants(holder, "TileRegion"):
            shape = first_text(well, "TemplateShapeId")
            if shape:
                metadata.wells.append(shape)
            fields = sum(1 for _ in descendants(well, "SingleTileRegion"))
            metadata.image_names += [well.get("Name", "")] * max(fields, 1)
    position = 0
    for array in descendants(holder, "SingleTileRegionArray"):
        for region in descendants(array, "SingleTileRegion"):
            if position < len(metadata.positions):
                x, y, z = (_quantity(first_text(region, axis), "µm") for axis in "XYZ")
                metadata.positions[position] = StagePosition(x, y, z)
            metadata.field_names.append(region.get("Name", ""))
            position += 1
        if position > _MOST_FIELDS:
            # Only if arrays are nested: each region then counts for every array.
            raise LimitExceeded(
                f"the sample holder of the CZI file has more than {_MOST_FIELDS:,} fields"
            )


def _whole(text: str | None) -> int | None:
    try:
        return int(text.strip()) if text and len(text) < 40 else None
    except ValueError:
        return None


def _quantity(text: str | None, unit: str) -> Quantity | None:
    value = number(text)
    return None if value is None else Quantity(value, unit)


# ---- information: scenes, channels


def _read_image(image: Element | None, metadata: CziMetadata) -> None:
    if image is None:
        return
    metadata.bits = _whole(first_text(image, "ComponentBitCount"))
    metadata.acquired = timestamp(first_text(image, "AcquisitionDateAndTime"))
    dimensions = first(image, "Dimensions")
    interval = first(first(first(dimensions, "T"), "Positions"), "Interval")
    metadata.time_step = number(first_text(interval, "Increment"))
    scenes = first(dimensions, "S")
    if scenes is not None:
        _read_scenes(scenes, metadata)
    nodes = grandchildren(dimensions, "Channels", "Channel")
    if nodes is None:
        nodes = list(descendants(image, "Channel"))
    for position, node in enumerate(nodes):
        info = _grown(metadata.channels, position)
        info.name = node.get("Name", "")
        info.emission = first_text(node, "EmissionWavelength")
        info.excitation = first_text(node, "ExcitationWavelength")
        info.pinhole = first_text(node, "PinholeSize")
        info.illumination = _or_text(first_text(node, "IlluminationType"), info.illumination)
        info.acquisition_mode = _or_text(first_text(node, "AcquisitionMode"), info.acquisition_mode)
        filter_set = first(node, "FilterSetRef")
        if filter_set is not None:
            info.filter_set = filter_set.get("Id", "")


def _or_text(text: str | None, other: str | None) -> str | None:
    return other if text is None else text


def _read_scenes(scenes: Element, metadata: CziMetadata) -> None:
    is_plate = bool(metadata.wells)
    if is_plate:
        metadata.wells, metadata.field_names, metadata.image_names = [], [], []
    following = 0
    positions = metadata.positions
    # Each value once, in order of occurrence.
    wells: dict[str, None] = {}
    for scene in descendants(scenes, "Scene"):
        places = list(descendants(scene, "Position"))
        for place in places:
            # Only values that the experiment does not define are set.
            if following < len(positions) and positions[following].x is None:
                x, y, z = (_quantity(place.get(axis), "µm") for axis in "XYZ")
                positions[following] = StagePosition(x, y, z)
                following += 1
        if not places:
            # Tiles are stitched: the position is the centre of the scene.
            center = first_text(scene, "CenterPosition")
            if center is not None and following < len(positions):
                middle = [*center.split(","), ""]
                positions[following].x = _quantity(middle[0], "µm")
                positions[following].y = _quantity(middle[1], "µm")
            following += 1
        if is_plate:
            for shape in descendants(scene, "Shape"):
                wells[shape.get("Id", "")] = None
                metadata.image_names.append(shape.get("Name", ""))
                metadata.field_names.append(scene.get("Name", ""))
    if is_plate:
        metadata.wells = list(wells)


# ---- scaling and display


def _pixel_size(scaling: Element | None) -> PixelSize:
    sizes: dict[str, Quantity] = {}
    for distance in grandchildren(scaling, "Items", "Distance") or ():
        value = number(first_text(distance, "Value"))
        if value is not None and value * _MICRONS > 0:
            sizes[distance.get("Id", "")] = Quantity(value * _MICRONS, "µm")
    return PixelSize(sizes.get("X"), sizes.get("Y"), sizes.get("Z"))


def _read_display(setting: Element, metadata: CziMetadata) -> None:
    for position, node in enumerate(grandchildren(setting, "Channels", "Channel") or ()):
        info = _grown(metadata.channels, position)
        color = first_text(node, "Color")
        info.color = first_text(node, "OriginalColor") if color is None else color
        info.fluor = _or_text(first_text(node, "DyeName"), info.fluor)
        info.name = node.get("Name", "")
        info.emission = _or_text(first_text(node, "DyeMaxEmission"), info.emission)
        info.excitation = _or_text(first_text(node, "DyeMaxExcitation"), info.excitation)
        if enumeration("IlluminationType", info.illumination) == "Other":
            info.illumination = _or_text(first_text(node, "IlluminationType"), info.illumination)


def original_entries(root: Element, where: str, limits: Limits) -> dict[str, str]:
    """Return every text and attribute of a document under its path, with Bio-Formats' names.

    The path omits elements that only group others ("Channels"); values that occur several times
    are numbered.

    Parameters
    ----------
    root
        Root element of the document.
    where
        The file, for messages.
    limits
        Its `xml_bytes` limits the total length of keys and values, which can be much longer than
        the document: each key is a path, and an element contains the texts of its descendants.

    Raises
    ------
    LimitExceeded
        They are longer than the limit.
    """
    lists: dict[str, list[str]] = {}
    length = 0
    for key, value in _entries(root):
        length += len(key) + len(value)
        check(length, limits.xml_bytes, "length of all entries of the metadata", where)
        if key.startswith("DisplaySetting"):
            lists[key] = [value]
        else:
            lists.setdefault(key, []).append(value)
    return flattened(lists)


def flattened(lists: Mapping[str, list[Any]]) -> dict[str, Any]:
    """Number the values of keys with several values, as FormatReader.updateMetadataLists does."""
    found: dict[str, Any] = {}
    for key, values in lists.items():
        if len(values) == 1:
            found[key] = values[0]
            continue
        digits = len(str(len(values)))
        for index, value in enumerate(values, 1):
            found[f"{key} #{index:0{digits}d}"] = value
    return found


def _entries(root: Element) -> Iterator[tuple[str, str]]:
    stack: list[tuple[Element, tuple[str, ...]]] = [(root, (root.tag,))]
    while stack:
        element, names = stack.pop()
        key = "|".join(
            name
            for name in names
            if name != "Metadata" and (not name.endswith("s") or name == element.tag)
        )
        # As DOM counts children: a text, or one element without surrounding white space.
        nodes = len(element) + bool(element.text) + sum(bool(child.tail) for child in element)
        if nodes == 1 and key:
            yield key, text_of(element)
        for name, value in element.attrib.items():
            yield f"{key}|{name}" if key else name, value
        stack += [(child, (*names, child.tag)) for child in reversed(element)]
