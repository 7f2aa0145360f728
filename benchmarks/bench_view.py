"""The viewer in a real browser: first picture, new fields of view, contrast, abandoned requests.

    python benchmarks/bench_view.py [--openlayers FOLDER] [FILE...]

Chromium draws on the processor (SwiftShader), as on a machine without a graphics card. Without
files, a stack of four channels is made, and Java is measured with a ``.fake`` image. OpenLayers
(support/view_openlayers.py) drags the contrast of the same image, alternately with the viewer.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench_look import structures
from support import view_openlayers

from bfbridge import BioWriter
from tests.support.chromium import Page, browser

COUNT = 40
WARM = 10
ROUNDS = 5


def make(path: Path) -> Path:
    """Write four channels of 8192 x 8192, structures with a camera's noise, with a pyramid."""
    tile = structures(2048)
    with BioWriter(path, X=8192, Y=8192, C=4, dtype="uint16", pyramid=True) as bw:
        for c in range(4):
            for y in range(0, 8192, 2048):
                for x in range(0, 8192, 2048):
                    bw[y : y + 2048, x : x + 2048, 0, c] = tile + 97 * c + (x + y) // 16
    return path


def first_picture(chromium: Any, source: str) -> tuple[Page, subprocess.Popen[str], float]:
    """Return the page, the process and the seconds from the command to a sharp picture."""
    page = Page(chromium, 1280, 800)
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "bfbridge", "view", "--no-browser", source],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    page.page.goto(process.stdout.readline().strip())
    page.until("window.bfbridge && bfbridge.viewer.sharp", 120)
    return page, process, time.perf_counter() - begun


def fields_of_view(page: Page, first: int, count: int) -> list[float]:
    """Milliseconds until places that were not shown before are sharp, the page's own clock."""
    return page.run("""async ([first, count]) => {
      const v = bfbridge.viewer, times = [];
      const {width, height} = v.info.image.levels[0];
      for (let i = first; i < first + count; i++) {
        const begun = performance.now();
        const x = ((i * 0.381966) % 1) * width, y = ((i * 0.754878) % 1) * height;
        v.lookAt({...v.view, zoom: i % 2 ? 1 : 0.5, x, y});
        v.stirred = -Infinity;
        v.draw();
        const drawn = (done) => v.addEventListener('drawn', done, {once: true});
        while (!v.sharp) await new Promise(drawn);
        times.push(performance.now() - begun);
      }
      return times;
    }""", [first, count])  # fmt: skip


def contrast_drag(page: Page) -> tuple[float, int]:
    """Return frames a second while the maximum of a channel is dragged, and requests sent."""
    before = len(page.requests)
    rate = page.run("""async () => {
      const v = bfbridge.viewer, gl = v.painter.gl, pixel = new Uint8Array(4);
      const frames = 25, begun = performance.now();
      for (let i = 0; i < frames; i++) {
        v.setChannel(0, {high: 1500 + 60 * i});
        await new Promise((done) => v.addEventListener('drawn', done, {once: true}));
        gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel);
      }
      return (1000 * frames) / (performance.now() - begun);
    }""")
    return float(rate), len(page.requests) - before


def fling(page: Page) -> dict[str, int]:
    """Fling and zoom for some seconds; return the requests."""
    before = page.run("bfbridge.viewer.loader.counts")
    box = page.page.locator(".stage").bounding_box()
    assert box is not None
    mouse = page.page.mouse
    for turn in range(6):
        mouse.move(box["x"] + 600, box["y"] + 400)
        mouse.down()
        for step in range(1, 9):
            mouse.move(box["x"] + 600 - 50 * step, box["y"] + 400 - 30 * step * (-1) ** turn)
        mouse.up()
        page.page.wait_for_timeout(150)
        for _ in range(4):
            mouse.wheel(0, -150 if turn % 2 else 150)
            page.page.wait_for_timeout(20)
    page.settled()
    after = page.run("bfbridge.viewer.loader.counts")
    return {name: after[name] - before[name] for name in after}


def against_openlayers(chromium: Any, page: Page, script: str) -> None:
    """Drag the contrast in both, alternately, and compare the canvases first."""
    other = view_openlayers.opened(chromium, script, page)
    try:
        rates: tuple[list[float], list[float]] = ([], [])
        for _ in range(ROUNDS):
            rates[0].append(contrast_drag(page)[0])
            rates[1].append(view_openlayers.contrast_drag(other)[0])
        # Both show the picture of the last step.
        page.settled()
        mine = np.asarray(Image.open(BytesIO(page.page.locator(".stage").screenshot())))
        its = np.asarray(Image.open(BytesIO(other.page.locator("#map").screenshot())))
        apart = np.abs(mine[200:400, 100:500, :3].astype(int) - its[200:400, 100:500, :3])
        ours, theirs = map(statistics.median, rates)
        print(
            f"  contrast drag: {ours:.1f} frames/s, OpenLayers {theirs:.1f}, ratio "
            f"{ours / theirs:.2f}; pictures differ by at most {apart.max()}"
        )
    finally:
        other.close()


def measure(chromium: Any, source: str, cold: bool, script: str | None) -> None:
    page, process, seconds = first_picture(chromium, source)
    try:
        print(f"{Path(source).name}: first picture {seconds:.2f} s{' (Java cold)' if cold else ''}")
        # Shaders and scripts are compiled with the first ones.
        fields_of_view(page, COUNT, WARM)
        times = sorted(fields_of_view(page, 0, COUNT))
        print(f"  new field of view: p50 {statistics.median(times):.0f} ms, p99 {times[-1]:.0f} ms")
        page.run("bfbridge.viewer.actualSize()")
        page.settled()
        rate, requests = contrast_drag(page)
        shown = page.run("bfbridge.viewer.planes().length")
        print(f"  contrast drag, {shown} planes: {rate:.1f} frames/s, {requests} requests")
        if script is not None and not cold:
            against_openlayers(chromium, page, script)
        print(f"  fling and zoom: {fling(page)}")
        used = page.run("performance.memory?.usedJSHeapSize ?? 0") / 2**20
        print(f"  tiles {page.run('bfbridge.viewer.store.bytes') >> 20} MiB, heap {used:.0f} MiB")
    finally:
        page.close()
        process.send_signal(signal.SIGINT)
        process.wait(30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*")
    parser.add_argument("--openlayers", type=Path, metavar="FOLDER")
    arguments = parser.parse_args()
    files = arguments.files
    script = None
    if arguments.openlayers is not None:
        script = view_openlayers.bundled(arguments.openlayers)
        if script is None:
            parser.error(f"{arguments.openlayers}: {view_openlayers.__doc__}")
    with tempfile.TemporaryDirectory() as folder, browser() as chromium:
        # The browser's own start, and that of its WebGL, is not the viewer's.
        Page(chromium).page.goto("about:blank")
        if not files:
            files = [str(make(Path(folder) / "four.ome.tif"))]
            files.append(str(Path(folder) / "huge&sizeX=100000&sizeY=100000&resolutions=9.fake"))
        for name in files:
            measure(chromium, name, name.endswith(".fake"), script)


if __name__ == "__main__":
    main()
