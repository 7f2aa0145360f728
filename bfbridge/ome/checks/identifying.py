"""Which OME metadata identify nobody: a list of what is kept, to clean documents and to check them.

Everything that is not in `KEPT` identifies or may identify a person, a sample, a place or an
instrument: names, dates, serial numbers, comments, annotations, paths, and elements that are not
known here. `cleaned_document` makes a document of what is in the list, and `check_identifying`
compares the text of a document with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final
from xml.parsers import expat

from bfbridge.backend.findings import Finding
from bfbridge.ome.roles import NAMESPACE as ROLES
from bfbridge.ome.units import LENGTHS, NOT_LENGTHS, TIMES

if TYPE_CHECKING:
    from ome_types import OME, model

    from bfbridge.backend import Image

__all__ = [
    "CLEAN",
    "NEUTRAL_NAME",
    "check_identifying",
    "cleaned_document",
    "is_channel_name",
    "neutral_names",
    "note_of_names",
]

CLEAN: Final = "Make a new file with `bfbridge deidentify`."
NEUTRAL_NAME: Final = r"(Image|Labels|Label|Macro|Thumbnail)[ _]\d+"
"""The names that images get, as a regular expression; in names of groups with an underscore."""

Test = Callable[[str], Any]

_SCHEMA: Final = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
_INSTANCE: Final = "http://www.w3.org/2001/XMLSchema-instance"
_ID: Final = r"(Image|Pixels|Channel|Instrument|Objective)(:\d+)+|Annotation:bfbridge:role:\d+"
_UUID: Final = r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_MOST_NAME: Final = 64
# Parts of a channel's name that point to a path, an address, a date, or a number of a record.
_SUSPICIOUS: Final = re.compile(
    r"[/\\@\n\r\t]|\d{6}|\d{1,4}[-.]\d{1,2}[-.]\d{1,4}|\d{1,2}:\d{2}|[^\W\d]+,\s*[^\W\d]+|[\^=]"
)
_PIXEL_FIELDS: Final = (
    "dimension_order", "type", "significant_bits", "interleaved", "big_endian",
    "size_x", "size_y", "size_z", "size_c", "size_t", "physical_size_x", "physical_size_x_unit",
    "physical_size_y", "physical_size_y_unit", "physical_size_z", "physical_size_z_unit",
    "time_increment", "time_increment_unit",
)  # fmt: skip
_CHANNEL_FIELDS: Final = (
    "samples_per_pixel", "color", "emission_wavelength", "emission_wavelength_unit",
    "excitation_wavelength", "excitation_wavelength_unit",
)  # fmt: skip
_OBJECTIVE_FIELDS: Final = (
    "nominal_magnification", "calibrated_magnification", "lens_na", "immersion", "correction",
)  # fmt: skip
_PLANE_FIELDS: Final = (
    "the_z", "the_c", "the_t", "position_x", "position_x_unit", "position_y", "position_y_unit",
    "position_z", "position_z_unit",
)  # fmt: skip


def is_channel_name(text: str) -> bool:
    """Whether a text may be kept as the name of a channel.

    Names are kept because images are useless without them. Texts with a date, a path, an address, a
    number of six or more digits or "family name, given name" are not, nor are long ones.
    """
    return len(text) <= _MOST_NAME and text.isprintable() and not _SUSPICIOUS.search(text)


def neutral_names(images: Sequence[Image]) -> list[str]:
    """Return a name without meaning for each image: its role and number."""
    names = []
    for number, image in enumerate(images):
        kind = "Labels" if image.is_mask else image.role.capitalize()
        names.append(f"{kind} {number}")
    return names


# ---- cleaning


def cleaned_document(
    ome: OME,
    numbers: Sequence[int],
    names: Sequence[str],
    *,
    positions: bool = False,
    channel_names: bool = True,
) -> OME:
    """Return a new document with the kept metadata of some images of another.

    Parameters
    ----------
    ome
        The document of the source, which is not changed.
    numbers
        Numbers of the images in `ome`.
    names
        Their new names.
    positions
        Whether the positions of planes are kept.
    channel_names
        Whether names of channels are kept, see `is_channel_name`.
    """
    from ome_types import OME, model

    known = {lens.id: lens for instrument in ome.instruments for lens in instrument.objectives}
    used: dict[str, model.Objective] = {}
    images = []
    for place, (number, name) in enumerate(zip(numbers, names, strict=True)):
        old = ome.images[number]
        image = model.Image(
            id=f"Image:{place}", name=name,
            pixels=_pixels(old.pixels, place, positions, channel_names),
        )  # fmt: skip
        settings = old.objective_settings
        lens = None if settings is None else known.get(settings.id)
        if lens is not None:
            if lens.id not in used:
                taken = _fields(lens, _OBJECTIVE_FIELDS)
                used[lens.id] = model.Objective(id=f"Objective:0:{len(used)}", **taken)
            image.instrument_ref = model.InstrumentRef(id="Instrument:0")
            image.objective_settings = model.ObjectiveSettings(id=used[lens.id].id)
        images.append(image)
    lenses = list(used.values())
    instruments = [model.Instrument(id="Instrument:0", objectives=lenses)] if lenses else []
    return OME(creator="bfbridge", instruments=instruments, images=images)


def _pixels(old: model.Pixels, place: int, positions: bool, channel_names: bool) -> model.Pixels:
    from ome_types import model

    channels = []
    for number, channel in enumerate(old.channels):
        taken = _fields(channel, _CHANNEL_FIELDS)
        if channel_names and channel.name and is_channel_name(channel.name):
            taken["name"] = channel.name
        channels.append(model.Channel(id=f"Channel:{place}:{number}", **taken))
    planes = [
        model.Plane(**_fields(plane, _PLANE_FIELDS)) for plane in (old.planes if positions else ())
    ]
    return model.Pixels(
        id=f"Pixels:{place}", channels=channels, planes=planes,
        metadata_only=model.MetadataOnly(), **_fields(old, _PIXEL_FIELDS),
    )  # fmt: skip


def _fields(element: Any, names: Sequence[str]) -> dict[str, Any]:
    """Return the fields of an element that are set, as arguments for a new one."""
    return {
        name: value
        for name in names
        if name in element.model_fields_set and (value := getattr(element, name)) is not None
    }


# ---- checking


def _like(pattern: str) -> Test:
    return re.compile(pattern).fullmatch


def _one_of(*words: str) -> Test:
    return frozenset(words).__contains__


@cache
def _words() -> Mapping[str, frozenset[str]]:
    """Return the values of the schema's enumerations."""
    from ome_types import model

    kinds = {
        "Immersion": model.Objective_Immersion, "Correction": model.Objective_Correction,
        "Type": model.PixelType, "DimensionOrder": model.Pixels_DimensionOrder,
    }  # fmt: skip
    return {name: frozenset(str(word.value) for word in kind) for name, kind in kinds.items()}


def _word(kind: str) -> Test:
    return lambda text: text in _words()[kind]


_NUMBER: Final = _like(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|NaN|-?INF")
_WHOLE: Final = _like(r"-?\d{1,19}")
_BOOLEAN: Final = _one_of("true", "false", "0", "1")
_IDENTIFIER: Final = _like(_ID)
_LENGTH: Final = _one_of(*LENGTHS, *NOT_LENGTHS)


def _quantities(names: Sequence[str], unit: Test = _LENGTH) -> dict[str, Test]:
    return {key: test for name in names for key, test in ((name, _NUMBER), (f"{name}Unit", unit))}


_ROLE_VALUES: Final = _like(r"label|macro|thumbnail|mask|photograph|Image:\d+")
_NAMED_ID: Final[Mapping[str, Test]] = {"ID": _IDENTIFIER}

KEPT: Final[Mapping[str, Mapping[str, Test]]] = {
    "OME": {
        "xmlns": _one_of(_SCHEMA), "xmlns:xsi": _one_of(_INSTANCE),
        "xsi:schemaLocation": _one_of(f"{_SCHEMA} {_SCHEMA}/ome.xsd"),
        "UUID": _like(_UUID), "Creator": _like(r"bfbridge( \d[\w.+]{0,31})?"),
    },
    "OME/Instrument": _NAMED_ID,
    "OME/Instrument/Objective": {
        **_NAMED_ID, "NominalMagnification": _NUMBER, "CalibratedMagnification": _NUMBER,
        "LensNA": _NUMBER, "Immersion": _word("Immersion"), "Correction": _word("Correction"),
    },
    "OME/Image": {**_NAMED_ID, "Name": _like(NEUTRAL_NAME)},
    "OME/Image/InstrumentRef": _NAMED_ID,
    "OME/Image/ObjectiveSettings": _NAMED_ID,
    "OME/Image/AnnotationRef": _NAMED_ID,
    "OME/Image/Pixels": {
        **_NAMED_ID, "DimensionOrder": _word("DimensionOrder"), "Type": _word("Type"),
        "SignificantBits": _WHOLE, "Interleaved": _BOOLEAN, "BigEndian": _BOOLEAN,
        **{f"Size{axis}": _WHOLE for axis in "XYZCT"},
        **_quantities([f"PhysicalSize{axis}" for axis in "XYZ"]),
        **_quantities(["TimeIncrement"], _one_of(*TIMES)),
    },
    "OME/Image/Pixels/Channel": {
        **_NAMED_ID, "Name": is_channel_name, "SamplesPerPixel": _WHOLE, "Color": _WHOLE,
        **_quantities(["EmissionWavelength", "ExcitationWavelength"]),
    },
    "OME/Image/Pixels/TiffData": dict.fromkeys(
        ("IFD", "PlaneCount", "FirstZ", "FirstC", "FirstT"), _WHOLE
    ),
    "OME/Image/Pixels/MetadataOnly": {},
    "OME/Image/Pixels/Plane": {
        "TheZ": _WHOLE, "TheC": _WHOLE, "TheT": _WHOLE,
        **_quantities([f"Position{axis}" for axis in "XYZ"]),
    },
    "OME/StructuredAnnotations": {},
    "OME/StructuredAnnotations/MapAnnotation": {**_NAMED_ID, "Namespace": _one_of(ROLES)},
    "OME/StructuredAnnotations/MapAnnotation/Value": {},
    "OME/StructuredAnnotations/MapAnnotation/Value/M": {"K": _one_of("role", "kind", "image")},
}  # fmt: skip
"""Elements that are kept, by path, with the test of each attribute that is kept."""
_TEXTS: Final[Mapping[str, Test]] = {
    "OME/StructuredAnnotations/MapAnnotation/Value/M": _ROLE_VALUES
}
"""Elements whose text is kept; others contain white space only."""


def check_identifying(text: str, where: str, names: set[str]) -> Iterator[Finding]:
    """Yield everything in the text of an OME document that is not in the list of what is kept.

    The values themselves are not in the messages.

    Parameters
    ----------
    text
        OME-XML.
    where
        The file, and the place of the document in it.
    names
        Receives the names of channels, which are kept; see `note_of_names`.
    """
    checker = _Checker()
    try:
        checker.parse(text)
    except (expat.ExpatError, ValueError) as error:
        yield _finding(where, f"the OME-XML cannot be parsed ({error}), so it cannot be checked")
        return
    for message, count in checker.found.items():
        yield _finding(where, message if count == 1 else f"{message} ({count:,} times)")
    names |= checker.names


def note_of_names(names: set[str], where: str) -> Iterator[Finding]:
    """Yield a note with the names of channels, which only a person can judge, if there are any."""
    if names:
        yield Finding("note", "kept-names", where, f"names of channels: {', '.join(sorted(names))}")


def _finding(where: str, message: str) -> Finding:
    return Finding("error", "identifying-xml", where, message, CLEAN)


class _Checker:
    """Compares the elements, attributes and texts of a document with `KEPT`.

    Attributes
    ----------
    found
        Messages, with the number of times.
    names
        Names of channels.
    """

    def __init__(self) -> None:
        self.found: dict[str, int] = {}
        self.names: set[str] = set()
        self._path: list[str] = []
        self._texts: list[str] = []

    def parse(self, text: str) -> None:
        """Parse the document; names have their prefixes, so declarations are attributes."""
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.CommentHandler = lambda _: self._note("an XML comment")
        parser.ProcessingInstructionHandler = lambda *_: self._note("a processing instruction")
        parser.StartDoctypeDeclHandler = self._refuse_document_type
        data = text.encode("utf-8", "replace")
        end = data.rfind(b">") + 1
        if data[end:].strip(b"\0 \t\r\n"):
            self._note("text after the end of the document")
        parser.Parse(_without_declaration(data[:end]), True)

    def _note(self, message: str) -> None:
        self.found[message] = self.found.get(message, 0) + 1

    @staticmethod
    def _refuse_document_type(*_: Any) -> None:
        raise ValueError("it has a document type")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._path.append(name)
        path = "/".join(self._path)
        tests = KEPT.get(path)
        if tests is None:
            if len(self._path) == 1 or "/".join(self._path[:-1]) in KEPT:
                self._note(f"the element {_shown(path)}")
            return
        for key, value in attributes.items():
            test = tests.get(key)
            if test is None or not test(value):
                self._note(f"the attribute {_shown(key)} of {path}")
            elif key == "Name" and path.endswith("/Channel"):
                self.names.add(value)

    def _end(self, name: str) -> None:
        del name
        self._flush()
        self._path.pop()

    def _text(self, text: str) -> None:
        self._texts.append(text)

    def _flush(self) -> None:
        text, path = "".join(self._texts).strip(), "/".join(self._path)
        self._texts.clear()
        test = _TEXTS.get(path)
        if text and path in KEPT and not (test is not None and test(text)):
            self._note(f"the text of {path}")


def _without_declaration(data: bytes) -> bytes:
    """Remove an XML declaration; its encoding is that of the file, and the text was decoded."""
    return re.sub(
        rb"^(\xef\xbb\xbf)?\s*<\?xml version=.1\.[01].( encoding=.[\w-]{1,20}.)?"
        rb"( standalone=.(yes|no).)?\s*\?>",
        b"", data, count=1,
    )  # fmt: skip


def _shown(name: str) -> str:
    """Return a name of the schema; names of other elements may themselves identify somebody."""
    return name if re.fullmatch(r"[A-Za-z:/]{1,80}", name) else "with an unusual name"
