"""Optional part of the backend contract: files that are written where they are.

Only formats that store each chunk separately can support these operations. The library queries
them with ``issubclass(writer, ChunkedStoreBackend)``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from bfbridge.backend import ImageSpec, WriterBackend

if TYPE_CHECKING:
    from pathlib import Path

    from ome_types import OME

    from bfbridge.storage.source import Source

__all__ = ["ChunkedStoreBackend", "ResumedWriter"]


class ResumedWriter(WriterBackend):
    """A writer of a file that exists already: made by a `ChunkedStoreBackend`."""

    @property
    @abstractmethod
    def images(self) -> Sequence[ImageSpec]:
        """What is being written."""

    @abstractmethod
    def release(self) -> None:
        """End this process's part of a file made with `create`, without finishing the file."""


class ChunkedStoreBackend(WriterBackend):
    """A writer of a format that stores each chunk separately."""

    supports_regions: ClassVar[bool] = True

    @classmethod
    @abstractmethod
    def create(
        cls,
        target: Path | Source,
        images: Sequence[ImageSpec],
        ome: OME | None,
        options: Mapping[str, Any],
    ) -> ResumedWriter:
        """Start a file at its final place for several processes, as `prepare` does for one."""

    @classmethod
    @abstractmethod
    def open_existing(cls, target: Path | Source) -> ResumedWriter:
        """Take part in writing a file made with `create`, in this or another process."""

    @classmethod
    @abstractmethod
    def extend(cls, path: Path, count: int) -> ResumedWriter:
        """Start to add `count` time points to a finished file; its image has these only."""

    @classmethod
    @abstractmethod
    def update(cls, path: Path) -> ResumedWriter:
        """Start to write other pixels into a finished file, in place."""
