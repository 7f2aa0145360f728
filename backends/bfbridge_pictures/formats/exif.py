"""Exif data of a JPEG file (CIPA DC-008), with the names of that standard."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

__all__ = ["tags", "time"]

_SUB_DIRECTORY: Final = 0x8769
_LONGEST: Final = 4096


def tags(data: bytes) -> Mapping[str, Any]:
    """Return the tags of the first directory and of the Exif directory by name.

    Values are numbers and texts. Values longer than 4 KiB, such as makers' notes, are omitted; the
    result is empty if the data are damaged.
    """
    from PIL import ExifTags, Image

    found: dict[str, Any] = {}
    parsed = Image.Exif()
    try:
        parsed.load(b"Exif\0\0" + data)
        entries = {**parsed, **parsed.get_ifd(_SUB_DIRECTORY)}
    except Exception:  # noqa: BLE001 - whatever Pillow raises, the pixels can be read
        return found
    for number, value in entries.items():
        name = ExifTags.TAGS.get(number)
        plain = _plain(value)
        if name is not None and name != "ExifOffset" and plain is not None:
            found[name] = plain
    return found


def _plain(value: Any) -> Any:
    """Return a value as a number, a text, or a tuple of numbers; None for anything else."""
    if isinstance(value, bytes):
        value = value.rstrip(b"\0").decode("latin-1")
    if isinstance(value, str):
        return value.rstrip("\0 ") if len(value) <= _LONGEST else None
    if isinstance(value, int):
        return value
    if isinstance(value, tuple):
        parts = tuple(_plain(part) for part in value[:_LONGEST])
        return None if None in parts else parts
    try:
        return float(value)  # a fraction of Pillow
    except (TypeError, ValueError, ZeroDivisionError):
        return None


def time(text: object) -> datetime | None:
    """Return an Exif time ("2021:02:03 04:05:06"), or None if it is invalid."""
    try:
        # It has no zone; OME times have none either.
        return datetime.strptime(str(text).strip(), "%Y:%m:%d %H:%M:%S")  # noqa: DTZ007
    except ValueError:
        return None
