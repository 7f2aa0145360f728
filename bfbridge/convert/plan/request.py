"""What a user may ask of a conversion, as one value that can be compared, sent and written down."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from bfbridge.engine.pyramid import Pyramid
from bfbridge.engine.workers import available_cpus
from bfbridge.errors import BadArgument

__all__ = ["SPLITS", "Request", "parse_crop", "parse_positions", "parse_size", "parse_split"]

SPLITS = ("series", "c", "t", "z")
MEMORY_PER_WORKER = 128 << 20
_LOCAL = frozenset({"verify", "checksum", "max_workers", "memory", "durable", "storage_options"})


@dataclass(frozen=True, kw_only=True)
class Request:
    """How files are to be converted; the same for every file of a batch.

    Attributes
    ----------
    series
        Number or name of an image, or several; None for all.
    level
        Resolution of the source that is read; 0 is full size.
    channels, z, t
        Positions along these axes: numbers, slices, or text such as "0:10:2,15"; channels also by
        name. None for all.
    crop
        (x, y, width, height) in pixels of `level`, or None.
    dtype, scaling
        Type of the new pixels, and how values get there; see `bfbridge.convert.plan.scaling`.
    split
        Axes of which each position becomes a file of its own: some of "series", "c", "t", "z".
    names
        Pattern of the new files' names, or None; see `bfbridge.convert.plan.naming`.
    pyramid, downsample
        Lower levels, as `BioWriter` has them; None for as many as the format holds.
    verify
        Whether source and target are read again and compared.
    checksum
        Whether the pixels' checksums are computed while they pass.
    original_metadata
        Whether the format's own metadata becomes annotations of the new file.
    strict_metadata
        Whether metadata that break the OME schema are an error; else what is optional and wrong
        is left out, with a warning.
    recompress
        Whether encoded tiles are decoded and encoded anew even where they could be copied.
    max_workers
        Threads for each file. None: the CPUs this process may use.
    memory
        Bytes of pixels held at once for each file. None: 128 MiB for each worker.
    durable
        Whether files are flushed to disk before they get their names.
    backend, target_backend
        Backends that read and write; None for the choice by content and by suffix.
    reader_options
        More keyword arguments of `BioReader`.
    storage_options
        What the fsspec filesystem of a target at a URL is made with.
    options
        Options of the target's backend.
    """

    series: int | str | Sequence[int | str] | None = None
    level: int = 0
    channels: Any = None
    z: Any = None
    t: Any = None
    crop: tuple[int, int, int, int] | None = None
    dtype: Any = None
    scaling: Any = None
    split: tuple[str, ...] = ()
    names: str | None = None
    pyramid: Pyramid | None = None
    downsample: str = "mean"
    verify: bool = False
    checksum: bool = True
    original_metadata: bool = False
    strict_metadata: bool = False
    recompress: bool = False
    max_workers: int | None = None
    memory: int | None = None
    durable: bool = False
    backend: str | None = None
    target_backend: str | None = None
    reader_options: Mapping[str, Any] = field(default_factory=dict)
    storage_options: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def workers(self) -> int:
        """Threads for each file."""
        return available_cpus() if self.max_workers is None else self.max_workers

    @property
    def lower_levels(self) -> Pyramid:
        """Lower levels, of a format that holds them."""
        return True if self.pyramid is None else self.pyramid

    @property
    def memory_bytes(self) -> int:
        """Bytes of pixels held at once for each file."""
        return self.workers * MEMORY_PER_WORKER if self.memory is None else self.memory

    @property
    def source_storage(self) -> Mapping[str, Any]:
        """What the fsspec filesystems of sources at URLs are made with."""
        return self.reader_options.get("storage_options") or {}

    @property
    def fingerprint(self) -> str:
        """What tells two requests apart that make different files."""
        told = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _LOCAL}
        # Credentials are nobody's business, and expire.
        told["reader_options"] = {
            name: value for name, value in self.reader_options.items() if name != "storage_options"
        }
        text = json.dumps(told, sort_keys=True, default=_plain)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, np.ndarray):
        return value.tolist()
    return str(value)


def parse_split(value: str | Sequence[str] | None) -> tuple[str, ...]:
    """Read the axes to split by: "c,t", ["c", "t"] or None; "s" is the same as "series".

    Raises
    ------
    BadArgument
        One of them is no axis that files can be split by.
    """
    parts = value.split(",") if isinstance(value, str) else list(value or ())
    names = ["series" if part.strip().lower() == "s" else part.strip().lower() for part in parts]
    wrong = [name for name in names if name not in SPLITS]
    if wrong:
        raise BadArgument(f"split={wrong[0]!r}: files are split by some of {', '.join(SPLITS)}.")
    return tuple(name for name in SPLITS if name in names)


def parse_crop(value: str | Sequence[int] | None) -> tuple[int, int, int, int] | None:
    """Read a box, x, y, width, height in pixels, as bfconvert's ``-crop`` has it.

    Raises
    ------
    BadArgument
        Not four integers, or a box without area.
    """
    if value is None:
        return None
    parts = value.split(",") if isinstance(value, str) else list(value)
    try:
        x, y, width, height = (int(part) for part in parts)
    except ValueError:
        x = y = width = height = -1
    if min(x, y) < 0 or min(width, height) < 1:
        raise BadArgument(f"crop={value!r}: give x,y,width,height in pixels, such as 0,0,512,512.")
    return x, y, width, height


def parse_positions(value: Any, what: str) -> Any:
    """Read positions along an axis: text such as "3", "5:", "0:10:2,15" becomes numbers and slices.

    Anything else is returned as it is.

    Raises
    ------
    BadArgument
        The text is no number and no range.
    """
    if not isinstance(value, str):
        return value
    chosen: list[Any] = []
    for part in value.split(","):
        found = re.fullmatch(r"\s*(-?\d+)?(:(-?\d+)?(:(-?\d+)?)?)?\s*", part)
        if found is None or not part.strip():
            raise BadArgument(f"{what}={value!r}: give positions such as 3, 0:10, 0:10:2 or 0,4,7.")
        first, is_range, stop, _, step = found.groups()
        if not is_range:
            chosen.append(int(first))
            continue
        cut = slice(*(None if text is None else int(text) for text in (first, stop, step)))
        if cut.step == 0:
            raise BadArgument(f"{what}={value!r}: a step cannot be 0.")
        chosen.append(cut)
    return chosen


def parse_size(value: str | int | None, what: str = "memory") -> int | None:
    """Read a number of bytes: 500000000, "512M", "2g".

    Raises
    ------
    BadArgument
        Not a size, or below 16 MiB.
    """
    if value is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", str(value).strip().lower())
    if found is None:
        raise BadArgument(f"{what}={value!r}: give bytes, or a size such as 512M or 2G.")
    size = int(float(found.group(1)) * 1024 ** " kmgt".index(found.group(2) or " "))
    if size < 16 << 20:
        raise BadArgument(f"{what}={value!r}: at least 16M are needed.")
    return size
