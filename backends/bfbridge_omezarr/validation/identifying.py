"""The search for metadata that may identify somebody, in every file of a store.

Documents are compared with a description of those that bfbridge writes for a de-identified image;
files and folders that are not part of an array or a group are reported.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bfbridge.backend.findings import COPY_AGAIN, Finding
from bfbridge.errors import BfbridgeError, UnreadableFile, Unsupported
from bfbridge.limits import check
from bfbridge.ngff.documents import method_of
from bfbridge.ome.checks.identifying import (
    CLEAN,
    NEUTRAL_NAME,
    check_identifying,
    is_channel_name,
    note_of_names,
)
from bfbridge.ome.documents.xml import document_text
from bfbridge.ome.units import LENGTHS, TIMES, ngff_name
from bfbridge_omezarr.chunked.array_metadata import ArrayInfo, NotDirect, parse_array

if TYPE_CHECKING:
    from bfbridge.backend import OpenOptions
    from bfbridge.limits import Limits
    from bfbridge.storage.source import Source

__all__ = ["find_identifying"]

_XML: Final = "OME/METADATA.ome.xml"
_BLOSC_HEADER: Final = 16
Rule = Any
"""A description of a JSON value: a mapping of keys, a list with the rule of its items, a regular
expression for texts, a type, a function, or a tuple of alternatives."""

_UNITS: Final = {name for unit in (*LENGTHS, *TIMES) if (name := ngff_name(unit)) is not None}
_VERSION: Final = r"0\.[45]"
_TRANSFORMS: Final = [{"type": "scale|translation", "scale": [float], "translation": [float]}]
_METHODS: Final = {
    text for kind in ("mean", "mode", "nearest") for text in method_of(kind).values()
}
_MULTISCALE: Final = {
    "version": _VERSION,
    "name": NEUTRAL_NAME,
    "type": "mean|mode|nearest",
    "metadata": {
        "description": _METHODS.__contains__, "method": _METHODS.__contains__,
        "version": r"\d[\w.+]{0,31}|unknown",
    },
    "axes": [{"name": "[tczyx]", "type": "time|channel|space", "unit": _UNITS.__contains__}],
    "datasets": [{"path": r"\d{1,3}", "coordinateTransformations": _TRANSFORMS}],
}  # fmt: skip
_OMERO: Final = {
    "channels": [
        {
            "active": bool, "coefficient": float, "family": "linear", "inverted": bool,
            "color": "[0-9A-Fa-f]{6}", "label": is_channel_name,
            "window": {"min": float, "max": float, "start": float, "end": float},
        }
    ],
    "rdefs": {"defaultT": int, "defaultZ": int, "model": "color|greyscale"},
}  # fmt: skip
_NGFF: Final = {
    "version": _VERSION,
    "multiscales": [_MULTISCALE],
    "omero": _OMERO,
    "image-label": {"version": _VERSION, "source": {"image": r"\.\./\.\./"}},
    "labels": [NEUTRAL_NAME],
    "bioformats2raw.layout": int,
    "series": [r"\d{1,9}"],
}
_CODEC: Final = {
    "name": "bytes|blosc",
    "configuration": {
        "endian": "little", "cname": "zstd|lz4", "clevel": int, "shuffle": "shuffle",
        "typesize": int, "blocksize": int,
    },
}  # fmt: skip
_ARRAY: Final = {
    "zarr_format": int, "node_type": "array", "shape": [int],
    "data_type": r"bool|(u?int|float|complex)\d{1,3}",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [int]}},
    "chunk_key_encoding": {"name": "default|v2", "configuration": {"separator": "[/.]"}},
    "fill_value": (bool, float, "NaN|-?Infinity", [float]),
    "codecs": [_CODEC], "attributes": {}, "dimension_names": ["[tczyx]"],
}  # fmt: skip
_GROUP: Final = {"zarr_format": int, "node_type": "group", "attributes": {"ome": _NGFF}}
_ZARRAY: Final = {
    "zarr_format": int, "shape": [int], "chunks": [int], "dtype": r"[<>|][biufc]\d{1,2}",
    "compressor": (
        None,
        {"id": "blosc", "cname": "zstd|lz4", "clevel": int, "shuffle": int, "blocksize": int},
    ),
    "fill_value": (None, bool, float, "NaN|-?Infinity", [float]), "order": "C", "filters": None,
    "dimension_separator": "[/.]",
}  # fmt: skip
_RULES: Final[Mapping[str, Rule]] = {
    ".zgroup": {"zarr_format": int}, ".zattrs": _NGFF, ".zarray": _ZARRAY,
    "zarr.json": (_ARRAY, _GROUP),
}  # fmt: skip
_FOLDER: Final = re.compile(rf"c|OME|labels|\d{{1,9}}|{NEUTRAL_NAME}")


def find_identifying(source: Source, options: OpenOptions) -> Iterator[Finding]:
    """Yield everything in a store that is not known to identify nobody.

    Parameters
    ----------
    source
        A folder.
    options
        `limits` are used.

    Raises
    ------
    Unsupported
        The store is not a folder on a disk.
    UnreadableFile
        The file system refuses to read a file.
    """
    if source.path is None or not source.path.is_dir():
        raise Unsupported(
            f"{source.name}: only stores that are folders on a disk can be checked for metadata "
            "that identify somebody. Unpack or download it."
        )
    try:
        yield from _Search(source.path, source.name, options.limits).run()
    except OSError as error:
        if isinstance(error, BfbridgeError):
            raise
        where = error.filename or source.name
        raise UnreadableFile(f"{where}: cannot be read ({error.strerror or error}).") from error


class _Search:
    """The search in one store.

    Parameters
    ----------
    root, name, limits
        The folder, its name for messages, and limits on documents.
    """

    def __init__(self, root: Path, name: str, limits: Limits) -> None:
        self._root = root
        self._name = name
        self._limits = limits
        self._arrays: dict[str, ArrayInfo] = {}
        self._names: set[str] = set()
        self._opaque: set[str] = set()

    def run(self) -> Iterator[Finding]:
        """Yield the findings of all documents, then of all other files and folders."""
        others = []
        for folder, folders, names in os.walk(self._root):
            folders.sort()
            key = Path(folder).relative_to(self._root).as_posix()
            prefix = "" if key == "." else f"{key}/"
            for number, name in enumerate(folders):
                path = Path(folder, name)
                if path.is_symlink():
                    yield self._found(f"{prefix}{name}", "a symbolic link")
                elif not _FOLDER.fullmatch(name):
                    place = f"{prefix}(folder {number})"
                    yield self._found(place, "a folder with a name that is not one of NGFF's")
            for name in sorted(names):
                if name in _RULES and not Path(folder, name).is_symlink():
                    yield from self._document(f"{prefix}{name}")
                elif f"{prefix}{name}" == _XML and not Path(folder, name).is_symlink():
                    yield from self._xml()
                else:
                    others.append(f"{prefix}{name}")
        for key in others:
            yield from self._other(key)
        yield from note_of_names(self._names, self._name)

    def _found(self, key: str, message: str, code: str = "identifying-file") -> Finding:
        return Finding("error", code, f"{self._name}/{key}", message, CLEAN)

    def _document(self, key: str) -> Iterator[Finding]:
        path = self._root / key
        check(path.stat().st_size, self._limits.xml_bytes, "length of a document", self._name)
        twice: list[str] = []
        try:
            content = json.loads(path.read_bytes(), object_pairs_hook=lambda p: _unique(p, twice))
        except (ValueError, RecursionError) as error:
            yield self._found(key, f"it is not valid JSON ({type(error).__name__})")
            return
        found = [f"{name} occurs twice" for name in twice]
        name = path.name
        rule = _RULES[name]
        if name == "zarr.json":
            is_array = isinstance(content, dict) and content.get("node_type") == "array"
            rule = _ARRAY if is_array else _GROUP
        found += _faults(content, rule, "")
        for fault in dict.fromkeys(found):
            yield self._found(key, fault, "identifying-attribute")
        self._names |= _labels_of(content)
        group = key.rpartition("/")[0]
        if name == ".zarray" or rule is _ARRAY:
            yield from self._array(group, content, 2 if name == ".zarray" else 3)

    def _array(self, key: str, content: Any, version: int) -> Iterator[Finding]:
        where = f"{self._name}/{key}"
        try:
            info = parse_array(key, content, version, self._limits, where)
        except (BfbridgeError, NotDirect):
            # The message of the error may contain a value of the document.
            message = "an array whose document is not understood"
            yield Finding("error", "identifying-unreadable", where, message, COPY_AGAIN)
            return
        self._arrays[key] = info
        codecs = [decoder.name for decoder in info.decoders]
        if info.shard is not None or codecs not in ([], ["blosc"]):
            message = "chunks in shards" if info.shard is not None else f"chunks coded by {codecs}"
            message += " may contain metadata, and cannot be checked"
            yield self._found(key, message, "identifying-compression")
            self._opaque.add(key)

    def _xml(self) -> Iterator[Finding]:
        where = f"{self._name}/{_XML}"
        data = (self._root / _XML).read_bytes()
        text = document_text(data, where, self._limits)
        yield from check_identifying(text, where, self._names)

    def _other(self, key: str) -> Iterator[Finding]:
        """Check a file that is not a document: it must be a chunk."""
        info = self._owner(key)
        if info is None or (self._root / key).is_symlink() or not _is_chunk(info, key):
            # The name of the file may itself identify somebody.
            folder = key.rpartition("/")[0]
            yield self._found(f"{folder}/..." if folder else "...", "a file that is not a chunk")
            return
        if info.key in self._opaque:
            return
        size = (self._root / key).stat().st_size
        wanted = info.chunk_bytes
        if info.decoders:
            with open(self._root / key, "rb") as file:
                wanted = int.from_bytes(file.read(_BLOSC_HEADER)[12:], "little")
        if size != wanted:
            message = f"a chunk of {size:,} bytes, of which pixels need {wanted:,}"
            yield self._found(key, message, "identifying-chunk")

    def _owner(self, key: str) -> ArrayInfo | None:
        """Return the array in whose folder a file is."""
        while key:
            key = key.rpartition("/")[0]
            if key in self._arrays:
                return self._arrays[key]
        return None


def _is_chunk(info: ArrayInfo, key: str) -> bool:
    """Whether a key below an array is that of one of its chunks."""
    name = key.removeprefix(f"{info.key}/" if info.key else "")
    if not name.startswith(info.prefix):
        return False
    parts = name.removeprefix(info.prefix).split(info.separator)
    counts = [-(-n // c) for n, c in zip(info.shape, info.chunks, strict=True)]
    if len(parts) != len(counts) or not all(re.fullmatch(r"0|[1-9]\d{0,11}", p) for p in parts):
        return False
    return all(int(part) < count for part, count in zip(parts, counts, strict=True))


def _unique(pairs: list[tuple[str, Any]], twice: list[str]) -> dict[str, Any]:
    """Return a JSON object; names that occur twice, which readers ignore, are noted."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice.append("a key")
    return found


def _faults(value: Any, rule: Rule, path: str) -> Iterator[str]:
    """Yield the places in a JSON value that differ from a rule, without their values."""
    if isinstance(rule, tuple):
        found = [list(_faults(value, one, path)) for one in rule]
        yield from min(found, key=len)
    elif isinstance(rule, dict):
        if not isinstance(value, dict):
            yield f"{path or 'the document'} is not an object"
            return
        for key, inner in value.items():
            if key in rule:
                yield from _faults(inner, rule[key], f"{path}/{key}")
            else:
                known = re.fullmatch(r"[a-z:_-]{1,32}", key) is not None
                yield f"{path}/{key if known else '(another key)'}"
    elif isinstance(rule, list):
        if not isinstance(value, list):
            yield f"{path} is not a list"
            return
        for item in value:
            yield from _faults(item, rule[0], path)
    elif not _fits(value, rule):
        yield path or "the document"


def _fits(value: Any, rule: Rule) -> bool:
    if rule is None:
        return value is None
    if isinstance(rule, type):
        kinds = (int, float) if rule is float else rule
        return isinstance(value, kinds) and (rule is bool or not isinstance(value, bool))
    if not isinstance(value, str):
        return False
    return bool(rule(value) if callable(rule) else re.fullmatch(rule, value))


def _labels_of(content: Any) -> set[str]:
    """Return the names of channels in the attributes of a group."""
    attributes = content if isinstance(content, dict) else {}
    attributes = attributes.get("attributes", attributes)
    ome = attributes.get("ome", attributes) if isinstance(attributes, dict) else {}
    omero = ome.get("omero") if isinstance(ome, dict) else None
    channels = omero.get("channels") if isinstance(omero, dict) else None
    listed = channels if isinstance(channels, list) else []
    labels = [channel.get("label") for channel in listed if isinstance(channel, dict)]
    return {label for label in labels if isinstance(label, str) and is_channel_name(label)}
