"""OME-XML to and from the classes of ome_types, through xsdata.

The only module that uses APIs of these packages that are not documented: the module
``xsdata_pydantic_basemodel`` and ``XmlContext`` that ome_types reads and writes with, and
``XmlContext.build`` and ``XmlMeta.get_all_vars`` of xsdata, and ``OME._link_refs`` of ome_types.
tests/private_apis/test_xsdata_binding.py tests them.
"""

from __future__ import annotations

import re
from collections.abc import MutableSequence
from datetime import MAXYEAR, MINYEAR, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ome_types import OME
    from pydantic import BaseModel

__all__ = [
    "NAMESPACE",
    "SCHEMA_LOCATION",
    "SchemaDate",
    "link_references",
    "serialize",
    "xml_context",
]

_SPACED: Final = re.compile(r"^(\d{4}-\d\d-\d\d) +(\d\d:)")
_FRACTION: Final = re.compile(r"\.\d{7,}")
NAMESPACE: Final = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
SCHEMA_LOCATION: Final = f"{NAMESPACE} {NAMESPACE}/ome.xsd"


class SchemaDate(datetime):
    """A date and time that XML Schema allows and Python's datetime cannot hold.

    As a datetime it is the nearest possible one; it is written as the text that was read.

    Attributes
    ----------
    text
        The date as stored, such as "12024-01-02T03:04:05".
    """

    text: str

    @classmethod
    def of(cls, text: str, nearest: datetime) -> SchemaDate:
        """Return a date that is `nearest` as a datetime, and `text` in a document."""
        date = cls(
            nearest.year, nearest.month, nearest.day, nearest.hour, nearest.minute, nearest.second,
            nearest.microsecond, nearest.tzinfo,
        )  # fmt: skip
        date.text = text
        return date

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        plain = datetime.fromisoformat(self.isoformat())
        return SchemaDate.of, (self.text, plain)

    __reduce__ = __reduce_ex__  # type: ignore[assignment]


@cache
def xml_context() -> Any:
    """Return xsdata's description of the model's classes; ome_types computes it per document."""
    from xsdata.formats.converter import converter
    from xsdata_pydantic_basemodel.bindings import XmlContext

    converter.register_converter(SchemaDate, _date_converter())

    class Context(XmlContext):
        """Parses dates with our converter; that of ome_types makes 0001-01-01 of invalid dates."""

        def build(self, clazz: Any, *args: Any, **kwargs: Any) -> Any:
            known = clazz in self.cache
            meta = super().build(clazz, *args, **kwargs)
            if not known:
                for var in meta.get_all_vars():
                    if datetime in var.types:
                        var.types = tuple(SchemaDate if t is datetime else t for t in var.types)
            return meta

    return Context()


class _NoDate:
    """A text in the place of a date; no model accepts it."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return repr(self._text)


def _date_converter() -> Any:
    from xsdata.formats.converter import Converter
    from xsdata.models.datatype import XmlDateTime

    class DateConverter(Converter):
        def serialize(self, value: SchemaDate, **kwargs: Any) -> str:
            return value.text

        def deserialize(self, value: Any, **kwargs: Any) -> datetime | _NoDate:
            text = str(value).strip()
            try:
                stored = XmlDateTime.from_string(_SPACED.sub(r"\1T\2", text))
            except (ValueError, TypeError):
                # pydantic would read a number as seconds since 1970.
                return _NoDate(text)
            try:
                date = stored.to_datetime()
            except ValueError:
                return SchemaDate.of(text, _nearest(stored))
            # Python has microseconds; the schema allows any number of digits.
            return SchemaDate.of(text, date) if _FRACTION.search(text) else date

    return DateConverter()


def _nearest(stored: Any) -> datetime:
    """Return the date in Python's range that is nearest to a date of XML Schema."""
    if stored.year > MAXYEAR:
        return datetime(MAXYEAR, 12, 31, 23, 59, 59, 999_999)  # noqa: DTZ001 - as stored
    if stored.year < MINYEAR:
        return datetime(MINYEAR, 1, 1)  # noqa: DTZ001 - as stored
    # XML Schema writes the end of a day as hour 24 (part 2, section 3.2.7.1).
    date: datetime = stored.replace(hour=23, minute=59, second=59).to_datetime()
    return date


def link_references(ome: OME) -> None:
    """Let each reference in a document refer to the object with its ID, in the same document."""
    ome._link_refs()


@cache
def _defaults(kind: type[BaseModel]) -> tuple[tuple[str, Any], ...]:
    """Return the fields of a class of the model with their defaults."""
    return tuple(
        (name, field.get_default(call_default_factory=True, validated_data={}))
        for name, field in kind.model_fields.items()
    )


def _note_set_fields(part: BaseModel) -> None:
    """Mark the fields of a part of a document, and of the parts below, that have values.

    pydantic does not notice that a list was appended to, and would leave such a list out. ome_types
    has the same function, which takes as long as writing the XML: it computes each default anew.
    """
    from pydantic import BaseModel

    marked = part.model_fields_set
    for name, default in _defaults(type(part)):
        value = getattr(part, name)
        if not value:
            continue
        if name not in marked and value != default:
            marked.add(name)
        if isinstance(value, BaseModel):
            _note_set_fields(value)
        elif isinstance(value, MutableSequence):
            for item in value:
                if isinstance(item, BaseModel):
                    _note_set_fields(item)


def serialize(ome: OME) -> str:
    """Return a document's text, without an XML declaration.

    Raises
    ------
    ValueError
        A text in it contains a character that XML does not allow, if lxml is installed.
    """
    from xsdata_pydantic_basemodel.bindings import SerializerConfig, XmlSerializer

    config = SerializerConfig(
        indent="  ",
        xml_declaration=False,
        ignore_unset_attributes=True,
        schema_location=SCHEMA_LOCATION,
    )
    _note_set_fields(ome)
    serializer = XmlSerializer(config=config, context=xml_context())
    return str(serializer.render(ome, ns_map={None: NAMESPACE}))
