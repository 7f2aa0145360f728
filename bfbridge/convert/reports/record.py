"""Records of conversions, as plain data: one for each source, one for each new file."""

from __future__ import annotations

import hashlib
import math
import os
import stat as modes
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from datetime import UTC, datetime
from functools import cache
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from bfbridge.convert.locations import Storage, is_url
from bfbridge.errors import BfbridgeError
from bfbridge.storage.source import as_source

__all__ = ["STATUSES", "FileRecord", "OutputRecord", "from_json", "now", "reason_of", "stamp"]

COMPLETE = ("done", "kept")
"""Statuses of a record whose new files are complete."""
STATUSES = (*COMPLETE, "failed")

# Keys of fsspec filesystems for the entity tag, or else the time, of an object.
TAGS = ("ETag", "etag", "LastModified", "last_modified", "updated", "mtime", "modified", "created")


@dataclass
class OutputRecord:
    """One new file.

    Attributes
    ----------
    target
        Its path.
    backend
        Backend that wrote it.
    images
        For each image: where it came from, its shape (Y, X, Z, C, T), dtype, the change of
        values, its checksum, and how many encoded tiles were copied unchanged.
    pixel_bytes, file_bytes
        Decoded bytes of full size, and bytes on disk.
    seconds
        Wall time of making it.
    verified
        True where source and target were read again and are equal; None without ``verify``.
    kept
        Whether it existed already, and has the pixels of the source.
    plate
        Whether its images are the fields of a plate.
    lost
        OME metadata of the source that are missing or different in the new file, each as "path: n
        of m lost". None if they were not compared.
    crate
        Path of the RO-Crate with its checksums, or None.
    """

    target: str
    backend: str = ""
    images: list[dict[str, Any]] = field(default_factory=list)
    pixel_bytes: int = 0
    file_bytes: int = 0
    seconds: float = 0.0
    verified: bool | None = None
    kept: bool = False
    plate: bool = False
    lost: list[str] | None = None
    crate: str | None = None


@dataclass
class FileRecord:
    """One source and the result of its conversion.

    Attributes
    ----------
    source
        Path or URL that was opened.
    target
        The new file, or the base of the names of several.
    status
        "done", "kept" (complete already when a batch was resumed) or "failed".
    inputs
        Path, size and time of every file of the data set, to detect changes. A store is one entry
        for all files in it; its size and time are None without a report or certificate.
    outputs
        The new files.
    backend, backend_reason
        Backend that read the source, and why.
    seconds
        Wall time.
    error, error_type
        Why it failed.
    request
        Fingerprint of the conversion options.
    warnings
        Warnings: metadata that were omitted, a slide's label that was converted.
    ended
        When it was done or failed, in UTC as ISO 8601 has it.
    stops_batch
        Whether the failure is one that every other file would meet, such as a full disk.
    """

    source: str
    target: str
    status: str = "failed"
    inputs: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[OutputRecord] = field(default_factory=list)
    backend: str = ""
    backend_reason: str = ""
    seconds: float = 0.0
    error: str | None = None
    error_type: str | None = None
    request: str = ""
    warnings: list[str] = field(default_factory=list)
    ended: str = ""
    stops_batch: bool = False

    @property
    def key(self) -> str:
        """Identifies the record among those of other sources and targets."""
        return f"{self.source}\0{self.target}"

    @property
    def is_complete(self) -> bool:
        """Whether the new files were made, in this run or an earlier one."""
        return self.status in COMPLETE and bool(self.outputs)

    @property
    def failure(self) -> str:
        """The source and the reason of the failure; most reasons begin with the name already."""
        reason = self.error or ""
        return reason if reason.startswith(self.source) else f"{self.source}: {reason}"

    def as_dict(self) -> dict[str, Any]:
        """Return the record as JSON has it."""
        return {**vars(self), "outputs": [vars(output).copy() for output in self.outputs]}

    @classmethod
    def from_json(cls, content: Any) -> FileRecord:
        """Make a record from an entry of a report.

        Parameters
        ----------
        content
            Parsed JSON of any kind. Unknown fields are ignored.

        Raises
        ------
        ValueError
            It is not a record; the message names the field.
        """
        record: FileRecord = from_json(content, cls)
        if record.status not in STATUSES:
            raise ValueError(f"status is {record.status!r:.40}")
        for number, entry in enumerate(record.inputs):
            path = entry.get("path")
            if not isinstance(path, str) or "\0" in path:
                raise ValueError(f"inputs[{number}].path is no path")
        return record


def from_json(content: Any, kind: type[Any]) -> Any:
    """Make a dataclass of parsed JSON, checking every field.

    Raises
    ------
    ValueError
        A field is missing, or of another type; the message names it.
    """
    return _checked(content, kind, "the entry")


@cache
def _hints(kind: type[Any]) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _checked(value: Any, kind: Any, where: str) -> Any:
    """Return parsed JSON as a value of a type: of a dataclass, or one of those its fields have."""
    if kind is Any:
        return value
    if get_origin(kind) is UnionType:
        (other,) = (one for one in get_args(kind) if one is not NoneType)
        return None if value is None else _checked(value, other, where)
    if get_origin(kind) is list and isinstance(value, list):
        (inner,) = get_args(kind)
        return [_checked(item, inner, f"{where}[{i}]") for i, item in enumerate(value)]
    if get_origin(kind) is dict and isinstance(value, dict):
        return value
    if is_dataclass(kind) and isinstance(kind, type) and isinstance(value, dict):
        hints = _hints(kind)
        needed = [f.name for f in fields(kind) if f.default is f.default_factory is MISSING]
        for name in needed:
            if name not in value:
                raise ValueError(f"{where} has no {name}")
        known = {name: value[name] for name in hints if name in value}
        return kind(**{name: _checked(v, hints[name], name) for name, v in known.items()})
    if kind is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if kind in (str, int, bool) and type(value) is kind:
        return value
    raise ValueError(f"{where} is {value!r:.40}")


def now() -> str:
    """Return the present time as records have it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def stamp(paths: Sequence[str], storage: Storage, *, walk: bool = True) -> list[dict[str, Any]]:
    """Return path, size and modification time of files, to detect later changes.

    A folder is one entry for all that is in it. At a URL "tag" replaces the time: the
    entity tag of the server.

    Parameters
    ----------
    paths, storage
        Paths or URLs, and the storage options of URLs.
    walk
        Whether the size and time of a folder are those of all files in it; otherwise they are
        None, and nothing is listed.
    """
    return [
        _stamp_at_url(path, storage, walk) if is_url(path) else _stamp(path, walk) for path in paths
    ]


def _stamp(path: str, walk: bool) -> dict[str, Any]:
    found = []
    with suppress(OSError):
        found = [os.stat(path)]
    if found and modes.S_ISDIR(found[0].st_mode):
        found = []
        for root, _, names in os.walk(path) if walk else ():
            for name in names:
                with suppress(FileNotFoundError):
                    found.append(os.lstat(os.path.join(root, name)))
    return {
        "path": os.path.abspath(path),
        "bytes": sum(s.st_size for s in found) if found else None,
        "mtime_ns": max((s.st_mtime_ns for s in found), default=None),
    }


def _stamp_at_url(url: str, storage: Storage, walk: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"path": url, "bytes": None, "tag": None}
    # A server without this information does not prevent the conversion.
    with suppress(Exception):
        source = as_source(url, storage)
        there = source.filesystem()
        info = there.info(source.url)
        folder = info.get("type") == "directory"
        if folder and not walk:
            return entry
        found = there.find(source.url, detail=True).values() if folder else [info]
        entry["bytes"] = sum(one["size"] for one in found)
        tags = [str(next((one[key] for key in TAGS if one.get(key)), "")) for one in found]
        entry["tag"] = (
            tags[0] if len(tags) == 1 else hashlib.sha256("".join(tags).encode()).hexdigest()
        )
    return entry


def reason_of(error: BaseException) -> str:
    """Return the reason of a failure; other errors than bfbridge's are preceded by their type."""
    text = str(error)
    return text if isinstance(error, BfbridgeError) else f"{type(error).__name__}: {text}"
