"""What a conversion did, as plain data: one record for each source, one for each new file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from bfbridge.convert.places import Storage, is_url
from bfbridge.source import as_source

__all__ = ["FileRecord", "OutputRecord", "stamp"]

# What file systems of fsspec call the mark, or else the time, of an object's content.
TAGS = ("ETag", "etag", "LastModified", "last_modified", "updated", "mtime", "modified", "created")


@dataclass
class OutputRecord:
    """One new file.

    Attributes
    ----------
    target
        Its path.
    backend
        What wrote it.
    images
        For each image: where it came from, its shape (Y, X, Z, C, T), dtype, the change of
        values, its checksum, and how many encoded tiles were copied as they are.
    pixel_bytes, file_bytes
        Decoded bytes of full size, and bytes on disk.
    seconds
        Wall time of making it.
    verified
        True where source and target were read again and are equal; None where that was not asked.
    """

    target: str
    backend: str = ""
    images: list[dict[str, Any]] = field(default_factory=list)
    pixel_bytes: int = 0
    file_bytes: int = 0
    seconds: float = 0.0
    verified: bool | None = None


@dataclass
class FileRecord:
    """One source and what became of it.

    Attributes
    ----------
    source
        Path or URL that was opened.
    target
        The new file, or what the names of several are made of.
    status
        "done", "kept" (complete already when a batch was resumed) or "failed".
    inputs
        Path, size and time of every file of the data set, to tell whether it changed.
    outputs
        The new files.
    backend, backend_reason
        What read the source, and why.
    seconds
        Wall time.
    error, error_type
        Why it failed.
    request
        Fingerprint of what was asked for.
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

    @property
    def failure(self) -> str:
        """What failed and why, for people; most reasons begin with the name already."""
        reason = self.error or ""
        return reason if reason.startswith(self.source) else f"{self.source}: {reason}"

    def as_dict(self) -> dict[str, Any]:
        """Return the record as JSON has it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> FileRecord:
        """Make a record of what a report holds."""
        outputs = [OutputRecord(**output) for output in told.get("outputs", [])]
        return cls(**{**told, "outputs": outputs})


def stamp(paths: Sequence[str], storage: Storage) -> list[dict[str, Any]]:
    """Path, size and modification time of files, to tell later whether they changed.

    A folder is one entry for all that is in it. At a URL "tag" takes the place of the time: what
    the server gives to tell contents apart.

    Parameters
    ----------
    paths, storage
        Paths or URLs, and the storage options of URLs.
    """
    stamps: list[dict[str, Any]] = []
    folder: str | None = None
    for path in paths:
        if folder is not None and path.startswith(folder):
            continue
        told = _stamp_at_url(path, storage) if is_url(path) else _stamp(path)
        if told.pop("folder"):
            folder = path.rstrip("/" if is_url(path) else "/" + os.sep) + "/"
        stamps.append(told)
    return stamps


def _stamp(path: str) -> dict[str, Any]:
    names = [path]
    if os.path.isdir(path):
        names = [os.path.join(root, name) for root, _, files in os.walk(path) for name in files]
    found = [
        os.lstat(name) if name != path else os.stat(name) for name in names if os.path.exists(name)
    ]
    return {
        "path": os.path.abspath(path),
        "bytes": sum(s.st_size for s in found) if found else None,
        "mtime_ns": max((s.st_mtime_ns for s in found), default=None),
        "folder": names != [path],
    }


def _stamp_at_url(url: str, storage: Storage) -> dict[str, Any]:
    told: dict[str, Any] = {"path": url, "bytes": None, "tag": None, "folder": False}
    # What the server does not tell does not stop a conversion that can read the file.
    with suppress(Exception):
        source = as_source(url, storage)
        there = source.filesystem()
        info = there.info(source.url)
        told["folder"] = info.get("type") == "directory"
        found = there.find(source.url, detail=True).values() if told["folder"] else [info]
        told["bytes"] = sum(one["size"] for one in found)
        tags = [str(next((one[key] for key in TAGS if one.get(key)), "")) for one in found]
        told["tag"] = (
            tags[0] if len(tags) == 1 else hashlib.sha256("".join(tags).encode()).hexdigest()
        )
    return told
