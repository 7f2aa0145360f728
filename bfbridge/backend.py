"""The contract a backend meets: records that describe images, and one ABC each way.

Arrays handed across this contract have five axes in the order T, C, Z, Y, X and native byte
order. C counts what users index: channels times samples, sample fastest, as Bio-Formats'
effective channels count. Any strides are allowed.

A backend does not know: numpy keys, thread pools, caches, pyramids, progress, temporary names,
or any other backend. All methods named thread-safe are called from many threads at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np

from bfbridge.chunk_grid import AXES, ChunkGrid, Shape5, StoredAs, StoredRanges
from bfbridge.errors import Unsupported
from bfbridge.limits import DEFAULT_LIMITS, Limits
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


class Quantity(NamedTuple):
    """A number with its unit, as OME writes units ("µm", "nm", "pixel")."""

    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class PixelSize:
    """Physical size of one pixel along x, y and z; None where the file does not say."""

    x: Quantity | None = None
    y: Quantity | None = None
    z: Quantity | None = None


class Placement(NamedTuple):
    """Where an image lies in the pixel coordinates that the images of a file share.

    Attributes
    ----------
    scene
        Number of the scene that the image is, or is a tile of.
    y, x
        Of its first pixel, in pixels of full size; they may be negative.
    """

    scene: int
    y: int
    x: int


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel of an image; an RGB channel has three samples.

    Attributes
    ----------
    name
        As stored, or None.
    color
        (red, green, blue, alpha), 0 to 255 each, or None.
    emission, excitation
        Wavelengths with their unit, or None.
    samples
        Samples a pixel of this channel holds.
    window
        Least and greatest value of the display range as stored, or None.
    active
        Whether the file says that the channel is shown when the image is opened.
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
        Block really stored (TIFF tile or strip, Zarr chunk, the Java reader's preferred block),
        along the same axes. Requests aligned to it decode nothing twice.
    """

    shape: Shape5
    chunk: Shape5

    @property
    def grid(self) -> ChunkGrid:
        """The level's chunks: how many there are, and the box of each."""
        return ChunkGrid(self.shape, self.chunk)


@dataclass(frozen=True, slots=True)
class Image:
    """One image of a file: an OME Image, a Bio-Formats series, a scene.

    Attributes
    ----------
    name
        As stored, or None.
    levels
        Resolutions, full size first; never empty.
    dtype
        Of the pixels, in native byte order.
    byteorder
        As stored: "<" or ">".
    samples
        Samples per pixel; C of every level is channels x samples.
    interleaved
        Whether the samples of a pixel lie side by side in the stored chunk.
    pixel_size, channels
        Physical size and channel records; ``len(channels) * samples == levels[0].shape[1]``.
    role
        What the image is for; all but "image" are listed as associated images.
    label_of
        Of a label image whose values number objects: the number of the image they lie in, or None
        where that image is not in the file.
    photo
        Whether a label image is the photograph of a slide's label, whose values number nothing.
    significant_bits
        Bits of each value that carry information (12 for a 12-bit camera in uint16).
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
        """Whether the values are numbers of objects, as of NGFF's label images.

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
    """A box of one level of one image: half-open ranges along T, C, Z, Y, X."""

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
    """A further axis folded into Z, C or T (lifetime, angle, lambda ...), as loci.formats.Modulo.

    Attributes
    ----------
    type
        What it counts: "lifetime", "angle", "phase", "tile", "lambda".
    start, step, end
        Of its values, in `unit`.
    unit
        Or None.
    labels
        Of its values, where they are not numbers.
    length
        How many values; the axis it is folded into is a multiple of it, this one running fastest.
    """

    type: str
    start: float
    step: float
    end: float
    unit: str | None
    labels: tuple[str, ...]
    length: int


@dataclass(frozen=True, slots=True)
class OpenOptions:
    """How a file is to be opened.

    Attributes
    ----------
    limits
        What the file may ask of this process.
    max_workers
        Most threads that will call ``read`` at once.
    workers_chosen
        Whether the caller named `max_workers`, and it is not the number of CPUs.
    group_files
        Whether files that belong together are read as one data set; None is the format's default.
    allow_outside
        Whether a file may name companions outside its own folder.
    backend_options
        Settings of one backend by name, such as ``{"zeissczi.autostitch": False}``. A backend
        refuses names it does not know.
    isolated
        Whether Java runs in worker processes, whose crash is an error and not the end of this one.
        Backends without Java take no notice.
    timeout
        Seconds that Java may take to open the file, or for one call of ``read``; None: no limit.
    """

    limits: Limits = DEFAULT_LIMITS
    max_workers: int = 1
    workers_chosen: bool = True
    group_files: bool | None = None
    allow_outside: bool = False
    backend_options: Mapping[str, Any] = field(default_factory=dict)
    isolated: bool = False
    timeout: float | None = None


class ReaderBackend(ABC):
    """One open file. Made by `open`, released by `close`; both may be called from any thread.

    Attributes
    ----------
    name
        Of the backend.
    waits
        Whether `read` mostly waits for a server, so that more of them at once than CPUs pay.
    """

    name: ClassVar[str]
    waits: bool = False

    @classmethod
    @abstractmethod
    def open(cls, source: Source, options: OpenOptions) -> ReaderBackend:
        """Open a file, reading no pixels.

        Raises
        ------
        Unsupported
            The file is not this backend's, or is of a kind that it does not understand; the
            message is the reason, one short clause. Another backend is tried.
        BfbridgeError
            The file is this backend's, and is damaged, contradicts itself, misses a part, or is
            hostile. No other backend is tried.
        """

    @property
    @abstractmethod
    def images(self) -> Sequence[Image]:
        """Every image of the file, associated ones last; never empty."""

    @abstractmethod
    def read(self, region: Region, out: np.ndarray[Any, Any]) -> None:
        """Fill `out` (shape ``region.shape``, the image's dtype) exactly, or raise. Thread-safe.

        The region lies inside the level, and need not be aligned to chunks. What cannot be read is
        an error, never zeros; only what the format defines as absent takes its fill value.
        """

    def reads_parts(self, image: int, level: int) -> bool:
        """Whether a part of a chunk costs clearly less to read than all of it."""
        del image, level
        return False

    def lookup_table(self, image: int, channel: int = 0) -> np.ndarray[Any, Any] | None:
        """Return the colours of an indexed image, 3 x values, or None for one that is not."""
        del image, channel
        return None

    def icc_profile(self, image: int) -> bytes | None:
        """Return the ICC colour profile stored with an RGB image, or None."""
        del image
        return None

    def modulo(self, image: int) -> Mapping[str, Any]:
        """Axes of an image ("Z", "C", "T") that hold another axis folded in, with what it is."""
        del image
        return {}

    def stored_as(self, image: int, level: int) -> StoredAs | None:
        """Return how every chunk of a level is encoded, or None where they cannot be copied."""
        del image, level
        return None

    def read_stored(self, image: int, level: int, index: Shape5) -> bytes | None:
        """Return a chunk as it is stored, or None for one that holds zeros. Thread-safe."""
        raise Unsupported(f"chunks of image {image}, level {level} are not handed out encoded.")

    def stored_ranges(self, image: int, level: int) -> StoredRanges:
        """Return the byte ranges of the chunks of a level.

        Raises
        ------
        Unsupported
            Chunks cannot be fetched by range and decoded separately; the message is the reason.
        """
        del image, level
        raise Unsupported(f"the {self.name} backend does not know byte ranges of chunks")

    @abstractmethod
    def ome_xml(self) -> str | None:
        """Return the file's OME-XML, stored or made; None where it cannot be expressed as XML."""

    @abstractmethod
    def ome(self) -> OME:
        """Return all images' metadata as an OME document, built on demand."""

    @property
    @abstractmethod
    def original_metadata(self) -> Mapping[str, Any]:
        """The format's own metadata, flat, by its own names."""

    @property
    @abstractmethod
    def used_files(self) -> Sequence[str]:
        """Every file that belongs to this data set, the main one first."""

    @abstractmethod
    def close(self) -> None:
        """Release files and memory. May be called twice."""


@dataclass(frozen=True, slots=True)
class Extras:
    """What a file says of one image and the OME model has no place for; false if nothing.

    Values are those of JSON. `bfbridge.ome.extras` carries them along with an OME document.

    Attributes
    ----------
    channels
        For each channel (x samples) how it is displayed, by the names of NGFF's ``omero``: window,
        active, coefficient, family, inverted and whatever else was stored.
    origin
        Where the centre of the first pixel lies along "x", "y", "z" and "t".
    other
        All else, by name.
    """

    channels: tuple[Mapping[str, Any], ...] = ()
    origin: Mapping[str, Quantity] = field(default_factory=dict)
    other: Mapping[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(any(self.channels) or self.origin or self.other)


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """What one image of a new file will be; complete before the first block is written.

    Attributes
    ----------
    image
        Name, dtype, samples, channels, pixel sizes and levels. ``levels[i].chunk`` is the grid in
        which blocks arrive. With samples above 1 a chunk spans all samples of one channel.
    fill_value
        What areas never written hold.
    downsample
        How lower levels are made from level 0: "mean", "nearest" or "mode". For the record only.
    stored_as
        For each level whose chunks arrive by ``write_stored``, how they are encoded.
    extras
        What else the source said of the image.
    """

    image: Image
    fill_value: float = 0
    downsample: str = "mean"
    stored_as: tuple[StoredAs | None, ...] = ()
    extras: Extras = field(default_factory=Extras)

    def copied(self, level: int) -> StoredAs | None:
        """How the chunks of a level that arrive encoded are encoded; None where pixels arrive."""
        return self.stored_as[level] if level < len(self.stored_as) else None


class WriterBackend(ABC):
    """One file being written: ``prepare``, ``write_block`` in any order, then ``finish``/``abort``.

    The file is made under `target`, a name in a private folder; the caller moves it to its
    final name after ``finish``. A backend creates nothing outside that folder.

    Attributes
    ----------
    name
        Of the backend.
    at_urls
        Whether `prepare`, `create` and `open_existing` also take the `Source` of a URL. The file is
        made at its final place, and no reader may open it before ``finish``.
    supports_regions
        Whether several processes can write regions of one file; see `create`.
    option_names
        Names of the options that `normalize_options` takes.
    """

    name: ClassVar[str]
    at_urls: ClassVar[bool] = False
    supports_regions: ClassVar[bool] = False
    option_names: ClassVar[tuple[str, ...]] = ()

    @classmethod
    @abstractmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        """Raise `BadArgument` for option names or values this backend does not take."""

    @classmethod
    def normalize_options(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return options of `BioWriter` in this backend's own form, checked.

        Names and forms are the same for every backend: ``compression`` ("zstd", "zstd:5" or
        ("zstd", 5)), ``level``, ``chunks``, ``tile``, ``shards``; None is the default. The result
        may be passed again.
        """
        found = split_compression(options)
        cls.check(found)
        return found

    @classmethod
    def supports_levels(cls, target: str) -> bool:
        """Whether files of this name have lower resolution levels."""
        del target
        return True

    @classmethod
    def supports_dtype(cls, dtype: np.dtype[Any]) -> bool:
        """Whether files of this format hold pixels of a type."""
        return dtype.kind not in "iu" or dtype.itemsize < 8

    @classmethod
    def options_for_copy(
        cls, stored: StoredAs, chunk: Shape5, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the options under which chunks encoded like this are stored unchanged."""
        del stored, chunk
        return dict(options)

    @classmethod
    @abstractmethod
    def default_chunk(cls, image: Image, options: Mapping[str, Any]) -> Shape5:
        """Return the grid that blocks of an image are to arrive in, from its options.

        Raises
        ------
        Unsupported
            This format cannot hold the image's dtype, samples or axes.
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
        """Start a file.

        `ome` has true sizes and one Image for each of `images`, in order. It is None where the OME
        schema has no name for a dtype (int64, uint64) of an image that is no mask; the file then
        goes without.
        """

    @abstractmethod
    def write_block(
        self, image: int, level: int, index: Shape5, block: np.ndarray[Any, Any]
    ) -> None:
        """Store the chunk at grid position `index` (T, C, Z, Y, X). Thread-safe.

        `block` has native byte order and is cropped at the image's edge; it may be any strides, and
        is not kept after the call. Writing a chunk again replaces it.
        """

    @abstractmethod
    def read_block(self, image: int, level: int, index: Shape5) -> np.ndarray[Any, Any] | None:
        """Return a chunk written before, decoded, or None if it never was. Thread-safe.

        Serves regions that meet a finished chunk again. Lossy codecs lose once more.
        """

    @classmethod
    def can_store(cls, stored: StoredAs, image: Image, options: Mapping[str, Any]) -> bool:
        """Whether chunks encoded like this can be stored as they are in a file of these options."""
        del stored, image, options
        return False

    def write_stored(self, image: int, level: int, index: Shape5, data: bytes) -> None:
        """Store a chunk that is encoded already, as the level's `StoredAs` says. Thread-safe."""
        raise Unsupported(f"{self.name} files take no encoded chunks.")

    @abstractmethod
    def finish(self) -> None:
        """Complete the file; chunks never written take the fill value."""

    @abstractmethod
    def abort(self) -> None:
        """Release everything without completing. May be called at any time, and twice."""
