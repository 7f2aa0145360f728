"""Encoding of pictures as PNG, JPEG and WebP."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from bfbridge.errors import INSTALL, BadArgument, MissingExtra

__all__ = ["FORMATS", "encode_picture", "format_of_name", "opaque"]

Array = np.ndarray[Any, Any]
FORMATS: Final = ("png", "jpeg", "webp")
_SUFFIXES: Final = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".jfif": "jpeg",
    ".webp": "webp",
}
_QUALITY: Final = {"png": 6, "jpeg": 90, "webp": 90}
_LARGEST: Final = {"jpeg": 65_535, "webp": 16_383, "png": (1 << 31) - 1}


def format_of_name(name: str) -> str:
    """Return the format for the suffix of a file name.

    Raises
    ------
    BadArgument
        The suffix is not one of the known ones.
    """
    dot = name.rfind(".")
    suffix = name[dot:].lower() if dot >= 0 else ""
    if suffix not in _SUFFIXES:
        raise BadArgument(
            f"{name}: pictures are written as {', '.join(_SUFFIXES)}; use one of these suffixes."
        )
    return _SUFFIXES[suffix]


def opaque(picture: Array, background: tuple[int, int, int] = (0, 0, 0)) -> Array:
    """Return red, green and blue of a picture; transparent pixels are mixed with a background.

    Parameters
    ----------
    picture
        (Y, X, 4) of uint8 or uint16.
    background
        Red, green and blue, 0 to 255.
    """
    if not _is_transparent(picture):
        out = np.empty((*picture.shape[:2], 3), picture.dtype)
        # One sample at a time: numpy copies rows of three items five times more slowly.
        for sample in range(3):
            out[..., sample] = picture[..., sample]
        return out
    most = np.iinfo(picture.dtype).max
    share = picture[..., 3:].astype(np.float32) / most
    behind = np.asarray(background, np.float32) * (most / 255)
    mixed = picture[..., :3] * share + behind * (1 - share)
    return np.rint(mixed).astype(picture.dtype)


def encode_picture(
    picture: Array,
    format: str,  # noqa: A002 - the usual name
    quality: int | None = None,
    background: tuple[int, int, int] = (0, 0, 0),
) -> bytes:
    """Encode a picture.

    Parameters
    ----------
    picture
        (Y, X, 4) or (Y, X, 1) of uint8; for PNG also uint16.
    format
        "png", "jpeg" or "webp".
    quality
        1 to 100 for JPEG and WebP (default 90; 100 is lossless for WebP); for PNG the effort, 0 to
        9 (default 6).
    background
        Colour behind transparent pixels in JPEG.

    Raises
    ------
    BadArgument
        The format is not known, or cannot store the picture.
    MissingExtra
        imagecodecs is not installed.
    """
    try:
        import imagecodecs
    except ImportError as error:
        raise MissingExtra(
            "encoding pictures needs imagecodecs, which is not installed. "
            f"Install it with: {INSTALL}"
        ) from error
    if format not in FORMATS:
        raise BadArgument(f"format={format!r}: use 'array', {', '.join(map(repr, FORMATS))}.")
    _check_size(picture, format)
    level = _quality(format, quality)
    pixels = picture[..., 0] if picture.shape[2] == 1 else picture
    if pixels.ndim == 3 and (format == "jpeg" or not _is_transparent(picture)):
        pixels = opaque(picture, background)
    # numpy calls some arrays with sides of 1 contiguous whose strides the codecs refuse.
    pixels = pixels.copy() if 1 in pixels.shape else np.ascontiguousarray(pixels)
    if format == "png":
        return bytes(imagecodecs.png_encode(pixels, level=level))
    if format == "jpeg":
        return bytes(imagecodecs.jpeg8_encode(pixels, level=level))
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., np.newaxis], 3, axis=2)
    return bytes(imagecodecs.webp_encode(pixels, level=level, lossless=level == 100))


def _is_transparent(picture: Array) -> bool:
    most = np.iinfo(picture.dtype).max
    return bool(picture[..., 3].min(initial=most) < most)


def _check_size(picture: Array, format: str) -> None:  # noqa: A002 - as above
    if picture.dtype != np.uint8 and not (format == "png" and picture.dtype == np.uint16):
        raise BadArgument(
            f"format={format!r}: a picture of {picture.dtype} cannot be encoded in this format; "
            "use format='array', or a style without dtype."
        )
    if max(picture.shape[:2]) > _LARGEST[format]:
        raise BadArgument(
            f"format={format!r}: {picture.shape[1]} x {picture.shape[0]} pixels exceed its "
            f"maximum of {_LARGEST[format]} a side. Give a smaller max_size=, or format='png'."
        )


def _quality(format: str, quality: int | None) -> int:  # noqa: A002 - as above
    if quality is None:
        return _QUALITY[format]
    least, most = (0, 9) if format == "png" else (1, 100)
    whole = isinstance(quality, (int, np.integer)) and not isinstance(quality, bool)
    if not whole or not least <= quality <= most:
        raise BadArgument(f"quality={quality!r}: for {format} give {least} to {most}.")
    return int(quality)
