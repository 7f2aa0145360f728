"""OME-XML to and from the classes of ome_types for ordinary documents, without xsdata.

xsdata takes about a millisecond for the smallest document, which is most of the time of opening or
writing a small file. The functions here handle documents of the schema of 2016-06 whose values are
valid; for any other one, and for elements in XML annotations, they return None, and the caller uses
xsdata. What they return equals what xsdata returns (tests/private_apis/test_quick_binding.py).

Like `bfbridge.ome.documents.xsdata_binding`, this module uses `XmlContext.build` of xsdata, whose
description of the classes it reads.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from enum import Enum
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from xml.etree import ElementTree as ET

from bfbridge.ome.documents.xsdata_binding import NAMESPACE, SCHEMA_LOCATION, xml_context

if TYPE_CHECKING:
    from ome_types import OME
    from pydantic import BaseModel

__all__ = ["parse_quickly", "serialize_quickly"]

_XSI: Final = "http://www.w3.org/2001/XMLSchema-instance"
_KNOWN: Final = {NAMESPACE.encode(), _XSI.encode()}
_NAMESPACES: Final = re.compile(rb"""\bxmlns(?::[\w.-]+)?\s*=\s*["']([^"']*)""")
_LONGEST: Final = 10_000_000
_BOOLEANS: Final = {"true": True, "1": True, "false": False, "0": False}
_MARKUP: Final = re.compile(r'[&<>"\t\n\r]')
# Lines and tabs stay in texts; in attributes, parsers would make spaces of them.
_IN_TEXT: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"})
_IN_ATTRIBUTES: Final = _IN_TEXT | str.maketrans({'"': "&quot;", "\t": "&#9;", "\n": "&#10;"})


class _Unusual(Exception):
    """The document has something that is left to xsdata."""


class _Field(NamedTuple):
    """One attribute, child element or text of a class.

    Attributes
    ----------
    name, tag
        Names of the field and in the document.
    is_list
        Whether there may be several elements.
    kind
        Class of the elements; None for values.
    default
        Value of the field if it is not set.
    parse, write
        Convert texts to values and back.
    """

    name: str
    tag: str
    is_list: bool
    kind: type[BaseModel] | None
    default: Any
    parse: Callable[[str], Any]
    write: Callable[[Any], str]


class _Table(NamedTuple):
    """The fields of a class."""

    attributes: dict[str, _Field]
    elements: dict[str, _Field]
    text: _Field | None


@cache
def _table(kind: type[BaseModel]) -> _Table | None:
    """Return the fields of a class; None if it has other contents than elements and values."""
    # Classes inside others have the namespace of these. xsdata keeps the first result.
    described = xml_context().build(kind, NAMESPACE)
    if described.nillable or described.mixed_content:
        return None
    attributes, elements, text = {}, {}, None
    for var in described.get_all_vars():
        plain = var.is_attribute or var.is_text or var.is_element
        odd = var.tokens or var.nillable or var.any_type or var.mixed or var.wrapper
        if not plain or odd or not var.init or len(var.types) != 1 or var.sequence is not None:
            return None
        default = kind.model_fields[var.name].get_default(
            call_default_factory=True, validated_data={}
        )
        parse, write = _conversions(var)
        field = _Field(var.name, var.local_name, var.list_element, var.clazz, default, parse, write)
        if var.is_attribute:
            attributes[var.qname] = field
        elif var.is_element:
            elements[var.qname] = field  # in the namespace of the schema
        else:
            text = field
    return _Table(attributes, elements, text)


def _conversions(var: Any) -> tuple[Callable[[str], Any], Callable[[Any], str]]:
    """Return functions that convert texts to values as xsdata does, and back."""
    from xsdata.formats.converter import converter

    (kind,) = var.types
    write = partial(converter.serialize, format=var.format)
    if kind is str:
        return str, _written
    if kind in (int, float):
        return kind, _written
    if kind is bool:
        return lambda text: _BOOLEANS[text.strip()], _written
    if issubclass(kind, Enum) and all(isinstance(each.value, str) for each in kind):
        members = {each.value: each for each in kind}
        return members.__getitem__, lambda value: value.value
    return partial(converter.deserialize, types=var.types, format=var.format), write


def _written(value: Any) -> str:
    """Return a text, number or boolean as XML Schema writes it."""
    kind = type(value)
    if kind is str:
        return value  # type: ignore[no-any-return]
    if kind is float:
        if not math.isfinite(value):
            raise _Unusual
        return repr(value).upper().replace("E+", "E")
    if kind is bool:
        return "true" if value else "false"
    if kind is int:
        return repr(value)
    raise _Unusual


# ---- parsing


def parse_quickly(xml: bytes) -> OME | None:
    """Return a document; None if it is not an ordinary one, so that xsdata has to parse it.

    Parameters
    ----------
    xml
        The document in UTF-8, without a document type.
    """
    from ome_types import OME
    from pydantic import ValidationError
    from xsdata.exceptions import ConverterError

    # lxml refuses names of namespaces that are no URIs.
    if not {NAMESPACE.encode()} <= set(_NAMESPACES.findall(xml)) <= _KNOWN:
        return None
    builder = ET.TreeBuilder(insert_comments=True, insert_pis=True)
    try:
        # The caller has refused document types, and with them entities.
        root = ET.fromstring(xml, ET.XMLParser(target=builder))  # noqa: S314
        if root.tag != f"{{{NAMESPACE}}}OME" or (len(xml) > _LONGEST and _has_long_text(root)):
            return None
        found: OME = _Objects().make(root, OME)
    except (_Unusual, ET.ParseError, ValidationError, ConverterError, ValueError, KeyError):
        return None
    return found


def _has_long_text(root: ET.Element) -> bool:
    """Whether there is a text that lxml refuses, as it is longer than any that is needed."""
    texts = (text for part in root.iter() for text in (part.text or "", *part.attrib.values()))
    return any(len(text) > _LONGEST for text in texts)


class _Objects:
    """Makes the objects of one document."""

    def __init__(self) -> None:
        from ome_types.model import Reference, TiffData
        from pydantic import BaseModel

        self._reference = Reference
        self._usual: Any = TiffData.__init__
        self._base = BaseModel.__init__
        # Whether no element refers to another, and all IDs are as they were stored.
        self._plain = True

    def make(self, element: ET.Element, kind: type[BaseModel]) -> Any:
        """Return an element as an object; children are made first, as by xsdata."""
        table = _table(kind)
        if table is None:
            raise _Unusual
        values: dict[str, Any] = {}
        for name, text in element.attrib.items():
            field = table.attributes.get(name)
            if field is not None:
                values[field.name] = field.parse(text)
            elif name != f"{{{_XSI}}}schemaLocation":
                raise _Unusual
        elements = table.elements
        for child in element:
            tag: Any = child.tag
            if not isinstance(tag, str) and table.text is None:
                continue  # a comment
            field = elements.get(tag)
            if field is None:
                raise _Unusual
            inner = field.kind
            value = _value(child, field) if inner is None else self.make(child, inner)
            if field.is_list:
                values.setdefault(field.name, []).append(value)
            elif field.name in values:
                raise _Unusual
            else:
                values[field.name] = value
        if table.text is not None and element.text is not None:
            values[table.text.name] = table.text.parse(element.text)
        return self._made(kind, values)

    def _made(self, kind: type[BaseModel], values: dict[str, Any]) -> Any:
        """Return an object of a class.

        ome_types' own initialiser looks for old names of fields, which the XML does not have. That
        of a document looks for references and what they refer to, in all objects.
        """
        known = kind.__init__ is self._usual
        if not known and not (self._plain and kind.__name__ == "OME"):
            return kind(**values)
        made = kind.__new__(kind)
        self._base(made, **values)
        if self._plain and "ID" in _attributes(kind):
            stored = values.get("id")
            same = stored == made.id  # type: ignore[attr-defined]
            self._plain = same and not isinstance(made, self._reference)
        return made


def _attributes(kind: type[BaseModel]) -> dict[str, _Field]:
    table = _table(kind)
    return {} if table is None else table.attributes


def _value(element: ET.Element, field: _Field) -> Any:
    if element.attrib or len(element) or (element.text is None and field.default is not None):
        raise _Unusual
    return field.parse(element.text or "")


# ---- writing


def serialize_quickly(ome: OME) -> str | None:
    """Return a document's text without a declaration; None if xsdata has to write it."""
    parts = [f'<OME xmlns="{NAMESPACE}" xmlns:xsi="{_XSI}" xsi:schemaLocation="{SCHEMA_LOCATION}"']
    try:
        _write(ome, "OME", "\n", parts)
    except _Unusual:
        return None
    return f"{''.join(parts)}\n"


def _write(part: BaseModel, tag: str, line: str, parts: list[str]) -> None:
    """Append the attributes, the content and the end of an element whose start is written."""
    table = _table(type(part))
    if table is None:
        raise _Unusual
    values, given = vars(part), part.model_fields_set
    for field in table.attributes.values():
        value = values[field.name]
        if value is not None and _is_written(field, value, given):
            parts.append(f' {field.tag}="{_escaped(field.write(value), _IN_ATTRIBUTES)}"')
    start, inner = len(parts), f"{line}  "
    parts.append(">")
    for field in table.elements.values():
        value = values[field.name]
        if value is None or not _is_written(field, value, given):
            continue
        for item in value if field.is_list else (value,):
            parts.append(f"{inner}<{field.tag}")
            if field.kind is None:
                inside = _escaped(field.write(item), _IN_TEXT)
                parts.append(f">{inside}</{field.tag}>" if inside else "/>")
            elif type(item) is field.kind:
                _write(item, field.tag, inner, parts)
            else:
                raise _Unusual
    text = _text_of(part, table.text)
    if text:
        parts.append(f"{text}</{tag}>")
    elif len(parts) > start + 1:
        parts.append(f"{line}</{tag}>")
    else:
        parts[start] = "/>"


def _text_of(part: BaseModel, field: _Field | None) -> str:
    """Return the text of an element that may have one."""
    value = None if field is None else vars(part)[field.name]
    if field is None or value is None or not _is_written(field, value, part.model_fields_set):
        return ""
    return _escaped(field.write(value), _IN_TEXT)


def _is_written(field: _Field, value: Any, given: set[str]) -> bool:
    """Whether a field was set; pydantic does not notice that a list was appended to."""
    return field.name in given or bool(value and value != field.default)


def _escaped(text: str, table: dict[int, str]) -> str:
    if text.startswith("{"):
        raise _Unusual  # xsdata takes it for a qualified name
    return text.translate(table) if _MARKUP.search(text) else text
