"""IIIF Image API 3.0, level 2: parsing of requests, and info.json. There is no I/O.

https://iiif.io/api/image/3.0/
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Final

from bfbridge.serve.replies import Refused

__all__ = ["ImageRequest", "info_document", "parse_image_request"]

QUALITIES: Final = ("default", "color", "gray", "bitonal")
FORMATS: Final = {"jpg": "jpeg", "png": "png", "webp": "webp"}
_NUMBER: Final = r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
_PIXELS: Final = re.compile(r"([0-9]{1,9}),([0-9]{1,9}),([0-9]{1,9}),([0-9]{1,9})")
_PERCENT: Final = re.compile(rf"pct:{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}")
_SIZE: Final = re.compile(r"([0-9]{0,9}),([0-9]{0,9})")


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """A picture that a client requests.

    Attributes
    ----------
    region
        Left, top, right, bottom in pixels of full size.
    size
        Width and height before rotation.
    mirrored
        Whether it is mirrored left to right before rotation.
    turns
        Rotation clockwise, in quarters.
    quality
        "default", "color", "gray" or "bitonal".
    format
        "jpeg", "png" or "webp".
    """

    region: tuple[int, int, int, int]
    size: tuple[int, int]
    mirrored: bool
    turns: int
    quality: str
    format: str


def parse_image_request(
    region: str, size: str, rotation: str, ending: str, width: int, height: int, most: int
) -> ImageRequest:
    """Parse the parameters of an image request.

    Parameters
    ----------
    region, size, rotation, ending
        The last four parts of the path; the last is ``quality.format``.
    width, height
        Size of the image in pixels.
    most
        Largest number of pixels of a picture.

    Raises
    ------
    Refused
        400: a parameter is not valid, or the size is larger than allowed. 501: rotation by
        an angle that is not a multiple of 90 degrees.
    """
    box = _region(region, width, height)
    wanted = _size(size, box[2] - box[0], box[3] - box[1], most)
    mirrored, turns = _rotation(rotation)
    quality, _, suffix = ending.rpartition(".")
    if quality not in QUALITIES or suffix not in FORMATS:
        raise Refused(
            400, f"there are the qualities {', '.join(QUALITIES)}, as {', '.join(FORMATS)}"
        )
    return ImageRequest(box, wanted, mirrored, turns, quality, FORMATS[suffix])


def _region(text: str, width: int, height: int) -> tuple[int, int, int, int]:
    if text == "full":
        return 0, 0, width, height
    if text == "square":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        return left, top, left + side, top + side
    if found := _PIXELS.fullmatch(text):
        left, top, wide, high = (int(part) for part in found.groups())
    elif found := _PERCENT.fullmatch(text):
        x, y, w, h = (float(part) for part in found.groups())
        left, top = round(x * width / 100), round(y * height / 100)
        wide, high = round(w * width / 100), round(h * height / 100)
    else:
        raise Refused(400, "region: give full, square, x,y,w,h or pct:x,y,w,h")
    if not wide or not high or left >= width or top >= height:
        raise Refused(400, "region: it is empty or outside the image")
    return left, top, min(width, left + wide), min(height, top + high)


def _size(text: str, width: int, height: int, most: int) -> tuple[int, int]:
    upscale = text.startswith("^")
    text = text.removeprefix("^")
    if text == "max":
        # Without upscaling it is the region's size, as far as pictures may be that large.
        found = _within(width, height, most, upscale=upscale)
    elif text.startswith("pct:"):
        share = _share(text.removeprefix("pct:"), upscale=upscale)
        found = max(1, round(width * share)), max(1, round(height * share))
    elif text.startswith("!"):
        found = _fitted(text.removeprefix("!"), width, height, upscale=upscale)
    else:
        found = _sides(text, width, height)
    if not upscale and (found[0] > width or found[1] > height):
        raise Refused(400, "size: larger than the region; prefix ^ to enlarge")
    if found[0] * found[1] > most or max(found) > 1 << 16:
        raise Refused(400, f"size: pictures have at most {most} pixels")
    return found


def _within(width: int, height: int, most: int, *, upscale: bool) -> tuple[int, int]:
    if width * height <= most and not upscale:
        return width, height
    share = math.sqrt(most / (width * height))
    return max(1, math.floor(width * share)), max(1, math.floor(height * share))


def _share(text: str, *, upscale: bool) -> float:
    share = float(text) / 100 if re.fullmatch(_NUMBER, text) else 0.0
    if not 0 < share <= (100 if upscale else 1):
        raise Refused(400, "size: give a share of more than 0, and up to 100 without ^")
    return share


def _numbers(text: str) -> tuple[int, int]:
    """Return width and height, 0 for one that is missing."""
    found = _SIZE.fullmatch(text)
    wide, high = (int(part or 0) for part in found.groups()) if found else (0, 0)
    if found is None or not (wide or high) or any(part == "0" for part in found.groups()):
        raise Refused(400, "size: give max, w, or ,h or w,h or !w,h or pct:n")
    return wide, high


def _sides(text: str, width: int, height: int) -> tuple[int, int]:
    wide, high = _numbers(text)
    return (
        wide or max(1, round(width * high / height)),
        high or max(1, round(height * wide / width)),
    )


def _fitted(text: str, width: int, height: int, *, upscale: bool) -> tuple[int, int]:
    wide, high = _numbers(text)
    if not (wide and high):
        raise Refused(400, "size: give both of !w,h")
    share = min(wide / width, high / height)
    if not upscale:
        share = min(share, 1.0)
    return max(1, min(wide, round(width * share))), max(1, min(high, round(height * share)))


def _rotation(text: str) -> tuple[bool, int]:
    mirrored = text.startswith("!")
    number = text.removeprefix("!")
    if not re.fullmatch(_NUMBER, number) or not 0 <= float(number) <= 360:
        raise Refused(400, "rotation: give 0 to 360, with ! to mirror")
    turns, rest = divmod(float(number), 90)
    if rest:
        raise Refused(501, "rotation: only by multiples of 90 degrees")
    return mirrored, int(turns) % 4


def info_document(
    identifier: str, width: int, height: int, levels: int, side: int, most: int
) -> dict[str, Any]:
    """Return info.json.

    Parameters
    ----------
    identifier
        The image's base URL.
    width, height
        Size of the image in pixels.
    levels
        Number of levels; each has half the size of the one before.
    side
        Side of the tiles in pixels.
    most
        Largest number of pixels of a picture.
    """
    scales = [1 << level for level in range(levels)]
    sizes = [{"width": -(-width // s), "height": -(-height // s)} for s in reversed(scales)]
    return {
        "@context": "http://iiif.io/api/image/3/context.json",
        "id": identifier,
        "type": "ImageService3",
        "protocol": "http://iiif.io/api/image",
        "profile": "level2",
        "width": width,
        "height": height,
        "maxArea": most,
        "sizes": [size for size in sizes if size["width"] * size["height"] <= most],
        "tiles": [{"width": side, "height": side, "scaleFactors": scales}],
        "preferredFormats": ["jpg"],
        "extraQualities": ["color", "gray", "bitonal"],
        "extraFormats": ["webp"],
        "extraFeatures": ["mirroring", "sizeUpscaling", "regionSquare"],
    }
