"""`ReaderBackend`: what a backend that reads implements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bfbridge.backend.chunk_grid import Shape5, StoredAs, StoredRanges
from bfbridge.backend.georeference import GeoReference
from bfbridge.backend.images import Image, Region
from bfbridge.errors import Unsupported
from bfbridge.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from ome_types import OME

    from bfbridge.storage.source import Source

__all__ = ["OpenOptions", "ReaderBackend"]


@dataclass(frozen=True, slots=True)
class OpenOptions:
    """Options for opening a file.

    Attributes
    ----------
    limits
        Limits on what the file may declare.
    max_workers
        Maximum number of threads that call ``read`` at once.
    workers_chosen
        Whether the caller set `max_workers`; otherwise it is the number of CPUs.
    group_files
        Whether files that belong together are read as one data set; None: default of the format.
    allow_outside
        Whether a file may refer to companion files outside its folder.
    backend_options
        Settings of one backend by name, such as ``{"zeissczi.autostitch": False}``. A backend
        refuses unknown names.
    isolated
        Whether Java runs in worker processes, so that a crash of Java is an error and does not end
        this process. Backends without Java ignore it.
    timeout
        Seconds that Java may take to open the file, or for one call of ``read``; None for no limit.
    thumbnails
        Whether a thumbnail that Bio-Formats omits (Aperio SVS) is an image, the last one.
    index
        Whether the metadata is kept on disk, so that the file opens faster the next time: in the
        user's cache folder (True), or in a folder. Backends that open every file fast ignore it.
    """

    limits: Limits = DEFAULT_LIMITS
    max_workers: int = 1
    workers_chosen: bool = True
    group_files: bool | None = None
    allow_outside: bool = False
    backend_options: Mapping[str, Any] = field(default_factory=dict)
    isolated: bool = False
    timeout: float | None = None
    thumbnails: bool = False
    index: bool | str = False


class ReaderBackend(ABC):
    """One open file. Made by `open`, released by `close`; both may be called from any thread.

    Attributes
    ----------
    name
        Name of the backend.
    waits
        Whether `read` mostly waits for a server, so that more threads than CPUs make it faster.
    note
        How the file was opened, a clause for `BioReader.backend_reason`; empty for the usual way.
    rectangles
        Left, top, width, height of scenes on one plane, by number (None: it has none), in pixels.
    """

    name: ClassVar[str]
    waits: bool = False
    note: str = ""
    rectangles: Mapping[int | None, tuple[int, int, int, int]] | None = None

    @classmethod
    @abstractmethod
    def open(cls, source: Source, options: OpenOptions) -> ReaderBackend:
        """Open the file `source`, without reading pixels.

        Raises
        ------
        Unsupported
            The backend does not read this format, or not this variant of it; the message is the
            reason, a short clause. Then another backend is tried.
        BfbridgeError
            The backend reads this format, but the file is damaged, inconsistent, incomplete or
            hostile. No other backend is tried.
        """

    @property
    @abstractmethod
    def images(self) -> Sequence[Image]:
        """Every image of the file, associated images last; never empty."""

    @abstractmethod
    def read(self, region: Region, out: np.ndarray[Any, Any]) -> None:
        """Fill `out` (shape ``region.shape``, the image's dtype) completely, or raise. Thread-safe.

        The `region` is inside the level, and need not be aligned to chunks. Pixels that cannot be
        read are an error, never zeros; only pixels that the format defines as absent get its fill
        value.
        """

    def reads_parts(self, image: int, level: int) -> bool:
        """Return whether reading a part of a chunk is clearly faster than reading all of it."""
        return False

    def decodes(self, image: int, level: int) -> bool:
        """Return whether reading takes computation outside the GIL, such as decompression.

        Small selections of other levels are read by one thread.
        """
        return not self.reads_parts(image, level)

    def read_unit(self, image: int, level: int) -> Shape5:
        """Return the box of whole chunks (T, C, Z, Y, X) to read with one call of `read`."""
        return self.images[image].levels[level].chunk

    def lookup_table(self, image: int, channel: int = 0) -> np.ndarray[Any, Any] | None:
        """Return the colours of an indexed `channel`, 3 x values, or None for other images."""
        return None

    def icc_profile(self, image: int) -> bytes | None:
        """Return the ICC colour profile stored with an RGB image, or None."""
        return None

    def georeference(self, image: int) -> GeoReference | None:
        """Return the position of an image on the Earth, or None if the file has none."""
        return None

    def modulo(self, image: int) -> Mapping[str, Any]:
        """Return the further axis in each of the axes "Z", "C", "T" that contains one."""
        return {}

    def stored_as(self, image: int, level: int) -> StoredAs | None:
        """Return the encoding of all chunks of a level, or None if they cannot be copied."""
        return None

    def read_stored(self, image: int, level: int, index: Shape5) -> bytes | None:
        """Return a chunk as it is stored, or None for a chunk of zeros. Thread-safe."""
        raise Unsupported(f"chunks of image {image}, level {level} cannot be read encoded.")

    def stored_ranges(self, image: int, level: int) -> StoredRanges:
        """Return the byte ranges of the chunks of a level.

        Raises
        ------
        Unsupported
            Chunks cannot be fetched by range and decoded separately; the message is the reason.
        """
        raise Unsupported(f"the {self.name} backend does not know byte ranges of chunks")

    @abstractmethod
    def ome_xml(self) -> str | None:
        """Return the file's OME-XML, stored or generated; None if XML cannot express it."""

    @abstractmethod
    def ome(self) -> OME:
        """Return all images' metadata as an OME document, built on demand."""

    def magnifications(self) -> Sequence[float | None] | None:
        """Return the magnification of each image's objective, if that is faster than `ome`."""
        return None

    @property
    @abstractmethod
    def original_metadata(self) -> Mapping[str, Any]:
        """Metadata of the format, flat, under the format's own names."""

    def own_metadata(self) -> str | None:
        """Return the format's own document, such as a CZI file's XML; None where it has none."""
        return None

    @property
    @abstractmethod
    def used_files(self) -> Sequence[str]:
        """Every file of this data set, the main file first."""

    def release(self) -> bool:
        """Close the files until `resume`, and keep what was read of their structure.

        Only if `resume` can detect every change after which `open` would find something else: in
        these files, and of files beside them; and only if this takes little memory, because a batch
        keeps thousands of readers. Otherwise return False, with nothing done. Not called during a
        read.
        """
        return False

    def resume(self) -> bool:
        """Open the files again after `release`; return False if one may have changed since."""
        return False

    @abstractmethod
    def close(self) -> None:
        """Release files and memory. May be called twice."""
