"""The backend contract: records that describe images, and an abstract class for each direction.

Arrays have the five axes T, C, Z, Y, X, native byte order and any strides. C counts channels x
samples, the sample fastest, like the effective channels of Bio-Formats.

Methods take `image`, the number of an image of the file, and `level`, the number of one of its
levels; `index` is the grid position of a chunk along T, C, Z, Y, X; `options` are those of the
reader or writer; `stored` is the encoding of the chunks of another file, of shape `chunk`.

A backend does not use numpy keys, thread pools, caches, pyramids, progress, temporary names, or
other backends. All methods documented as thread-safe are called from many threads at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from bfbridge.chunk_grid import AXES, ChunkGrid, Shape5, StoredAs, StoredRanges
from bfbridge.errors import Unsupported
from bfbridge.georeference import GeoReference
from bfbridge.limits import DEFAULT_LIMITS, Limits
from bfbridge.placement import PixelSize, Placement, Quantity
from bfbridge.runtime.writer_options import split_compression

if TYPE_CHECKING:
    from pathlib import Path

    from ome_types import OME

    from bfbridge.storage.source import Source

__all__ = [
    "AXES",
    "Channel",
    "ChunkGrid",
    "Extras",
    "GeoReference",
    "Image",
    "ImageSpec",
    "Level",
    "Modulo",
    "OpenOptions",
    "PixelSize",
    "Placement",
    "Quantity",
    "ReaderBackend",
    "Region",
    "Shape5",
    "StoredAs",
    "StoredRanges",
    "WriterBackend",
]

Role = Literal["image", "label", "macro", "thumbnail"]


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel of an image; an RGB channel has three samples.

    Attributes
    ----------
    name
        Name as stored, or None.
    color
        (red, green, blue, alpha), 0 to 255 each, or None.
    emission, excitation
        Wavelengths with their units, or None.
    samples
        Number of samples of a pixel of this channel.
    window
        Lowest and highest value of the display range as stored, or None.
    active
        Whether the channel is visible when the image is opened.
    """

    name: str | None = None
    color: tuple[int, int, int, int] | None = None
    emission: Quantity | None = None
    excitation: Quantity | None = None
    samples: int = 1
    window: tuple[float, float] | None = None
    active: bool = True


@dataclass(frozen=True, slots=True)
class Level:
    """One resolution of an image.

    Attributes
    ----------
    shape
        Sizes along T, C (channels x samples), Z, Y, X.
    chunk
        Stored block (TIFF tile or strip, Zarr chunk, the Java reader's preferred block), along the
        same axes. Requests aligned to it decode no chunk twice.
    shard
        Block that is stored as one object, of several chunks; None if each chunk is one.
    """

    shape: Shape5
    chunk: Shape5
    shard: Shape5 | None = field(default=None, compare=False)

    @property
    def grid(self) -> ChunkGrid:
        """The chunks of the level: their number, and the box of each."""
        return ChunkGrid(self.shape, self.chunk)


@dataclass(frozen=True, slots=True)
class Image:
    """One image of a file: an OME Image, a Bio-Formats series, a scene.

    Attributes
    ----------
    name
        Name as stored, or None.
    levels
        Resolutions, full size first; never empty.
    dtype
        Dtype of the pixels, in native byte order.
    byteorder
        As stored: "<" or ">".
    samples
        Samples per pixel; C of every level is channels x samples.
    interleaved
        Whether the samples of a pixel are adjacent in the stored chunk.
    pixel_size, channels
        Physical size and channel records; ``len(channels) * samples == levels[0].shape[1]``.
    role
        Purpose of the image; all roles except "image" are listed as associated images.
    label_of
        For a label image whose values are numbers of objects: the number of the image with these
        objects, or None if that image is not in the file.
    photo
        Whether a label image is a photograph of a slide's label, whose values are intensities.
    significant_bits
        Number of bits of each value that contain information (12 for a 12-bit camera in uint16).
    time_step
        Between two time points, where the record says it; the OME document may know more.
    placement
        Where the image lies among the other images of the file; None where the format does not
        store it in pixels.
    """

    name: str | None
    levels: tuple[Level, ...]
    dtype: np.dtype[Any]
    byteorder: Literal["<", ">"] = "<"
    samples: int = 1
    interleaved: bool = False
    pixel_size: PixelSize = field(default_factory=PixelSize)
    channels: tuple[Channel, ...] = ()
    role: Role = "image"
    significant_bits: int | None = None
    label_of: int | None = None
    photo: bool = False
    time_step: Quantity | None = None
    placement: Placement | None = None

    @property
    def is_mask(self) -> bool:
        """Whether the values are numbers of objects, as in NGFF's label images.

        Such values are never averaged: a mean of two numbers is the number of another object.
        """
        return (
            self.role == "label"
            and not self.photo
            and self.samples == 1
            and self.dtype.kind in "biu"
        )


@dataclass(frozen=True, slots=True)
class Region:
    """A box of one `level` of one `image`: from `start` to before `stop` along T, C, Z, Y, X."""

    image: int
    level: int
    start: Shape5
    stop: Shape5

    @property
    def shape(self) -> Shape5:
        """Lengths along T, C, Z, Y, X."""
        t, c, z, y, x = (b - a for a, b in zip(self.start, self.stop, strict=True))
        return t, c, z, y, x

    def __str__(self) -> str:
        ranges = ", ".join(
            f"{axis.lower()} {a}" if b == a + 1 else f"{axis.lower()} {a}:{b}"
            for axis, a, b in zip(AXES, self.start, self.stop, strict=True)
        )
        return f"image {self.image}, level {self.level}, {ranges}"


@dataclass(frozen=True, slots=True)
class Modulo:
    """A further axis inside Z, C or T (lifetime, angle, lambda ...), as in loci.formats.Modulo.

    Attributes
    ----------
    type
        Quantity of the axis: "lifetime", "angle", "phase", "tile", "lambda".
    start, step, end
        First value, step and last value, in `unit`.
    unit
        Unit of the values, or None.
    labels
        Values that are not numbers.
    length
        Number of values. The size of Z, C or T is a multiple of it.
    fastest
        Whether this axis varies faster than the rest of Z, C or T; None if that is not known.
    """

    type: str
    start: float
    step: float
    end: float
    unit: str | None
    labels: tuple[str, ...]
    length: int
    fastest: bool | None = True


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


class ReaderBackend(ABC):
    """One open file. Made by `open`, released by `close`; both may be called from any thread.

    Attributes
    ----------
    name
        Name of the backend.
    waits
        Whether `read` mostly waits for a server, so that more threads than CPUs make it faster.
    rectangles
        Left, top, width, height of scenes on one plane, by number (None: it has none), in pixels.
    """

    name: ClassVar[str]
    waits: bool = False
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
        """Return where an image lies on the Earth, or None if the file does not say."""
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

    @abstractmethod
    def close(self) -> None:
        """Release files and memory. May be called twice."""


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

    @abstractmethod
    def abort(self) -> None:
        """Release everything without completing the file. May be called at any time, and twice."""
