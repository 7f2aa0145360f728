"""What a conversion did, as plain data: one record for each source, one for each new file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["FileRecord", "OutputRecord", "bytes_on_disk", "stamp"]


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

    def as_dict(self) -> dict[str, Any]:
        """Return the record as JSON has it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> FileRecord:
        """Make a record of what a report holds."""
        outputs = [OutputRecord(**output) for output in told.get("outputs", [])]
        return cls(**{**told, "outputs": outputs})


def stamp(paths: Sequence[str]) -> list[dict[str, Any]]:
    """Path, size and modification time of files; sizes of folders and URLs are None."""
    stamps = []
    for path in paths:
        size: int | None = None
        changed: int | None = None
        if os.path.isfile(path):
            status = os.stat(path)
            size, changed = status.st_size, status.st_mtime_ns
        where = path if "://" in path else os.path.abspath(path)
        stamps.append({"path": where, "bytes": size, "mtime_ns": changed})
    return stamps


def bytes_on_disk(path: str | os.PathLike[str]) -> int:
    """Bytes of a file, or of all files in a folder."""
    root = Path(path)
    if not root.is_dir():
        return root.stat().st_size
    total = 0
    for folder, _, names in os.walk(root):
        total += sum(os.lstat(os.path.join(folder, name)).st_size for name in names)
    return total
