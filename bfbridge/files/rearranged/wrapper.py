"""A reader backend around another one: what changes of any kind share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bfbridge.backend import Image, OpenOptions, ReaderBackend, Region, Shape5, StoredAs
from bfbridge.errors import Unsupported

if TYPE_CHECKING:
    from ome_types import OME

    from bfbridge.storage.source import Source

__all__ = ["Wrapper", "five"]

Array = np.ndarray[Any, Any]


class Wrapper(ReaderBackend):
    """Another backend with other images; a subclass replaces what it changes.

    Parameters
    ----------
    inner
        The open backend.
    images
        The new images.
    """

    name: ClassVar[str] = "rearranged"

    def __init__(self, inner: ReaderBackend, images: Sequence[Image]) -> None:
        self._inner = inner
        self._images = tuple(images)
        self.waits = inner.waits
        self._document: OME | None = None

    @classmethod
    def open(cls, source: Source, options: OpenOptions) -> ReaderBackend:
        """Raise: this backend is made around another one."""
        raise Unsupported("rearranged images are made from those of another backend")

    @property
    def images(self) -> Sequence[Image]:
        """The new images."""
        return self._images

    def read(self, region: Region, out: Array) -> None:
        """Fill `out` from the inner backend."""
        self._inner.read(region, out)

    def reads_parts(self, image: int, level: int) -> bool:
        """Whether crops of an image that is unchanged are fast."""
        return self._is_same(image) and self._inner.reads_parts(image, level)

    def decodes(self, image: int, level: int) -> bool:
        """Whether reading an image that is unchanged takes computation; True for others."""
        return not self._is_same(image) or self._inner.decodes(image, level)

    def stored_as(self, image: int, level: int) -> StoredAs | None:
        """Return the encoding of an image that is unchanged."""
        return self._inner.stored_as(image, level) if self._is_same(image) else None

    def read_stored(self, image: int, level: int, index: Shape5) -> bytes | None:
        """Return a stored chunk of an image that is unchanged."""
        return self._inner.read_stored(image, level, index)

    def icc_profile(self, image: int) -> bytes | None:
        """Return the profile of an image that is unchanged."""
        return self._inner.icc_profile(image) if self._is_same(image) else None

    def lookup_table(self, image: int, channel: int = 0) -> Array | None:
        """Return the table of an image that is unchanged."""
        return self._inner.lookup_table(image, channel) if self._is_same(image) else None

    def modulo(self, image: int) -> Mapping[str, Any]:
        """Return the further axes of an image that is unchanged."""
        return self._inner.modulo(image) if self._is_same(image) else {}

    def _is_same(self, image: int) -> bool:
        inner = self._inner.images
        return image < len(inner) and inner[image] is self._images[image]

    def ome_xml(self) -> str | None:
        """Return `ome` as XML."""
        return self.ome().to_xml()

    def ome(self) -> OME:
        """Return the document with the changes."""
        if self._document is None:
            document = self._inner.ome().model_copy(deep=True)
            document.uuid = document.binary_only = None
            self.change_document(document)
            self._document = document
        return self._document

    def change_document(self, ome: OME) -> None:
        """Change a copy of the inner backend's document to that of the new images."""

    @property
    def original_metadata(self) -> Mapping[str, Any]:
        """Metadata of the format."""
        return self._inner.original_metadata

    def own_metadata(self) -> str | None:
        """Return the format's own document."""
        return self._inner.own_metadata()

    @property
    def used_files(self) -> Sequence[str]:
        """Every file of the data set."""
        return self._inner.used_files

    def close(self) -> None:
        """Release the inner backend."""
        self._inner.close()


def five(values: Sequence[int]) -> Shape5:
    """Return five sizes as a tuple."""
    t, c, z, y, x = values
    return t, c, z, y, x
