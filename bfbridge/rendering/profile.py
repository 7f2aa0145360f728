"""Colour profiles (ICC) of RGB images, applied if a style requests it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from bfbridge.errors import INSTALL, BadArgument, MissingExtra
from bfbridge.rendering.plan import Plane

if TYPE_CHECKING:
    from bfbridge.rendering.plan import Drawing
    from bfbridge.views import ImageView

__all__ = ["apply_profile", "mates"]

Array = np.ndarray[Any, Any]


def apply_profile(
    view: ImageView, drawing: Drawing, planes: dict[Plane, Array]
) -> dict[Plane, Array]:
    """Return planes of an 8-bit RGB image converted from its file's profile to sRGB.

    Images without a profile, and images that are not RGB of 8 bits, do not change.

    Raises
    ------
    BadArgument
        The profile is damaged.
    MissingExtra
        Pillow is not installed.
    """
    profile = view.icc_profile
    if profile is None or view.samples_per_pixel < 3 or view.dtype != np.uint8:
        return planes
    try:
        from PIL import Image, ImageCms
    except ImportError as error:
        raise MissingExtra(
            f"colour profiles need Pillow, which is not installed. Install it with: {INSTALL}"
        ) from error
    intent = "perceptual" if drawing.icc is True else str(drawing.icc)
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            "RGB",
            "RGB",
            ImageCms.Intent[intent.upper()],
        )
    except (ImageCms.PyCMSError, OSError) as error:
        raise BadArgument(
            f"{view.source_name}: its colour profile cannot be used ({error}). Leave 'icc' out of "
            "the style."
        ) from error
    converted = dict(planes)
    for three in {mates(view, plane) for plane in planes}:
        stacked = np.ascontiguousarray(np.stack([planes[plane] for plane in three], axis=2))
        result = np.asarray(ImageCms.applyTransform(Image.fromarray(stacked, "RGB"), transform))
        converted.update({plane: result[..., place] for place, plane in enumerate(three)})
    return converted


def mates(view: ImageView, plane: Plane) -> tuple[Plane, ...]:
    """Return the planes of red, green and blue that a plane belongs to; otherwise the plane."""
    samples = view.samples_per_pixel
    if samples < 3:
        return (plane,)
    first = plane.c // samples * samples
    return tuple(plane._replace(c=first + i) for i in range(3))
