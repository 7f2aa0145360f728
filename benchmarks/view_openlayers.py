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

ENTRY = """
import Map from 'ol/Map.js';
import View from 'ol/View.js';
import DataTile from 'ol/source/DataTile.js';
import TileGrid from 'ol/tilegrid/TileGrid.js';
import Tile from 'ol/layer/WebGLTile.js';
import Projection from 'ol/proj/Projection.js';

window.start = ({raw, width, height, scales, planes, x, y}) => {
  const extent = [0, -height, width, 0], projection = new Projection({code: 'pixels', units: 'pixels', extent});
  const resolutions = [...scales].reverse();
  const load = async (z, column, row) => {
    const level = resolutions.length - 1 - z;
    const response = await fetch(`${raw}/${level}/0/0/${row}/${column}?c=${planes.map((p) => p.c)}&size=512`);
    const values = new Uint16Array(await response.arrayBuffer()), count = planes.length;
    const across = Math.min(512, Math.ceil(width / scales[level]) - column * 512), down = values.length / count / across;
    const tile = new Float32Array(512 * 512 * count);
    for (let p = 0; p < count; p++) {
      for (let j = 0; j < down; j++) {
        for (let i = 0; i < across; i++) tile[(j * 512 + i) * count + p] = values[(p * down + j) * across + i];
      }
    }
    return tile;
  };
  const variables = {};
  planes.forEach((plane, i) => Object.assign(variables, {[`low${i}`]: plane.low, [`high${i}`]: plane.high}));
  const share = (i) => ['clamp', ['/', ['-', ['band', i + 1], ['var', `low${i}`]], ['-', ['var', `high${i}`], ['var', `low${i}`]]], 0, 1];
  const sum = (channel) => ['clamp', ['+', 0, ...planes.map((plane, i) => ['*', plane.color[channel] / 255, share(i)])], 0, 1];
  const source = new DataTile({loader: load, projection, bandCount: planes.length, interpolate: false, transition: 0,
    tileGrid: new TileGrid({extent, resolutions, tileSize: 512, origin: [0, 0]})});
  window.layer = new Tile({source, style: {variables, color: ['array', sum(0), sum(1), sum(2), 1]}});
  window.map = new Map({target: 'map', layers: [layer], controls: [], pixelRatio: 1,
    view: new View({projection, center: [x, -y], resolution: 1, constrainResolution: false})});
  return new Promise((done) => map.once('rendercomplete', done));
};

window.drag = async () => {
  const frames = 25, pixel = new Uint8Array(4), begun = performance.now();
  for (let i = 0; i < frames; i++) {
    layer.updateStyleVariables({high0: 1500 + 60 * i});
    await new Promise((done) => layer.once('postrender', done));
    const gl = document.querySelector('#map canvas').getContext('webgl');
    gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel);
  }
  return (1000 * frames) / (performance.now() - begun);
};
"""


def bundled(folder: Path) -> str | None:
    """Return OpenLayers and the page's script as one file; None if npm has not installed them."""
    program = folder / "node_modules" / ".bin" / "esbuild"
    if not program.exists() or not (folder / "node_modules" / "ol").exists():
        return None
    done = subprocess.run(
        [program, "--bundle", "--minify", "--log-level=error"],
        input=ENTRY, cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def opened(chromium: Any, script: str, viewer: Page) -> Page:
    """Show in OpenLayers what a viewer shows at full size."""
    shown = viewer.run("""(() => {
      const v = bfbridge.viewer, {width, height} = v.info.image.levels[0];
      return {
        width, height, x: v.view.x, y: v.view.y, across: v.width, down: v.height,
        scales: v.info.image.levels.map((l) => l.scale), raw: `raw/${v.file}/${v.info.image.index}`,
        planes: v.planes().map(({c, look}) => ({c, low: look.low, high: look.high, color: look.color})),
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
