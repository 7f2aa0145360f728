"""A slide of Aperio answers large_image's calls as large_image does."""

from __future__ import annotations

import numpy as np
import pytest

from bfbridge import large_image
from tests.real.manifest import DATA, entries

SLIDES = [entry.path for entry in entries() if entry.path.name == "small_HE.svs"]

pytestmark = pytest.mark.skipif(not SLIDES, reason=f"no real files at {DATA}")


def test_answers_about_a_slide() -> None:
    # The expected values are answers of large_image 1.35.6.
    with large_image.open(SLIDES[0]) as source:
        told = source.getMetadata()
        assert told.pop("magnificationApproximate") is False
        assert told == {
            "levels": 5, "sizeX": 2220, "sizeY": 2967, "tileWidth": 240, "tileHeight": 240,
            "magnification": 20, "mm_x": 0.000499, "mm_y": 0.000499, "dtype": "uint8",
            "bandCount": 3,
        }  # fmt: skip
        assert source.frames == 1
        # large_image has the name "2220x2967" for the thumbnail.
        shapes = {
            name: source.getAssociatedImage(name, format="numpy")[0].shape
            for name in source.getAssociatedImagesList()
        }
        assert shapes == {
            "label": (463, 387, 3), "macro": (431, 1280, 3), "thumbnail": (768, 574, 3)
        }  # fmt: skip
        box = {"left": 0.1, "top": 0.1, "width": 0.05, "height": 0.04, "units": "mm"}
        region = source.getRegion(region=box, format="numpy")[0]
        assert region.shape == (81, 101, 3)
        # Decoders of JPEG may round another way.
        np.testing.assert_allclose(
            region.mean((0, 1)), [245.37220389, 243.95391761, 243.93876054], atol=0.2
        )
        np.testing.assert_allclose(
            region[::23, ::31][0],
            [[243, 243, 243], [238, 243, 243], [243, 245, 243], [246, 243, 246]], atol=1,
        )  # fmt: skip
        pixel = source.getPixel(region={"left": 300, "top": 200})
        np.testing.assert_allclose(pixel["value"], [246, 246, 243], atol=1)
        tiles = source.tileIterator(tile_size={"width": 700})
        assert [(tile["width"], tile["height"]) for tile in tiles][:4] == [
            (700, 700), (700, 700), (700, 700), (120, 700)
        ]  # fmt: skip
        assert source.getThumbnail(format="numpy")[0].shape == (256, 191, 3)
        assert source.getLevelForMagnification(10) == 3
