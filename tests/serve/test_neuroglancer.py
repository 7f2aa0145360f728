"""neuroglancer in a real Chromium shows the right pixels of a served virtual store.

Slow. Needs Chromium and the Python packages playwright and neuroglancer, whose wheel contains a
built client.
"""

# ruff: noqa: E402 - packages that may be missing are looked for first

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

for module in ("aiohttp", "cmap", "imagecodecs", "tifffile"):
    pytest.importorskip(module)
neuroglancer = pytest.importorskip("neuroglancer")

import tifffile

from tests.support.chromium import browser
from tests.support.liveserver import live

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
SHADER = """#uicontrol invlerp normalized(range=[0, 255])
void main() { emitGrayscale(normalized()); }"""
SIZE = (300, 200)


def state_of(url: str, z: int, y: int, x: int, zoom: float) -> dict[str, Any]:
    """Return the state of the viewer: one plane, `zoom` screen pixels for a pixel of full size."""
    return {
        "layers": [
            {"type": "image", "source": url, "name": "image", "shader": SHADER, "opacity": 1}
        ],
        "dimensions": {"x": [1, ""], "y": [1, ""], "z": [1, ""], "t": [1, ""]},
        "position": [x, y, z, 0],
        "crossSectionScale": 1 / zoom,
        "layout": "xy",
        "showAxisLines": False,
        "showScaleBar": False,
        "showDefaultAnnotations": False,
    }  # fmt: skip


@pytest.mark.parametrize(("route", "kind"), [("zarr", "zarr3"), ("zarr2", "zarr2")])
def test_neuroglancer_shows_the_right_pixels(tmp_path: Path, route: str, kind: str) -> None:
    # Noise, so that a shift by one pixel is seen.
    pixels = np.random.default_rng(0).integers(0, 256, (3, 1300, 1500), dtype=np.uint8)
    tifffile.imwrite(
        tmp_path / "a.ome.tif", pixels, ome=True, tile=(256, 256), metadata={"axes": "ZYX"}
    )
    z, y, x, zoom = 1, 600, 700, 2
    viewer = neuroglancer.Viewer()
    origin = viewer.get_viewer_url().partition("/v/")[0]
    try:
        with live(tmp_path, cors=(origin,)) as server:
            source = f"{server.url}/{route}/a.ome.tif.ome.zarr/|{kind}:"
            viewer.set_state(state_of(source, z, y, x, zoom))
            with viewer.config_state.txn() as config:
                config.viewer_size = SIZE
                config.show_ui_controls = config.show_panel_borders = False
            shown = screenshot(viewer)
            assert server.metrics.get("status_2xx") > 5
    finally:
        neuroglancer.stop()
    height, width = shown.shape[:2]
    assert (width, height) == SIZE
    # The position is in the centre, and whole numbers are the centres of pixels, as in OME-NGFF.
    rows = y + (np.arange(height) + 0.5 - height / 2) / zoom + 0.5
    columns = x + (np.arange(width) + 0.5 - width / 2) / zoom + 0.5
    expected = pixels[z][np.ix_(rows.astype(int), columns.astype(int))]
    for sample in range(3):
        np.testing.assert_array_equal(shown[..., sample], expected)


def screenshot(viewer: Any) -> np.ndarray[Any, Any]:
    """Return what the viewer shows when it has all chunks, (Y, X, 4)."""
    replies: list[Any] = []
    with browser() as started:
        page = started.new_page(viewport={"width": 900, "height": 700})
        failures: list[str] = []
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.goto(viewer.get_viewer_url())
        viewer.async_screenshot(replies.append)
        for _ in range(900):
            if replies:
                break
            page.wait_for_timeout(100)
        assert failures == []
    assert replies, "there is no screenshot after 90 seconds"
    found: np.ndarray[Any, Any] = replies[0].screenshot.image_pixels
    return found
