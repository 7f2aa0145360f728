"""OpenLayers dragging the contrast of the image that the viewer shows, for bench_view.py.

OpenLayers and esbuild are installed by npm in a folder of their own:

    npm install --prefix ~/.cache/bfbridge-bench ol esbuild

Both draw the same planes, of the same size, from the same requests (``raw/``), on the same server.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.support.chromium import Page

__all__ = ["bundled", "contrast_drag", "opened"]

ENTRY = Path(__file__).with_suffix(".js")


def bundled(folder: Path) -> str | None:
    """Return OpenLayers and the page's script as one file; None if npm has not installed them."""
    program = folder / "node_modules" / ".bin" / "esbuild"
    if not program.exists() or not (folder / "node_modules" / "ol").exists():
        return None
    done = subprocess.run(
        [program, "--bundle", "--minify", "--log-level=error"],
        input=ENTRY.read_text(), cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def opened(chromium: Any, script: str, viewer: Page) -> Page:
    """Show in OpenLayers what a viewer shows at full size."""
    shown = viewer.run("""(() => {
      const v = bfbridge.viewer, {width, height} = v.info.image.levels[0];
      return {
        width, height, x: v.view.x, y: v.view.y, across: v.width, down: v.height,
        scales: v.info.image.levels.map((l) => l.scale),
        raw: `raw/${v.file}/${v.info.image.index}`,
        planes: v.planes().map(({c, look: {low, high, color}}) => ({c, low, high, color})),
      };
    })()""")
    style = f"width:{shown.pop('across')}px;height:{shown.pop('down')}px"
    html = f'<!doctype html><body style="margin:0"><div id="map" style="{style}"></div></body>'
    root = viewer.page.url.partition("/view/")[0]
    page = Page(chromium, 1280, 800)
    page.page.route(
        "**/openlayers.html", lambda route: route.fulfill(body=html, content_type="text/html")
    )
    page.page.goto(f"{root}/openlayers.html")
    page.page.add_script_tag(content=script)
    page.run(f"start({json.dumps(shown)})")
    return page


def contrast_drag(page: Page) -> tuple[float, int]:
    """Return frames a second while the maximum of a channel is dragged, and requests sent."""
    before = len(page.requests)
    return float(page.run("drag()")), len(page.requests) - before
