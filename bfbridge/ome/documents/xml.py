"""Stream parser for the part of OME-XML that is needed to find and describe pixels.

Only Image, Pixels, Channel, TiffData and BinaryOnly are parsed, so a document of 20 MB opens in a
fraction of a second; `ome_types` parses the whole document when it is needed. Elements are
recognised by local name in any namespace: the OME schemas of 2003-FC to 2016-06 use the same names
(the table `_tables` has the older names that differ).

Document types and entities are refused, so nothing outside the document is loaded and nothing
inside it can expand.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn
from xml.parsers import expat

import numpy as np

from bfbridge.backend import Channel, PixelSize, Quantity
from bfbridge.errors import UnreadableFile, Unsupported
from bfbridge.limits import Limits, check
from bfbridge.ome.pixel_types import PIXEL_TYPES

if TYPE_CHECKING:
    pass

__all__ = [
    "DIMENSION_ORDERS",
    "PIXEL_TYPES",
    "BinaryOnly",
    "OmeDocument",
    "OmeImage",
    "TiffData",
    "document_text",
    "looks_like_ome_xml",
    "parse_ome_xml",
    "rgba_from_color",
]

DIMENSION_ORDERS: Final = ("XYZCT", "XYZTC", "XYCTZ", "XYCZT", "XYTCZ", "XYTZC")

_ROOT = re.compile(r"<(?:[A-Za-z_][\w.-]*:)?OME[\s>/]")
_PROLOGUE = 65536
_MOST = (1 << 31) - 1


class TiffData(NamedTuple):
    """One TiffData element: the positions of planes in the image directories of a file.

    Attributes
    ----------
    ifd, plane_count
        As stored, or None.
    first_z, first_c, first_t
        Position of the first plane; 0 where not stored.
    file_name, uuid
        Values of the UUID element; None for the file that contains the document.
    """

    ifd: int | None
    first_z: int
    first_c: int
    first_t: int
    plane_count: int | None
    file_name: str | None
    uuid: str | None


class BinaryOnly(NamedTuple):
    """Reference to the file with the document of a binary-only file."""

    metadata_file: str
    uuid: str | None


@dataclass(frozen=True, slots=True)
class OmeImage:
    """One Image and its Pixels.

    Attributes
    ----------
    id, name
        As stored, or None.
    dimension_order
        One of `DIMENSION_ORDERS`, fastest axis first.
    pixel_type
        A key of `PIXEL_TYPES`.
    size_x, size_y, size_z, size_c, size_t
        Sizes of the image; `size_c` counts channels x samples.
    big_endian, interleaved, significant_bits
        As stored, or None.
    channels
        Those that are stored, which may be fewer than the image has.
    samples_declared
        Whether every channel declares its samples per pixel, so that `Channel.samples` is certain.
    pixel_size
        Physical size of a pixel; sizes that are not positive and finite are ignored.
    tiff_data
        In document order.
    time_step
        Time between two time points, if it is positive and finite.
    """

    id: str | None
    name: str | None
    dimension_order: str
    pixel_type: str
    size_x: int
    size_y: int
    size_z: int
    size_c: int
    size_t: int
    big_endian: bool | None
    interleaved: bool | None
    significant_bits: int | None
    channels: tuple[Channel, ...]
    samples_declared: bool
    pixel_size: PixelSize
    tiff_data: tuple[TiffData, ...]
    time_step: Quantity | None = None

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Dtype of the values, in native byte order."""
        return PIXEL_TYPES[self.pixel_type]


@dataclass(frozen=True, slots=True)
class OmeDocument:
    """Result of `parse_ome_xml`.

    Attributes
    ----------
    images
        In document order; empty for a binary-only document.
    uuid
        UUID of the document ("urn:uuid:..."), or None.
    binary_only
        Reference to the file with the document, or None.
    """

    images: tuple[OmeImage, ...]
    uuid: str | None
    binary_only: BinaryOnly | None


# An element without content whose attribute values contain no markup: nothing else matches.
_PLANE = re.compile(r"<(?:\w+:)?Plane\s[^<>]*/>")
_LARGE = 1 << 20


def looks_like_ome_xml(text: str | bytes) -> bool:
    """Return whether a text is XML whose root may be OME.

    Only the first 64 KiB are checked; a file that passes can still fail to parse.
    """
    head = text[:_PROLOGUE]
    if isinstance(head, bytes):
        head = head.decode("utf-8", "replace")
    head = head.lstrip("\ufeff \t\r\n")
    return head.startswith("<") and _ROOT.search(head) is not None


def rgba_from_color(color: int) -> tuple[int, int, int, int]:
    """Return (red, green, blue, alpha) of an OME Color, a signed 32-bit integer in RGBA order."""
    value = color & 0xFFFFFFFF
    return value >> 24, value >> 16 & 255, value >> 8 & 255, value & 255


def parse_ome_xml(xml: bytes | str, where: str, limits: Limits) -> OmeDocument:
    """Parse the parts of an OME-XML document that are needed to read pixels.

    Parameters
    ----------
    xml
        The document; bytes are decoded as UTF-8, or as Latin-1 if they are not valid UTF-8.
    where
        File that contains the document, for messages.
    limits
        Its `xml_bytes`, `xml_depth`, `elements`, `images`, `channels` and `planes` limit the
        document. They are checked before or during parsing.

    Raises
    ------
    UnreadableFile
        The document is not well-formed XML (then ``__cause__`` is an ExpatError), has a document
        type or entities, or has no size, order or type that is required for pixels.
    LimitExceeded
        It is longer or deeper than the limits allow.
    Unsupported
        An Image has several Pixels, as only schemas before 2008 allow.
    """
    # The text is decoded, so the parser gets UTF-8, whatever the declaration contains.
    text = document_text(xml, where, limits)
    # Positions and times of planes are most of a large document, and are not needed for pixels.
    slim = _PLANE.sub("", text) if len(text) > _LARGE else text
    return _Parser(where, limits).parse(slim.strip("\ufeff\0 \t\r\n"))


def document_text(xml: bytes | str, where: str, limits: Limits) -> str:
    """Return an OME-XML document as text, after comparing its size with the limits.

    Elements are counted by their markup, which takes a fraction of a second instead of a minute for
    parsing. Comments and similar markup are counted too; there are few of them.

    Parameters
    ----------
    xml, where
        As in `parse_ome_xml`.
    limits
        Its `xml_bytes` and `elements` are checked.

    Raises
    ------
    LimitExceeded
        It is longer, or has more elements, than the limits allow.
    """
    check(len(xml), limits.xml_bytes, "OME-XML length in bytes", where)
    if isinstance(xml, bytes):
        try:
            text = xml.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = xml.decode("latin-1")
    else:
        text = xml
    elements = text.count("<") - text.count("</")
    check(elements, limits.elements, "number of OME-XML elements", where)
    return text


@dataclass(slots=True)
class _Building:
    """State of one Image while its element is open."""

    attributes: dict[str, str]
    pixels: dict[str, str] | None = None
    channels: list[Channel] = field(default_factory=list)
    samples_declared: bool = True
    tiff_data: list[TiffData] = field(default_factory=list)


_Start = Callable[[dict[str, str]], None]


class _Parser:
    """Event handlers for one document. Depth 1 is the root."""

    def __init__(self, where: str, limits: Limits) -> None:
        self._where = where
        self._limits = limits
        self._channels = self._planes = 0
        self._images: list[OmeImage] = []
        self._uuid: str | None = None
        self._binary_only: BinaryOnly | None = None
        self._open: _Building | None = None
        self._text: list[str] = []
        self._file_name: str | None = None
        self._in_tiff_data = False
        # Elements to handle, by depth: OME > Image > Pixels > Channel, TiffData > UUID.
        # LogicalChannel is the Channel of the schemas before 2009.
        self._tables: tuple[dict[str, _Start], ...] = (
            {},
            {"OME": self._ome},
            {"Image": self._image, "BinaryOnly": self._binary},
            {"Pixels": self._pixels, "LogicalChannel": self._logical_channel},
            {"Channel": self._channel, "TiffData": self._tiff_data},
            {"UUID": self._uuid_start},
        )

    def parse(self, text: str) -> OmeDocument:
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler, parser.EndElementHandler = self._handlers()
        parser.StartDoctypeDeclHandler = self._refuse
        parser.EntityDeclHandler = self._refuse
        parser.ExternalEntityRefHandler = self._refuse
        self._parser = parser
        try:
            parser.Parse(text, True)
        except expat.ExpatError as error:
            raise UnreadableFile(
                f"{self._where}: the OME-XML is not well formed ({error})."
            ) from error
        except UnicodeEncodeError as error:
            raise UnreadableFile(
                f"{self._where}: the OME-XML contains characters that XML does not allow."
            ) from error
        finally:
            # The parser has bound methods of this object: break the reference cycle.
            parser.StartElementHandler = parser.EndElementHandler = None
            parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = None
            parser.ExternalEntityRefHandler = parser.CharacterDataHandler = None
            del self._parser
            self._tables = ()
        return OmeDocument(tuple(self._images), self._uuid, self._binary_only)

    def _refuse(self, *_: object) -> NoReturn:
        raise UnreadableFile(
            f"{self._where}: the OME-XML has a document type or entity declaration. OME-XML "
            "never needs one, and it can be an attack; the metadata are not read."
        )

    def _handlers(self) -> tuple[Callable[[str, dict[str, str]], None], Callable[[str], None]]:
        # Closures, because they run twice for each of about 100 000 elements: attributes are
        # slower.
        depth = skip = 0
        limit, tables, deepest = self._limits.xml_depth, self._tables, len(self._tables) - 1

        def start(name: str, attributes: dict[str, str]) -> None:
            nonlocal depth, skip
            depth += 1
            if depth > limit:
                check(depth, limit, "OME-XML nesting depth", self._where)
            if skip or depth > deepest:
                return
            if ":" in name:
                name = name.rpartition(":")[2]
            handler = tables[depth].get(name)
            if handler is not None:
                handler(attributes)
            else:
                # Plane, ROI, annotations: their content is not needed.
                skip = depth

        def end(name: str) -> None:
            del name
            nonlocal depth, skip
            if skip:
                if depth == skip:
                    skip = 0
            elif depth == deepest:
                self._uuid_end()
            elif depth == 2 and self._open is not None:
                self._image_end(self._open)
            depth -= 1

        return start, end

    def _ome(self, attributes: dict[str, str]) -> None:
        self._uuid = attributes.get("UUID")

    def _binary(self, attributes: dict[str, str]) -> None:
        name = attributes.get("MetadataFile")
        if not name:
            raise UnreadableFile(
                f"{self._where}: its BinaryOnly element does not name a MetadataFile."
            )
        self._binary_only = BinaryOnly(name, attributes.get("UUID"))

    def _image(self, attributes: dict[str, str]) -> None:
        check(len(self._images) + 1, self._limits.images, "number of images", self._where)
        self._open = _Building(attributes)

    def _pixels(self, attributes: dict[str, str]) -> None:
        building = self._building()
        if building.pixels is not None:
            raise Unsupported("an OME Image with several Pixels, as schemas before 2008 had")
        building.pixels = attributes

    def _channel(self, attributes: dict[str, str]) -> None:
        building = self._building()
        self._count_channel()
        self._in_tiff_data = False
        samples = attributes.get("SamplesPerPixel")
        if samples is None:
            building.samples_declared = False
        color = _whole(attributes.get("Color"))
        building.channels.append(
            Channel(
                name=attributes.get("Name"),
                color=None if color is None else rgba_from_color(color),
                emission=_quantity(attributes, "EmissionWavelength", "nm"),
                excitation=_quantity(attributes, "ExcitationWavelength", "nm"),
                samples=1 if samples is None else self._positive(samples, "SamplesPerPixel"),
            )
        )

    def _logical_channel(self, attributes: dict[str, str]) -> None:
        building = self._building()
        self._count_channel()
        samples = attributes.get("SamplesPerPixel")
        if samples is None:
            building.samples_declared = False
        building.channels.append(
            Channel(
                name=attributes.get("Name"),
                emission=_quantity(attributes, "EmWave", "nm"),
                excitation=_quantity(attributes, "ExWave", "nm"),
                samples=1 if samples is None else self._positive(samples, "SamplesPerPixel"),
            )
        )

    def _count_channel(self) -> None:
        self._channels += 1
        check(self._channels, self._limits.channels, "number of channels", self._where)

    def _tiff_data(self, attributes: dict[str, str]) -> None:
        # Inline and in one try block: a time series has 100 000 of these.
        get = attributes.get
        ifd = get("IFD")
        count = get("PlaneCount", get("NumPlanes"))
        try:
            data = TiffData(
                None if ifd is None else int(ifd),
                int(get("FirstZ", 0)),
                int(get("FirstC", 0)),
                int(get("FirstT", 0)),
                None if count is None else int(count),
                None,
                None,
            )
        except ValueError:
            self._bad("TiffData", str(attributes), "whole numbers")
        if (
            min(data[1:4]) < 0
            or max(data[1:4]) > _MOST
            or not (0 <= (data.ifd or 0) <= _MOST and 0 <= (data.plane_count or 0) <= _MOST)
        ):
            self._bad("TiffData", str(attributes), f"numbers from 0 to {_MOST}")
        # Planes are counted each time that they are mapped, because mapping takes time.
        self._planes += data.plane_count or 1
        if self._planes > self._limits.planes:
            check(self._planes, self._limits.planes, "number of planes mapped", self._where)
        self._building().tiff_data.append(data)
        self._in_tiff_data = True

    def _uuid_start(self, attributes: dict[str, str]) -> None:
        if not self._in_tiff_data:
            # A UUID of another element at this depth, such as an extension of a Channel.
            self._file_name = None
            return
        self._file_name = attributes.get("FileName")
        self._text.clear()
        self._parser.CharacterDataHandler = self._text.append

    def _uuid_end(self) -> None:
        self._parser.CharacterDataHandler = None
        if not self._in_tiff_data:
            return
        data = self._building().tiff_data
        uuid = "".join(self._text).strip() or None
        data[-1] = TiffData(*data[-1][:5], self._file_name, uuid)

    def _image_end(self, building: _Building) -> None:
        self._open = None
        pixels = building.pixels
        if pixels is None:
            # An Image of metadata only has no pixels to read, and is not an image of the file.
            return
        order = self._required(pixels, "DimensionOrder").upper()
        if order not in DIMENSION_ORDERS:
            self._bad("DimensionOrder", order, f"one of {', '.join(DIMENSION_ORDERS)}")
        kind = (pixels.get("Type") or self._required(pixels, "PixelType")).lower()
        if kind not in PIXEL_TYPES:
            self._bad("Type", kind, f"one of {', '.join(PIXEL_TYPES)}")
        x, y, z, c, t = (
            self._positive(self._required(pixels, f"Size{axis}"), f"Size{axis}") for axis in "XYZCT"
        )
        bits = _whole(pixels.get("SignificantBits"))
        physical = [_quantity(pixels, f"PhysicalSize{axis}", "µm") for axis in "XYZ"]
        self._images.append(
            OmeImage(
                building.attributes.get("ID"),
                building.attributes.get("Name"),
                order,
                kind,
                x,
                y,
                z,
                c,
                t,
                _boolean(pixels.get("BigEndian")),
                _boolean(pixels.get("Interleaved")),
                bits if bits is not None and 0 < bits <= _MOST else None,
                tuple(building.channels),
                building.samples_declared,
                PixelSize(*physical),
                tuple(building.tiff_data),
                _quantity(pixels, "TimeIncrement", "s"),
            )
        )

    def _building(self) -> _Building:
        if self._open is None:
            raise UnreadableFile(f"{self._where}: the OME-XML has Pixels outside an Image.")
        return self._open

    def _place(self) -> str:
        return f"{self._where}: image {len(self._images)} of the OME-XML"

    def _required(self, attributes: dict[str, str], name: str) -> str:
        value = attributes.get(name)
        if value is None:
            raise UnreadableFile(f"{self._place()} has no Pixels/@{name}, which is required.")
        return value

    def _bad(self, name: str, value: str, wanted: str) -> NoReturn:
        raise UnreadableFile(f"{self._place()}: {name}={value[:40]!r} should be {wanted}.")

    def _int(self, value: str, name: str) -> int:
        try:
            # Longer than any 64-bit number: refuse it before int() takes quadratic time.
            return int(value) if len(value) <= 40 else self._bad(name, value, "a whole number")
        except ValueError:
            self._bad(name, value, "a whole number")

    def _natural(self, value: str, name: str) -> int:
        number = self._int(value, name)
        if not 0 <= number <= _MOST:
            self._bad(name, value, f"a whole number from 0 to {_MOST}")
        return number

    def _positive(self, value: str, name: str) -> int:
        number = self._natural(value, name)
        if number == 0:
            self._bad(name, value, "above 0")
        return number


def _whole(text: str | None) -> int | None:
    """Return a whole number, or None if it is absent or not valid; pixels do not need it."""
    try:
        # Longer than any 64-bit number: int() would take quadratic time.
        return int(text) if text is not None and len(text) <= 40 else None
    except ValueError:
        return None


def _quantity(attributes: dict[str, str], name: str, unit: str) -> Quantity | None:
    """Return a positive, finite number with its unit, or None."""
    text = attributes.get(name)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    if not (math.isfinite(value) and value > 0):
        return None
    return Quantity(value, attributes.get(f"{name}Unit", unit))


def _boolean(text: str | None) -> bool | None:
    """Return an xsd:boolean, or None if it is absent or not valid."""
    return {"true": True, "1": True, "false": False, "0": False}.get((text or "").strip().lower())
