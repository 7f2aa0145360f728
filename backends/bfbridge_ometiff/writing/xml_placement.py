"""The OME-XML in a written OME-TIFF: the caller's document, with sizes and types of the file."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from bfbridge.backend import ImageSpec
from bfbridge.errors import BadArgument
from bfbridge.ome.documents.model import xml_from_model
from bfbridge.ome.pixel_types import pixel_type_of
from bfbridge.tiff.packing import BYTE_ORDER

if TYPE_CHECKING:
    from ome_types import OME

__all__ = ["finished_document", "xml_of"]


def finished_document(ome: OME, specs: Sequence[ImageSpec]) -> OME:
    """Return the document to store; the caller's document is not changed.

    Sizes, pixel type, samples and byte order are those of `specs`. The planes of each image are
    consecutive in its DimensionOrder, so one TiffData without a file name describes them, and
    stays correct when the file is renamed.

    Raises
    ------
    BadArgument
        The number of images in the document is not that of the specs.
    """
    from ome_types import model

    if len(ome.images) != len(specs):
        raise BadArgument(
            f"the metadata describes {len(ome.images)} images, but {len(specs)} are written."
        )
    # Only what is changed below is copied: a document may have many planes and annotations.
    images, first = [], 0
    for image, spec in zip(ome.images, specs, strict=True):
        size_t, size_c, size_z, size_y, size_x = spec.image.levels[0].shape
        planes = size_t * (size_c // spec.image.samples) * size_z
        # One copy with valid values: each assignment to a field validates the whole element.
        pixels = image.pixels.model_copy(
            update={
                "size_t": size_t, "size_c": size_c, "size_z": size_z, "size_y": size_y,
                "size_x": size_x, "type": model.PixelType(pixel_type_of(spec.image.dtype)),
                "big_endian": BYTE_ORDER == ">", "interleaved": spec.image.samples > 1,
                "tiff_data_blocks": [model.TiffData(ifd=first, plane_count=planes)],
                "bin_data_blocks": [], "metadata_only": None,
                "channels": [channel.model_copy() for channel in image.pixels.channels],
            }
        )  # fmt: skip
        first += planes
        _fit_channels(pixels, size_c // spec.image.samples, spec.image.samples)
        images.append(image.model_copy(update={"pixels": pixels}))
    document = ome.model_copy(
        update={
            "images": images, "uuid": f"urn:uuid:{uuid.uuid4()}", "binary_only": None,
            "creator": "bfbridge" if ome.creator is None else ome.creator,
        }
    )  # fmt: skip
    _make_unique(list(document.images), "Image")
    _make_unique([image.pixels for image in document.images], "Pixels")
    _make_unique([c for image in document.images for c in image.pixels.channels], "Channel")
    return document


def xml_of(document: OME) -> str:
    """Return the text of a document, with a declaration."""
    # Some readers recognise OME-XML by its first five characters.
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{xml_from_model(document)}'


def _fit_channels(pixels: Any, wanted: int, samples: int) -> None:
    """Limit the channels to those of the image."""
    from ome_types import model

    del pixels.channels[wanted:]
    owner = pixels.id.partition(":")[2] or "0"
    for index in range(len(pixels.channels), wanted):
        pixels.channels.append(model.Channel(id=f"Channel:{owner}:{index}"))
    for channel in pixels.channels:
        if channel.samples_per_pixel != samples:
            channel.samples_per_pixel = samples


def _make_unique(parts: Iterable[Any], kind: str) -> None:
    """Assign new identifiers to parts whose identifier is already in use."""
    parts = list(parts)
    taken: set[str] = set()
    known = {part.id for part in parts}
    number = 0
    for part in parts:
        if part.id in taken:
            while f"{kind}:{number}" in known:
                number += 1
            part.id = f"{kind}:{number}"
            known.add(part.id)
        taken.add(part.id)
