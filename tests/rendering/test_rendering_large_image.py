"""Styles drawn as large_image draws them, within one level of 255.

`large_image_styles.json` holds what large_image 1.35.6 draws of small images. With
``BFBRIDGE_LARGE_IMAGE_PYTHON`` naming a Python that has it (large-image[tiff,zarr,colormaps] and
large-image-source-tifffile), slow tests draw real files with both.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader
from tests.real.manifest import DATA
from tests.support.stylezoo import JOBS, draw_by_large_image, make_images, unpacked

pytest.importorskip("cmap")

Array = np.ndarray[Any, Any]
STORED = json.loads((Path(__file__).parent / "large_image_styles.json").read_text())
PYTHON = os.environ.get("BFBRIDGE_LARGE_IMAGE_PYTHON")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("styles")
    make_images(folder)
    return folder


def assert_alike(ours: Array, theirs: Array) -> None:
    """Compare, whatever alpha large_image leaves out."""
    level = {"uint16": 257, "float32": 1 / 255}.get(ours.dtype.name, 1)
    if theirs.shape[2] == 1 and ours.shape[2] == 4:
        # It draws one grey band for one channel in white; what is transparent is black there.
        theirs = np.repeat(theirs, 3, axis=2)
    ours = ours[..., : theirs.shape[2]]
    difference = np.abs(ours.astype(np.float64) - theirs.astype(np.float64))
    assert difference.max() <= level * 1.001
    # Both draw something, and not all of it the same.
    assert len(np.unique(theirs)) > 1 or theirs.max() in (0, 255, 65535)


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize(("number", "job"), list(enumerate(JOBS)), ids=str)
def test_small_images(images: Path, number: int, job: tuple[str, dict[str, Any], int]) -> None:
    name, style, frame = job
    with BioReader(images / name) as br:
        channels = len(br.channels)
        picture = br.render(
            frame % channels if channels > 1 else None, style, z=frame // channels, level=0
        )
        again = br.render(
            frame % channels if channels > 1 else None, json.dumps(style), z=frame // channels,
            level=0,
        )  # fmt: skip
    np.testing.assert_array_equal(again, picture)
    assert_alike(picture[::2, ::2], unpacked(STORED[number]))


def test_every_job_is_stored() -> None:
    assert len(STORED) == len(JOBS)


REAL: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("svs/*/*.svs", {"icc": False, "min": 40, "max": 230, "palette": ["#000", "#f00", "#ff0"]}, {}),
    ("svs/*/*.svs", {"icc": False, "bands": [
        {"band": 1, "palette": ["#000", "#800", "#f00"], "min": 0, "max": 255},
        {"band": 2, "palette": ["#000", "#080", "#0f0"], "min": 0, "max": 255},
        {"band": 3, "palette": ["#000", "#008", "#00f"], "min": 0, "max": 255},
    ]}, {}),
    ("svs/*/*.svs", {"icc": True, "bands": [
        {"band": 1, "palette": "#f00", "min": 0, "max": 255},
        {"band": 2, "palette": "#0f0", "min": 0, "max": 255},
        {"band": 3, "palette": "#00f", "min": 0, "max": 255},
    ]}, {}),
    ("tiff/tiff_stack*/*.tif", {"min": 0, "max": 300, "palette": "magma"}, {}),
    ("tiff/img3d*/*.tif", {"min": 112, "max": 330, "palette": "turbo"}, {}),
    ("omezarr_v04/*.zarr", {"min": "min:0.01", "max": "max:0.01", "palette": "viridis"}, {}),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON, reason="BFBRIDGE_LARGE_IMAGE_PYTHON names no Python")
@pytest.mark.parametrize(("pattern", "style", "more"), REAL)
def test_real_files(
    tmp_path: Path, pattern: str, style: dict[str, Any], more: dict[str, Any]
) -> None:
    found = sorted(DATA.glob(pattern))
    if not found:
        pytest.skip(f"no {pattern} at {DATA}")
    with BioReader(found[0]) as br:
        width, height = min(br.X, 300), min(br.Y, 260)
        left, top = (br.X - width) // 2, (br.Y - height) // 2
        box = {"left": left, "top": top, "right": left + width, "bottom": top + height}
        region = {"region": {**box, "units": "base_pixels"}}
        # Its Zarr reader takes no folders.
        named = found[0] / ".zattrs" if found[0].is_dir() else found[0]
        (theirs,) = draw_by_large_image(str(PYTHON), [(named, style, 0, region)], tmp_path)
        ours = br.render(
            style=style, x=(left, left + width), y=(top, top + height), z=0, level=0, **more
        )
    assert_alike(ours, theirs)
