"""Patches for training: `ImageStack` is what CAREamics expects of a custom image stack.

It has CAREamics' attributes and methods without importing it, for every format and level that
bfbridge reads. Patches keep the image's dtype, and are zero outside the image.
"""

from __future__ import annotations

from bfbridge.patches.array_stack import FileImageStack, ZarrImageStack
from bfbridge.patches.image_stack import CACHE_BYTES, ImageStack
from bfbridge.patches.scenes import Rectangle

__all__ = ["CACHE_BYTES", "FileImageStack", "ImageStack", "Rectangle", "ZarrImageStack"]
