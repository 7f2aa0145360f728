"""`WriterBackend`: what a backend that writes implements, and the description of a new image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bfbridge.backend.chunk_grid import Shape5, StoredAs
from bfbridge.backend.images import Image, Quantity
from bfbridge.errors import Unsupported
from bfbridge.runtime.writer_options import split_compression

if TYPE_CHECKING:
    from pathlib import Path

    from ome_types import OME


__all__ = ["Extras", "ImageSpec", "WriterBackend"]


@dataclass(frozen=True, slots=True)
class Extras:
    """Metadata of one image without a place in the OME model. False if empty.

    Values are those of JSON. `bfbridge.ome.extras` stores them in an OME document.

    Attributes
    ----------
    channels
        Display settings of each channel (x samples), with the names of NGFF's ``omero``: window,
        active, coefficient, family, inverted and all others that were stored.
    origin
        Position of the centre of the first pixel along "x", "y", "z" and "t".
    other
        All other entries, by name.
    """

    channels: tuple[Mapping[str, Any], ...] = ()
    origin: Mapping[str, Quantity] = field(default_factory=dict)
    other: Mapping[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(any(self.channels) or self.origin or self.other)


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """Description of one image of a new file; complete before the first block is written.

    Attributes
    ----------
    image
        Name, dtype, samples, channels, pixel sizes and levels. ``levels[i].chunk`` is the size of
        the blocks. With samples above 1 a chunk contains all samples of one channel.
    fill_value
        Value of pixels that are never written.
    downsample
        Method for lower levels: "mean", "nearest" or "mode". For the metadata only.
    stored_as
        Encoding of the chunks of each level whose chunks arrive by ``write_stored``.
    extras
        Further metadata of the source.
    steps
        Factors of each lower level relative to the level before it, along Z, Y, X. Empty if they
        follow from the sizes: several factors may reduce a small size to the same.
    """

    image: Image
    fill_value: float = 0
    downsample: str = "mean"
    stored_as: tuple[StoredAs | None, ...] = ()
    extras: Extras = field(default_factory=Extras)
    steps: tuple[tuple[int, int, int], ...] = ()

    def copied(self, level: int) -> StoredAs | None:
        """Return the encoding of a level whose chunks arrive encoded; None if pixels arrive."""
        return self.stored_as[level] if level < len(self.stored_as) else None


class WriterBackend(ABC):
    """One file being written: ``prepare``, ``write_block`` in any order, then ``finish``/``abort``.

    The file is made under `target`, a name in a private folder; the caller moves it to its final
    name after ``finish``. A backend creates nothing outside that folder.

    Attributes
    ----------
    name
        Name of the backend.
    at_urls
        Whether `prepare`, `create` and `open_existing` also accept the `Source` of a URL. The file
        is made at its final place, and no reader may open it before ``finish``.
    z_levels
        Whether lower levels may have fewer slices along Z.
    option_names
        Names of the options that `normalize_options` accepts.
    """

    name: ClassVar[str]
    at_urls: ClassVar[bool] = False
    z_levels: ClassVar[bool] = False
    option_names: ClassVar[tuple[str, ...]] = ()

    @classmethod
    @abstractmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        """Raise `BadArgument` for option names or values that this backend does not accept."""

    @classmethod
    def normalize_options(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return options of `BioWriter` in this backend's form, after checking them.

        Names and forms are the same for every backend: ``compression`` ("zstd", "zstd:5" or
        ("zstd", 5)), ``level``, ``chunks``, ``tile``, ``shards``; None is the default. The result
        may be passed again.
        """
        found = split_compression(options)
        cls.check(found)
        return found

    @classmethod
    def supports_levels(cls, target: str) -> bool:
        """Return whether files of the name `target` have lower resolution levels."""
        return True

    @classmethod
    def supports_dtype(cls, dtype: np.dtype[Any]) -> bool:
        """Return whether files of this format can store pixels of a `dtype`."""
        return dtype.kind not in "iu" or dtype.itemsize < 8

    @classmethod
    def options_for_copy(
        cls, stored: StoredAs, chunk: Shape5, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the options with which chunks of this encoding are stored unchanged."""
        return dict(options)

    @classmethod
    def encoded_bytes(cls, image: Image, block: Any, options: Mapping[str, Any]) -> int | None:
        """Return the bytes that `block`, as for `write_block`, takes in the file; None: not known.

        Nothing is written. `bfbridge.convert.plan_conversion` estimates sizes with it.
        """
        return None

    @classmethod
    @abstractmethod
    def default_chunk(cls, image: Image, options: Mapping[str, Any]) -> Shape5:
        """Return the size of the blocks in which an image must be written, from its options.

        Raises
        ------
        Unsupported
            This format cannot store the image's dtype, samples or axes.
        """

    @classmethod
    @abstractmethod
    def prepare(
        cls,
        target: Path,
        images: Sequence[ImageSpec],
        ome: OME | None,
        options: Mapping[str, Any],
    ) -> WriterBackend:
        """Start the file `target` with `images`.

        `ome` has the final sizes and one Image for each of `images`, in order. It is None if the
        OME schema has no name for a dtype (int64, uint64) of an image that is not a mask; then the
        file has no OME-XML.
        """

    @abstractmethod
    def write_block(
        self, image: int, level: int, index: Shape5, block: np.ndarray[Any, Any]
    ) -> None:
        """Store the chunk at grid position `index` (T, C, Z, Y, X). Thread-safe.

        `block` has native byte order and is cropped at the image's edge. It may have any strides,
        and must not be kept after the call. Writing a chunk again replaces it.
        """

    def write_unit(self, image: int, level: int) -> Shape5 | None:
        """Return the box of whole chunks (T, C, Z, Y, X) to store with one call of `write_joined`.

        None, for a single chunk, unless a call costs more than a small chunk.
        """
        return None

    def write_joined(
        self, image: int, level: int, index: Shape5, block: np.ndarray[Any, Any]
    ) -> None:
        """Store neighbouring chunks: `block` has whole chunks, that at `index` the first.

        Otherwise as `write_block`. Called only with a `write_unit`.
        """
        raise Unsupported(f"{self.name} files are written chunk by chunk.")

    @abstractmethod
    def read_block(self, image: int, level: int, index: Shape5) -> np.ndarray[Any, Any] | None:
        """Return a chunk that was written, decoded, or None if it never was. Thread-safe.

        Used if a region overlaps a finished chunk. Lossy codecs lose information again.
        """

    @classmethod
    def can_store(cls, stored: StoredAs, image: Image, options: Mapping[str, Any]) -> bool:
        """Return whether chunks of this encoding can be stored unchanged with these options."""
        return False

    def write_stored(self, image: int, level: int, index: Shape5, data: bytes) -> None:
        """Store a chunk whose bytes `data` are encoded as `StoredAs` says. Thread-safe."""
        raise Unsupported(f"{self.name} files cannot store chunks that are already encoded.")

    def move_stored(self, image: int, level: int, index: Shape5, path: Path) -> bool:
        """Make the file at `path`, with the bytes for `write_stored`, that of a chunk.

        Return False if the format has no file for each chunk. Thread-safe.
        """
        return False

    def trim(self, images: Sequence[ImageSpec], ome: OME | None) -> bool:
        """Reduce images to their first channel and time point, just before `finish`.

        `images` and `ome` replace those of `prepare`. Levels differ in the sizes T and C only; the
        chunks keep their positions, and none outside was written. Return False if the format
        cannot be reduced.
        """
        return False

    @abstractmethod
    def finish(self) -> None:
        """Complete the file; chunks never written get the fill value."""

    def stored_document(self) -> OME | None:
        """Return the OME document of the finished file if it is known without reading the file.

        Every value in it is one that a reader of the file returns. None if readers may return
        others: the format cannot store some of them, or has its own values beside the document.
        """
        return None

    @abstractmethod
    def abort(self) -> None:
        """Release everything without completing the file. May be called at any time, and twice."""
