"""The size of any TIFF from its first directory, even if this backend cannot read its pixels."""

from __future__ import annotations

from bfbridge.errors import UnreadableFile
from bfbridge.limits import DEFAULT_LIMITS
from bfbridge.storage.source import Source
from bfbridge.tiff.directories import TiffFile
from bfbridge.tiff.tags import Tag

__all__ = ["image_size"]


def image_size(source: Source) -> tuple[int, int]:
    """Return (width, height) of a TIFF's first directory.

    Raises
    ------
    UnreadableFile
        It is not a TIFF, or its first directory is damaged.
    """
    access = source.open()
    try:
        directory = TiffFile(access, source.name, DEFAULT_LIMITS).directory(0)
        if directory is None:
            raise UnreadableFile(f"{source.name}: this TIFF holds no image.")
        return directory.number(Tag.ImageWidth), directory.number(Tag.ImageLength)
    finally:
        access.close()
