"""Optional parts of the backend contract: files that are written at their final place.

A format whose files can become longer implements `ExtendableBackend`; one that stores each chunk
separately implements `ChunkedStoreBackend`. The library checks for them with ``issubclass``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bfbridge.backend import Image, ImageSpec, Shape5, WriterBackend
from bfbridge.errors import Unsupported

if TYPE_CHECKING:
    from pathlib import Path

    from ome_types import OME

    from bfbridge.storage.source import Source

__all__ = ["ChunkedStoreBackend", "ExtendableBackend", "ResumedWriter"]


class ResumedWriter(WriterBackend):
    """A writer of an existing file, returned by the class methods of the contracts below."""

    @property
    @abstractmethod
    def images(self) -> Sequence[ImageSpec]:
        """Images that are written."""

    @abstractmethod
    def unit(self, image: int, level: int = 0) -> Shape5:
        """Return the smallest box (T, C, Z, Y, X) that one process must write alone."""

    @abstractmethod
    def release(self) -> None:
        """End this process's part of a file made with `create`, without finishing the file."""


class ExtendableBackend(WriterBackend):
    """A writer of a format to whose finished files time points can be added."""

    @classmethod
    @abstractmethod
    def extend(cls, path: Path | Source, count: int) -> ResumedWriter:
        """Start to add `count` time points to a finished file. The images contain only these.

        Readers see the old image until `finish`, and in every moment of it the old one or the new
        one; after `abort`, an error or a kill too. `path` is a source, that of a URL, only if the
        writer has `at_urls`. The caller excludes other writers of bfbridge.

        Raises
        ------
        Unsupported
            This file cannot be extended; the message has the reason.
        """


class ChunkedStoreBackend(ExtendableBackend):
    """A writer of a format that stores each chunk separately.

    Several processes may write regions of one file; see `create`.
    """

    @classmethod
    @abstractmethod
    def create(
        cls,
        target: Path | Source,
        images: Sequence[ImageSpec],
        ome: OME | None,
        options: Mapping[str, Any],
    ) -> ResumedWriter:
        """Start a file at its final place for several processes, like `prepare` for one process."""

    @classmethod
    @abstractmethod
    def open_existing(cls, target: Path | Source) -> ResumedWriter:
        """Open a file made with `create` to write a part of it, in this or another process."""

    @classmethod
    @abstractmethod
    def update(cls, path: Path) -> ResumedWriter:
        """Start to replace pixels of a finished file, in place."""

    @classmethod
    def add_label(
        cls,
        path: Path,
        image: int,
        spec: ImageSpec,
        options: Mapping[str, Any],
        *,
        replaced: bool = False,
    ) -> ResumedWriter:
        """Start to add a label image, named in `spec`, to image number `image` of a finished file.

        With `replaced`, labels of that name are replaced. `spec.extras.other["image-label"]` has
        the colours and properties of labels.

        Raises
        ------
        TargetExists
            The image has labels of that name.
        Unsupported
            The format, or this file, cannot have further labels.
        """
        del image, spec, options, replaced
        raise Unsupported(f"{path}: {cls.name} cannot add labels to a finished file.")

    @classmethod
    def create_levels(
        cls, target: Path | Source, wanted: Callable[[Image], ImageSpec | None]
    ) -> int:
        """Start to add lower levels to images of a finished file; return the number of images.

        `wanted` returns an image with its new levels, or None for an image that stays as it is.
        Afterwards each process opens the file with `open_existing`: ``read_block`` of level 0
        returns the stored pixels, and only lower levels are written. Readers see the images as they
        were until ``finish``. What an interrupted call left is removed first.

        Raises
        ------
        Unsupported
            The format, or this file, cannot have further levels.
        """
        del wanted
        raise Unsupported(f"{target}: {cls.name} cannot add levels to a finished file.")

    @classmethod
    def discard_levels(cls, target: Path | Source) -> None:
        """Remove what `create_levels` began and nobody finished; do nothing without it."""
        del target
