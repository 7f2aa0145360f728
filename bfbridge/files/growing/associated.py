"""Label, macro and thumbnail of an image that grows: small, in memory until it is closed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bfbridge.engine.selection import Selection
from bfbridge.ome import metadata
from bfbridge.ome.roles import ImageRole

if TYPE_CHECKING:
    from bfbridge.backend import Role
    from bfbridge.files.writing.image_plans import ImagePlans

__all__ = ["add_associated", "whole_image"]

Array = np.ndarray[Any, Any]


def add_associated(plans: ImagePlans, role: Role, pixels: Array) -> int:
    """Add an associated image to the plans of a file, and return its number.

    Parameters
    ----------
    plans
        Of the file.
    role
        "label", "macro" or "thumbnail"; also its name.
    pixels
        Shape (Y, X, samples).
    """
    [image] = metadata.new_document().images
    image.id, image.pixels.id = f"Image:{role}", f"Pixels:{role}"
    image.name = role
    image.pixels.size_y, image.pixels.size_x, image.pixels.size_c = pixels.shape
    image.pixels.channels[0].id = f"Channel:{role}"
    image.pixels.channels[0].samples_per_pixel = pixels.shape[2]
    return plans.add_image(image, pixels.dtype, ImageRole(role, photo=role == "label"))


def whole_image(pixels: Array) -> Selection:
    """Return the selection of all pixels, of shape (Y, X, samples), of an image of one plane."""
    height, width, samples = pixels.shape
    return Selection((range(height), range(width), range(1), range(samples), range(1)))
