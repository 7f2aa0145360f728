"""OpenSeadragon in a real Chromium shows the right pixels, by DeepZoom and by IIIF.

Slow. Needs Debian's chromium, the Python package playwright, and OpenSeadragon's npm file unpacked
in the folder that the environment variable OPENSEADRAGON names (the one with build/openseadragon).
"""

# ruff: noqa: E402 - packages that may be missing are looked for first

from __future__ import annotations

import io
import os
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

for module in ("aiohttp", "cmap", "imagecodecs", "tifffile", "PIL"):
    pytest.importorskip(module)
playwright = pytest.importorskip("playwright.sync_api")

import tifffile
from PIL import Image

from tests.support.liveserver import live

BUILT = (
    Path(os.environ.get("OPENSEADRAGON", "/nowhere")) / "build/openseadragon/openseadragon.min.js"
)
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.skipif(not BUILT.is_file(), reason="OPENSEADRAGON names no npm package"),
]
PAGE = """<!doctype html><body style="margin:0"><div id="v" style="width:512px;height:512px"></div>
<script src="openseadragon.min.js"></script><script>
const viewer = OpenSeadragon({id: "v", tileSources: %SOURCE%, showNavigator: false,
  showNavigationControl: false, immediateRender: true, crossOriginPolicy: "Anonymous",
  drawer: "canvas", animationTime: 0, imageSmoothingEnabled: false});
viewer.addHandler("open-failed", (e) => { document.title = "failed " + e.message; });
viewer.addHandler("open", () => {
  const item = viewer.world.getItemAt(0);
  item.addHandler("fully-loaded-change", (e) => { if (e.fullyLoaded) document.title = "loaded"; });
  if (item.getFullyLoaded()) document.title = "loaded";
});
</script>"""


@pytest.mark.parametrize("kind", ["dzi", "iiif"])
def test_openseadragon_shows_the_right_pixels(tmp_path: Path, kind: str) -> None:
    y, x = np.mgrid[:2048, :2048]
    rgb = np.stack([x // 8, y // 8, (x + y) // 16], -1).astype(np.uint8)
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images/a.tif", rgb, tile=(256, 256), photometric="rgb")
    site = tmp_path / "site"
    site.mkdir()
    shutil.copy(BUILT, site)
    handler = partial(SimpleHTTPRequestHandler, directory=str(site))
    pages = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=pages.serve_forever, args=(0.01,), daemon=True).start()
    origin = f"http://127.0.0.1:{pages.server_port}"
    try:
        with live(tmp_path / "images", cors=(origin,)) as server:
            path = "dzi/a.tif.dzi?format=png" if kind == "dzi" else "iiif/3/a.tif/info.json"
            page = PAGE.replace("%SOURCE%", f'"{server.url}/{path}"')
            (site / "index.html").write_text(page)
            shown = _screenshot(f"{origin}/index.html")
    finally:
        pages.shutdown()
        pages.server_close()
    # 2048 pixels in 512: the mean of 4 x 4.
    expected = rgb.reshape(512, 4, 512, 4, 3).mean((1, 3))
    inner = (slice(8, -8), slice(8, -8))
    difference = np.abs(shown[inner].astype(float) - expected[inner])
    assert expected.std() > 30
    assert difference.max() <= (4 if kind == "dzi" else 10)


def _screenshot(url: str) -> np.ndarray:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        try:
            page = browser.new_page(viewport={"width": 512, "height": 512})
            page.goto(url)
            page.wait_for_function("document.title.startsWith('loaded')", timeout=60_000)
            page.wait_for_timeout(1000)
            return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
        finally:
            browser.close()
