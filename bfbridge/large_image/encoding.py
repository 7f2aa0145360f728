"""Pixels as arrays, Pillow images, encoded pictures or tiled files, as large_image returns them."""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from bfbridge.errors import INSTALL, BadArgument, MissingExtra
from bfbridge.rendering.palettes import parse_color
from bfbridge.runtime.arguments import whole
from bfbridge.writer import BioWriter

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "MIME_TYPES",
    "TILE_FORMAT_IMAGE",
    "TILE_FORMAT_NUMPY",
    "TILE_FORMAT_PIL",
    "Encoder",
    "ImageBytes",
    "formats_of",
    "letterboxed",
    "to_eight_bits",
    "write_tiled",
]

Array = np.ndarray[Any, Any]
TILE_FORMAT_IMAGE: Final = "image"
TILE_FORMAT_PIL: Final = "PIL"
TILE_FORMAT_NUMPY: Final = "numpy"
MIME_TYPES: Final = {
    "JPEG": "image/jpeg",
    "JFIF": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
    "TILED": "image/tiff",
}
_ROWS: Final = 1024
"""MIME type by encoding. "TILED" is a tiled TIFF file, of regions only."""
_TIFF_COMPRESSIONS: Final = {
    "none": "raw", "lzw": "tiff_lzw", "deflate": "tiff_adobe_deflate", "jpeg": "jpeg",
    "packbits": "packbits",
}  # fmt: skip


class ImageBytes(bytes):
    """An encoded picture, which notebooks show.

    Parameters
    ----------
    data
        The file.
    mimetype
        What it is.
    """

    mimetype: str

    def __new__(cls, data: bytes, mimetype: str = "") -> Self:  # noqa: D102
        found = super().__new__(cls, data)
        found.mimetype = mimetype
        return found

    def _repr_png_(self) -> bytes | None:
        return bytes(self) if self.mimetype == "image/png" else None

    def _repr_jpeg_(self) -> bytes | None:
        return bytes(self) if self.mimetype == "image/jpeg" else None

    def __repr__(self) -> str:
        return f"ImageBytes<{len(self)}> ({self.mimetype})"


def formats_of(given: Any) -> tuple[str, ...]:
    """Return the formats that a caller takes: one, or a list of them.

    Raises
    ------
    BadArgument
        There is no such format.
    """
    found = (given,) if isinstance(given, str) else given
    known = (TILE_FORMAT_IMAGE, TILE_FORMAT_PIL, TILE_FORMAT_NUMPY)
    if (
        not isinstance(found, (tuple, list, set))
        or not found
        or any(one not in known for one in found)
    ):
        raise BadArgument(f"format={given!r:.80}: give {', '.join(map(repr, known))} or several.")
    return tuple(found)


def to_eight_bits(pixels: Array) -> Array:
    """Return the eight most significant bits of integers; other values cut to 0 to 255."""
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype.kind in "iu":
        unsigned = np.dtype(f"u{pixels.dtype.itemsize}")
        bits = unsigned.itemsize * 8 - 8
        raw = np.ascontiguousarray(pixels).view(unsigned)
        if pixels.dtype.kind == "i":
            raw = raw ^ unsigned.type(1 << (bits + 7))
        high: Array = (raw >> unsigned.type(bits)).astype(np.uint8)
        return high
    if pixels.dtype.kind == "b":
        return pixels.astype(np.uint8)
    values = np.abs(pixels) if pixels.dtype.kind == "c" else pixels
    cut: Array = np.clip(np.nan_to_num(values, nan=0), 0, 255).astype(np.uint8)
    return cut


def letterboxed(pixels: Array, width: int, height: int, fill: Any) -> Array:
    """Return a picture in the middle of a larger one of one colour.

    Parameters
    ----------
    pixels
        (Y, X, bands).
    width, height
        Of the result, where it is larger than the picture.
    fill
        A colour; "corner:" before it puts the picture at the top left. None and "none" leave the
        picture as it is.
    """
    rows, columns, bands = pixels.shape
    if fill is None or str(fill).lower() == "none" or (rows >= height and columns >= width):
        return pixels
    text = str(fill)
    corner = text.lower().startswith("corner:")
    color = color_of(text[7:] if corner else text, bands, pixels.dtype)
    height, width = max(height, rows), max(width, columns)
    found = np.empty((height, width, bands), pixels.dtype)
    found[:] = color
    top, left = (0, 0) if corner else ((height - rows) // 2, (width - columns) // 2)
    found[top : top + rows, left : left + columns] = pixels
    return found


def color_of(text: str, bands: int, dtype: np.dtype[Any]) -> Array:
    """Return a colour as a pixel of so many bands."""
    red, green, blue, alpha = parse_color(text)
    grey = round(0.299 * red + 0.587 * green + 0.114 * blue)
    parts = {1: [grey], 2: [grey, alpha], 3: [red, green, blue]}.get(
        bands, [red, green, blue, alpha, *[0] * bands][:bands]
    )
    most = np.iinfo(dtype).max if dtype.kind in "iu" else 255
    return (np.asarray(parts, np.float64) * (most / 255)).astype(dtype)


class Encoder:
    """Encoding of pictures.

    Parameters
    ----------
    encoding
        "JPEG", "JFIF", "PNG", "WEBP", "TIFF" or "TILED".
    jpegQuality
        1 to 100.
    jpegSubsampling
        Of JPEG's colours: 0 none, 1 half, 2 a quarter.
    tiffCompression
        "raw", "none", "lzw" or "tiff_lzw", "deflate" or "tiff_adobe_deflate", "packbits", "jpeg".

    Raises
    ------
    BadArgument
        There is no such encoding or value.
    """

    def __init__(
        self,
        encoding: str = "JPEG",
        jpegQuality: int = 95,
        jpegSubsampling: int = 0,
        tiffCompression: str = "raw",
    ) -> None:
        if encoding not in MIME_TYPES:
            raise BadArgument(f"encoding={encoding!r}: there are {', '.join(MIME_TYPES)}.")
        self.encoding = encoding
        self.quality = whole(jpegQuality, "jpegQuality", 1, 100)
        self.subsampling = whole(jpegSubsampling, "jpegSubsampling", 0, 2)
        self.compression = _TIFF_COMPRESSIONS.get(tiffCompression, tiffCompression)
        if self.compression not in {"raw", *_TIFF_COMPRESSIONS.values()}:
            raise BadArgument(
                f"tiffCompression={tiffCompression!r}: there are raw, "
                f"{', '.join(_TIFF_COMPRESSIONS)}."
            )

    @property
    def mime_type(self) -> str:
        """MIME type of the pictures."""
        return MIME_TYPES[self.encoding]

    @property
    def keeps_bits(self) -> bool:
        """Whether pictures may have more than 8 bits."""
        return self.encoding in ("TIFF", "TILED")

    def encode(self, pixels: Array) -> ImageBytes:
        """Encode pixels, (Y, X, bands); uint16 of one band keeps all its bits in TIFF.

        Raises
        ------
        MissingExtra
            Pillow is not installed.
        """
        if 0 in pixels.shape[:2]:
            return ImageBytes(b"", self.mime_type)
        if self.keeps_bits and pixels.shape[2] == 1 and pixels.dtype in (np.uint16, np.float32):
            image = pillow().fromarray(np.ascontiguousarray(pixels[..., 0]))
        else:
            image = as_image(pixels)
        if self.mime_type == "image/jpeg" and image.mode not in ("L", "RGB"):
            image = image.convert("L" if image.mode == "LA" else "RGB")
        options: dict[str, Any] = {}
        if self.mime_type == "image/jpeg":
            options = {"quality": self.quality, "subsampling": self.subsampling}
        elif self.encoding == "WEBP":
            options = {"quality": self.quality, "lossless": self.quality == 100}
        elif self.encoding == "PNG":
            options = {"compress_level": 2}
        else:
            options = {"compression": self.compression}
        target = io.BytesIO()
        name = {"JFIF": "JPEG", "TILED": "TIFF"}.get(self.encoding, self.encoding)
        image.save(target, name, **options)
        return ImageBytes(target.getvalue(), self.mime_type)


def pillow() -> Any:
    """Return `PIL.Image`.

    Raises
    ------
    MissingExtra
        Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtra(
            "pictures of tiles need Pillow, which is not installed. format='numpy' does not. "
            f"Install it with: {INSTALL}"
        ) from error
    return Image


def as_image(pixels: Array) -> Image:
    """Return pixels, (Y, X, bands), as a Pillow image of 8 bits; of more than 4 bands three."""
    bands = pixels.shape[2]
    eight = to_eight_bits(pixels if bands <= 4 else pixels[..., :3])
    eight = np.ascontiguousarray(eight[..., 0] if bands == 1 else eight)
    image: Image = pillow().fromarray(eight)
    return image


def write_tiled(
    size: tuple[int, int], draw: Callable[..., Array], pixel: tuple[float, float] | None, name: str
) -> Path:
    """Write a picture band by band as a tiled TIFF with a pyramid, in a temporary folder.

    Parameters
    ----------
    size
        Width and height.
    draw
        Returns rows of it, given ``rows=``: (Y, X, bands).
    pixel
        Width and height of a pixel in millimetres, or None.
    name
        What the file is called after.
    """
    width, height = size
    stem = re.sub(r"[^\w.-]+", "_", name).split(".")[0] or "region"
    path = Path(tempfile.mkdtemp(prefix="bfbridge-region-")) / f"{stem}.ome.tif"
    first = draw(rows=slice(0, min(_ROWS, height)))
    bands = first.shape[2]
    options: dict[str, Any] = {"dtype": first.dtype, "shape": (height, width, 1, bands)}
    with BioWriter(path, pyramid=True, **options) as writer:
        if bands in (3, 4):
            writer.samples_per_pixel = bands
        if pixel is not None:
            writer.physical_size_x, writer.physical_size_y = (pixel[0], "mm"), (pixel[1], "mm")
        for top in range(0, height, _ROWS):
            bottom = min(top + _ROWS, height)
            rows = first if top == 0 else draw(rows=slice(top, bottom))
            writer[top:bottom] = rows[:, :, np.newaxis]
    return path
