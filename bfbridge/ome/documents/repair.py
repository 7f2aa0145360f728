"""Parsing of OME-XML that breaks the schema: invalid optional values are left out.

xsdata makes one object per element, children first. The class factory here checks each of them with
its pydantic model: an optional attribute or child element with a value that is not valid is left
out, and an element without a valid required part is left out of its parent. Every omission is
recorded, so that callers can report it or refuse the document.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from bfbridge.ome.documents.quick_binding import parse_quickly
from bfbridge.ome.documents.xsdata_binding import xml_context
from bfbridge.runtime import forking

if TYPE_CHECKING:
    from ome_types import OME

__all__ = ["collected_faults", "note_faults", "parse"]

_MOST_UNKNOWN: Final = 50
"""Different unknown elements that are removed before a document is refused."""
_MOST_SHOWN: Final = 100
_MOST_PARSED: Final = 1_000_000
"""Elements parsed, in all attempts together, before a document with unknown ones is refused."""
_UNKNOWN: Final = re.compile(r"Unknown property (?:\{.*?\})?([\w.-]+):(?:\{.*?\})?([\w.-]+)")
_SHOWN: Final = 60

_warnings_lock = forking.lock()
_collector: ContextVar[list[str] | None] = ContextVar("bfbridge_schema_faults", default=None)


@contextmanager
def collected_faults() -> Iterator[list[str]]:
    """Collect the faults of documents parsed in this block, instead of logging them.

    Yields
    ------
    list of str
        One sentence for each fault, without duplicates.
    """
    faults: list[str] = []
    token = _collector.set(faults)
    try:
        yield faults
    finally:
        _collector.reset(token)


def note_faults(name: str, faults: list[str]) -> bool:
    """Pass the faults of a document to the collector; return False if there is none."""
    collector = _collector.get()
    if collector is None:
        return False
    texts = (f"{name}: {fault}" for fault in faults)
    collector.extend(fault for fault in texts if fault not in collector)
    return True


def parse(xml: bytes) -> tuple[OME, list[str]]:
    """Return a document and a list of phrases, one for each part that was left out.

    Raises
    ------
    ValueError
        It is not well formed, or a required value is not valid.
    """
    quick = parse_quickly(xml)
    if quick is not None:
        return quick, []
    from ome_types import from_xml
    from xsdata.exceptions import ParserError
    from xsdata.formats.dataclass.parsers.config import ParserConfig

    unknown: dict[tuple[str, str], int] = {}
    # Each unknown element is found by parsing the document again.
    most = min(_MOST_UNKNOWN, 1 + _MOST_PARSED // (1 + xml.count(b"<")))
    strict = True
    while True:
        factory = _Factory()
        config = ParserConfig(class_factory=factory, fail_on_converter_warnings=strict)
        try:
            with nullcontext() if strict else _without_converter_warnings():
                document = from_xml(
                    xml,
                    parser_kwargs={"context": xml_context(), "config": config},
                    transformations=[_remover(unknown)] if unknown else [],
                )
        except ParserError as error:
            found = _UNKNOWN.search(str(error))
            if found is not None and found.groups() not in unknown and len(unknown) < most:
                unknown[found[1], found[2]] = 0
            elif found is None and strict:
                strict = False
            else:
                raise
            continue
        if factory.lost_image:
            # Images of a document are identified by their numbers.
            raise ValueError("; ".join(factory.faults))
        faults = [
            f"{parent}/{child} is not an element of the schema ({count} left out)"
            for (parent, child), count in unknown.items()
        ]
        return document, _some([*dict.fromkeys(factory.faults), *faults])


def _some(faults: list[str]) -> list[str]:
    """Return the first faults, and the number of the others."""
    if len(faults) <= _MOST_SHOWN:
        return faults
    return [*faults[:_MOST_SHOWN], f"{len(faults) - _MOST_SHOWN:,} more faults"]


@contextmanager
def _without_converter_warnings() -> Iterator[None]:
    """Suppress warnings of xsdata about values that the factory reports too."""
    from xsdata.exceptions import ConverterWarning

    # The warning filters are shared by the whole process.
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", ConverterWarning)
        yield


def _remover(unknown: dict[tuple[str, str], int]) -> Callable[[Any], Any]:
    """Return a function that removes unknown elements, given as (parent, child), from a tree."""

    def remove(tree: Any) -> Any:
        root = tree.getroot() if hasattr(tree, "getroot") else tree
        unknown.update(dict.fromkeys(unknown, 0))
        for parent in list(root.iter()):
            for child in list(parent):
                place = _local(parent), _local(child)
                if place in unknown:
                    parent.remove(child)
                    unknown[place] += 1
        return tree

    return remove


def _local(element: Any) -> str:
    # The tag of a comment is a function.
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


class _Factory:
    """Makes the objects of one document; xsdata calls it for each element, children first."""

    DROPPED: Final = object()
    """Placeholder for an element that could not be made."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.lost_image = False

    def __call__(self, kind: type[Any], values: dict[str, Any]) -> Any:
        from pydantic import ValidationError

        self._remove_dropped(values)
        while True:
            try:
                return kind(**values)
            except ValidationError as error:
                if not self._drop(kind, values, error):
                    self.lost_image |= kind.__name__ in ("Image", "OME")
                    return self.DROPPED

    def _remove_dropped(self, values: dict[str, Any]) -> None:
        for name, value in list(values.items()):
            if value is self.DROPPED:
                del values[name]
            elif isinstance(value, list) and any(item is self.DROPPED for item in value):
                values[name] = [item for item in value if item is not self.DROPPED]

    def _drop(self, kind: type[Any], values: dict[str, Any], error: Any) -> bool:
        """Leave out invalid values; return False if the element requires one of them."""
        where = str(values.get("id") or kind.__name__)
        names = {str(fault["loc"][0]): _reason(fault) for fault in error.errors() if fault["loc"]}
        wrong = [name for name in names if name in values]
        needed = [name for name in names if kind.model_fields[name].is_required()]
        if not wrong or needed:
            said = {name: names[name] for name in needed or names}
            reasons = ", ".join(_shown(kind, name, values, said[name]) for name in said)
            self.faults.append(f"{where}: {reasons}")
            return False
        for name in wrong:
            self.faults.append(f"{where}: {_shown(kind, name, values, names[name])}")
            del values[name]
        return True


def _shown(kind: type[Any], name: str, values: dict[str, Any], reason: str) -> str:
    """Describe an invalid value, with the names used in the XML."""
    extra = kind.model_fields[name].json_schema_extra or {} if name in kind.model_fields else {}
    stored = str(extra.get("name", name)) if isinstance(extra, dict) else name
    if name not in values:
        return f"{stored} is missing"
    text = repr(values[name])
    return f"{stored}={text[:_SHOWN]}{'...' if len(text) > _SHOWN else ''} {reason}"


def _reason(fault: Any) -> str:
    """Return a short form of pydantic's reason for refusing a value."""
    kind = str(fault["type"])
    if kind == "enum":
        return "is not one of the values that the schema allows"
    if kind.startswith(("datetime", "is_instance")):
        return "is not a date and time"
    return f"is not valid ({fault['msg'][:120]})"
