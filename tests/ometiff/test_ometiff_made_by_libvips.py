"""TIFFs that libvips makes, plain and OME, through this backend and through Bio-Formats."""

from __future__ import annotations

import numpy as np
import pytest

from bfbridge.errors import Unsupported
from tests.ometiff.test_ometiff_referee import compare
from tests.support import referees
from tests.support.tiffs import numbered, ome_xml, open_ours

pytestmark = pytest.mark.java

OPTIONS = {
    "tiles": {"tile": True, "tile_width": 32, "tile_height": 48},
    "deflate": {"tile": True, "compression": "deflate", "predictor": "horizontal"},
    "strips": {"compression": "lzw", "predictor": "none"},
    "packbits": {"compression": "packbits"},
    "big": {"bigtiff": True, "tile": True, "compression": "lzw", "predictor": "horizontal"},
    "subifd": {"tile": True, "tile_width": 32, "tile_height": 32, "subifd": True, "pyramid": True},
}


@pytest.fixture
def tmp_path(tmp_path):
    """A folder alone in its folder: a plain TIFF among many files may be part of a data set."""
    folder = tmp_path / "alone" / "here"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(autouse=True)
def _needed() -> None:
    for referee in ("libvips", "bioformats"):
        referees.needed(referee)


def made(path, array, options, description=None):
    """Save Y, X, S by libvips."""
    import pyvips

    image = pyvips.Image.new_from_array(array).copy()
    if description is not None:
        image.set_type(pyvips.GValue.gstr_type, "image-description", description)
    image.tiffsave(str(path), **options)
    return path


@pytest.mark.java
@pytest.mark.parametrize(
    ("dtype", "samples"), [("u1", 1), ("u1", 3), ("u2", 1), ("u2", 3), ("i2", 1), ("f4", 1)]
)
@pytest.mark.parametrize("kind", OPTIONS)
def test_ome(tmp_path, kind, dtype, samples):
    """With the OME-XML in its description, as users of libvips make OME-TIFFs."""
    array = numbered((100, 90, samples), dtype)
    options = dict(OPTIONS[kind])
    if dtype == "f4" and "predictor" in options:
        options["predictor"] = "none"
    description = ome_xml((1, samples, 1, 100, 90), dtype, samples=samples)
    path = made(tmp_path / "a.ome.tif", array, options, description)
    levels = referees.by_bfbridge(path)
    np.testing.assert_array_equal(levels[0][0, :, 0], np.moveaxis(array, -1, 0))
    assert len(levels) == (3 if kind == "subifd" else 1)
    assert compare(path) == len(levels)


@pytest.mark.java
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("description", [None, "OME"])
def test_jpeg(tmp_path, samples, description):
    y, x, s = np.mgrid[:100, :90, :samples]
    array = (120 + 60 * np.sin(x / 20) + 40 * np.cos(y / 15) + 10 * s).astype("u1")
    options = {"tile": True, "tile_width": 32, "tile_height": 32, "compression": "jpeg", "Q": 90}
    if description:
        description = ome_xml((1, samples, 1, 100, 90), "u1", samples=samples)
    path = made(tmp_path / ("a.ome.tif" if description else "a.tif"), array, options, description)
    (level,) = referees.by_bfbridge(path)
    assert np.abs(level[0, :, 0].astype(int) - np.moveaxis(array, -1, 0)).max() <= 12
    assert compare(path, most=2) == 1


@pytest.mark.java
@pytest.mark.parametrize(("dtype", "samples"), [("u1", 3), ("u2", 1), ("f4", 1)])
@pytest.mark.parametrize("kind", [*OPTIONS, "pyramid"])
def test_plain(tmp_path, kind, dtype, samples):
    """Whatever this backend takes of them; the rest it leaves to Bio-Formats."""
    array = numbered((100, 90, samples), dtype)
    pyramid = {"tile": True, "tile_width": 32, "tile_height": 32, "pyramid": True}
    options = dict(OPTIONS.get(kind, pyramid))
    if dtype == "f4" and "predictor" in options:
        options["predictor"] = "none"
    path = made(tmp_path / "a.tif", array, options)
    try:
        open_ours(path).close()
    except Unsupported:
        assert kind in ("subifd", "pyramid")
        return
    assert compare(path) == len(referees.by_bfbridge(path))
