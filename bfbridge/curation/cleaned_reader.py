"""An open file without the images and metadata that may identify somebody."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from bfbridge.backend import Channel, Image, ReaderBackend, Region, Shape5, StoredAs
from bfbridge.errors import BadArgument, BadSelection, UnreadableFile, Unsupported
from bfbridge.files.rearranged.wrapper import Wrapper
from bfbridge.ome.checks.identifying import cleaned_document, is_channel_name, neutral_names
from bfbridge.tiff.jpeg_segments import without_metadata

if TYPE_CHECKING:
    from ome_types import OME

__all__ = ["LABEL_IMAGES", "CleanedReader", "Rules", "why_left_out"]

Array = np.ndarray[Any, Any]
LABEL_IMAGES: Final = ("drop", "blank")
_JPEG: Final = "jpeg"
_PHOTOGRAPHS: Final = re.compile(
    r"\b(label|macro|overview|thumbnail|barcode|slide ?preview)s?\b", re.IGNORECASE
)
# An RGB image with less than this part of the pixels of the largest one may be a photograph.
_SMALL: Final = 1 / 16


@dataclass(frozen=True, slots=True)
class Rules:
    """What is kept of a file; the same as the parameters of `bfbridge.curation.deidentify`."""

    label_image: str = "drop"
    series: tuple[int, ...] | None = None
    positions: bool = False
    channel_names: bool = True

    def __post_init__(self) -> None:
        if self.label_image not in LABEL_IMAGES:
            raise BadArgument(
                f"label_image={self.label_image!r}: give one of {', '.join(LABEL_IMAGES)}."
            )
        if self.series is not None and len(set(self.series)) < len(self.series):
            raise BadArgument(f"series={list(self.series)}: an image is chosen twice.")

    def __call__(self, inner: ReaderBackend) -> ReaderBackend:
        """Return a backend around another one."""
        return CleanedReader(inner, self)


def why_left_out(image: Image) -> str:
    """Return why an image may show more than the sample; empty if it does not."""
    if image.role != "image":
        # The numbers of objects in a mask of another image of the file show nothing.
        return "" if image.is_mask and image.label_of is not None else image.role
    if image.samples >= 3 and _PHOTOGRAPHS.search(image.name or ""):
        return "photograph, by its name"
    return ""


def _refuse_unclear(images: Sequence[Image]) -> None:
    """Raise an error if a small colour image may be a photograph of the slide."""
    colored = [image for image in images if image.samples >= 3 and not why_left_out(image)]
    if not colored:
        return
    largest = max(colored, key=_area)
    for number, image in enumerate(images):
        if image not in colored or _area(image) >= _SMALL * _area(largest):
            continue
        if image.pixel_size.x is None or largest.pixel_size.x is None:
            y, x = image.levels[0].shape[3:]
            raise Unsupported(
                f"image {number}, {x} x {y} pixels without a pixel size, may be a photograph of "
                "the slide or its label. Look at it, and choose the images to keep with series= "
                "(--series)."
            )


def _area(image: Image) -> int:
    y, x = image.levels[0].shape[3:]
    return y * x


class CleanedReader(Wrapper):
    """A file without what may identify somebody; see `bfbridge.curation.deidentify`.

    Parameters
    ----------
    inner
        The open backend.
    rules
        What is kept.

    Raises
    ------
    BadSelection
        An image that is chosen does not exist, or none is left.
    Unsupported
        An image may be a photograph of the slide.
    """

    name: ClassVar[str] = "cleaned"

    def __init__(self, inner: ReaderBackend, rules: Rules) -> None:
        self._rules = rules
        images = inner.images
        if rules.series is None:
            _refuse_unclear(images)
        chosen = range(len(images)) if rules.series is None else rules.series
        for number in chosen:
            if not 0 <= number < len(images):
                raise BadSelection(f"series={number}: the file has {len(images)} images.")
        blank = rules.label_image == "blank"
        left_out = {n for n in chosen if rules.series is None and why_left_out(images[n])}
        self.numbers = tuple(n for n in chosen if blank or n not in left_out)
        if set(self.numbers) <= left_out:
            raise BadSelection(
                "no image is left: all are labels, macros or thumbnails. series= (--series) "
                "chooses images to keep."
            )
        self._blank = {place for place, n in enumerate(self.numbers) if n in left_out}
        super().__init__(inner, self._cleaned(inner))

    def _cleaned(self, inner: ReaderBackend) -> list[Image]:
        """Return the records of the images that are kept."""
        kept = [inner.images[number] for number in self.numbers]
        new = {number: place for place, number in enumerate(self.numbers)}
        return [
            replace(
                image, name=name, placement=None,
                channels=tuple(self._channel(channel) for channel in image.channels),
                label_of=None if image.label_of is None else new.get(image.label_of),
            )
            for image, name in zip(kept, neutral_names(kept), strict=True)
        ]  # fmt: skip

    def _channel(self, channel: Channel) -> Channel:
        name = channel.name
        kept = self._rules.channel_names and name is not None and is_channel_name(name)
        return channel if kept else replace(channel, name=None)

    def read(self, region: Region, out: Array) -> None:
        """Fill `out` from the file, or with zeros for a photograph."""
        if region.image in self._blank:
            out[...] = 0
            return
        self._inner.read(replace(region, image=self.numbers[region.image]), out)

    def reads_parts(self, image: int, level: int) -> bool:
        """Whether crops are fast."""
        return image in self._blank or self._inner.reads_parts(self.numbers[image], level)

    def decodes(self, image: int, level: int) -> bool:
        """Whether reading takes computation."""
        return image not in self._blank and self._inner.decodes(self.numbers[image], level)

    def stored_as(self, image: int, level: int) -> StoredAs | None:
        """Return the encoding of JPEG segments, whose metadata are removed; None for others.

        Other encodings have no metadata, but bytes beside those of the pixels may be hidden in
        them; they are decoded.
        """
        if image in self._blank:
            return None
        stored = self._inner.stored_as(self.numbers[image], level)
        if stored is None:
            return None
        details = dict(stored.details)
        if details.get("compression") != _JPEG:
            return None
        try:
            if details.get("tables"):
                details["tables"] = without_metadata(details["tables"])
        except ValueError:
            return None
        return StoredAs(stored.container, tuple(details.items()))

    def read_stored(self, image: int, level: int, index: Shape5) -> bytes | None:
        """Return a JPEG segment without its metadata.

        Raises
        ------
        UnreadableFile
            The segment is not a JPEG stream that is understood.
        """
        data = self._inner.read_stored(self.numbers[image], level, index)
        try:
            return None if data is None else without_metadata(data)
        except ValueError as error:
            raise UnreadableFile(
                f"image {self.numbers[image]}, level {level}, chunk {tuple(index)}: its JPEG "
                f"stream cannot be cleaned: {error}. Decode it with recompress=True (--recompress)."
            ) from error

    def icc_profile(self, image: int) -> bytes | None:
        """Return None: profiles name devices and people."""
        return None

    def lookup_table(self, image: int, channel: int = 0) -> Array | None:
        """Return the colours of an indexed image."""
        if image in self._blank:
            return None
        return self._inner.lookup_table(self.numbers[image], channel)

    def modulo(self, image: int) -> Mapping[str, Any]:
        """Return no further axes, whose labels are texts."""
        return {}

    def ome(self) -> OME:
        """Return a document of the metadata that are kept.

        Raises
        ------
        UnreadableFile
            The document does not have one image for each image of the file.
        """
        if self._document is None:
            document = self._inner.ome()
            if len(document.images) != len(self._inner.images):
                raise UnreadableFile(
                    f"the metadata describe {len(document.images)} images and the file contains "
                    f"{len(self._inner.images)}, so they cannot be cleaned."
                )
            self._document = cleaned_document(
                document, self.numbers, [str(image.name) for image in self._images],
                positions=self._rules.positions, channel_names=self._rules.channel_names,
            )  # fmt: skip
        return self._document

    @property
    def original_metadata(self) -> Mapping[str, Any]:
        """Nothing."""
        return {}

    def own_metadata(self) -> str | None:
        """Return None."""
        return None
