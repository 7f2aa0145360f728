"""Make the pictures of the viewer in the documentation: docs/screenshots/*.webp.

    python docs/screenshots.py [viewer|plate|window|notebook...]

Needs playwright and Chromium, and JupyterLab for the notebook. All images are synthetic. Look at
the pictures before you commit them.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import bfbridge  # noqa: E402
from bfbridge.gui.window import Window  # noqa: E402
from bfbridge.viewer.page import add_viewer  # noqa: E402
from tests.support.chromium import Page, browser  # noqa: E402
from tests.support.liveserver import live  # noqa: E402
from tests.support.samples import write_plate  # noqa: E402

OUTPUT = ROOT / "docs" / "screenshots"
SIZES = {"wide": (1280, 760), "narrow": (420, 760)}
MOST_BYTES = 150_000


def cells(height: int, width: int, count: int, depth: int, seed: int) -> np.ndarray[Any, Any]:
    """Return round cells with nuclei and bright spots: C, Z, Y, X, uint16."""
    rng = np.random.default_rng(seed)
    image = np.zeros((3, depth, height, width), np.float32)
    for _ in range(count):
        cy, cx, size = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(22, 46)
        cz, turn, long = rng.uniform(0, depth - 1), rng.uniform(0, np.pi), rng.uniform(1, 1.5)
        reach = int(2.2 * size)
        top, left = max(0, int(cy) - reach), max(0, int(cx) - reach)
        y, x = np.mgrid[top : min(height, int(cy) + reach), left : min(width, int(cx) + reach)]
        u = ((x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)) / long
        v = ((y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)) * long
        away = np.hypot(u, v) / size
        grain = 1 + 0.25 * np.sin(u / 3.1) * np.sin(v / 2.7)
        spots = np.zeros(away.shape, np.float32)
        for _ in range(9):
            sy, sx = cy + rng.normal(0, size * 0.55), cx + rng.normal(0, size * 0.55)
            spots += np.exp(-((x - sx) ** 2 + (y - sy) ** 2) / 9)
        for z in range(depth):
            focus = np.exp(-(((z - cz) / 2.5) ** 2))
            part = np.s_[z, y.min() : y.max() + 1, x.min() : x.max() + 1]
            image[0][part] += 2400 * focus * grain * np.exp(-((away / 0.5) ** 6))
            image[1][part] += 1100 * focus * np.exp(-((away / 1.0) ** 6)) * (0.4 + away)
            image[2][part] += 3000 * focus * spots * (away < 1)
    image = rng.poisson(np.clip(image, 0, None) / 4 + 40) * 4
    return np.clip(image, 0, 4095).astype(np.uint16)


def save(page: Page, name: str) -> None:
    """Write what a page shows, at the quality that keeps it small."""
    shot = Image.open(BytesIO(page.page.screenshot())).convert("RGB")
    OUTPUT.mkdir(exist_ok=True)
    target = OUTPUT / f"{name}.webp"
    for quality in (90, 80, 70, 60, 45):
        shot.save(target, quality=quality, method=6)
        if target.stat().st_size < MOST_BYTES:
            break
    print(f"{target.relative_to(ROOT)}: {target.stat().st_size} bytes")


def shoot(chromium: Any, url: str, name: str, prepare: Callable[[Page], None]) -> None:
    """Take four pictures of a page: dark and light, wide and narrow."""
    for scheme in ("dark", "light"):
        for size, (width, height) in SIZES.items():
            page = Page(chromium, width, height, color_scheme=scheme)
            page.go(url)
            page.settled()
            prepare(page)
            page.page.wait_for_timeout(1500)
            save(page, f"{name}-{scheme}-{size}")
            page.close()


def viewer(chromium: Any, folder: Path) -> None:
    """Show a stack of three channels, zoomed in, with a measured length."""
    path = folder / "cells.ome.tif"
    bfbridge.imwrite(
        path, cells(1536, 2048, 190, 7, 5), axes="CZYX", pixel_size=0.325,
        channel_names=["DAPI", "Actin", "FISH"], pyramid=True,
    )  # fmt: skip

    def prepare(page: Page) -> None:
        page.run("""() => {
          const v = bfbridge.viewer, colors = ['#4d7dff', '#26d07c', '#ff5fa2'];
          const channels = v.state.channels.map((c, i) => ({...c, active: true, color: colors[i]}));
          v.set({z: 3, channels});
          v.lookAt({...v.view, x: 1000, y: 760, zoom: 0.9});
          bfbridge.channels.scrollTop = 0;
        }""")
        page.settled()
        page.run("bfbridge.viewer.autoContrast()")
        page.run("bfbridge.measure('length')")
        box = page.page.locator(".stage").bounding_box()
        assert box is not None
        mouse, x, y = page.page.mouse, box["x"] + box["width"] / 3, box["y"] + box["height"] / 2
        mouse.move(x, y)
        mouse.down()
        mouse.move(x + 130, y - 60, steps=4)
        mouse.up()
        page.run("bfbridge.measure('length')")
        page.run("bfbridge.say('')")
        page.settled()

    with live(path, extend=add_viewer) as server:
        shoot(chromium, f"{server.url}/view/{path.name}", "viewer", prepare)


def plate(chromium: Any, folder: Path) -> None:
    """Show a plate of 4 x 6 wells, most of them with images."""
    wells = {
        (row, column): [
            cells(256, 320, 4 + 5 * column + 2 * row, 1, 100 * row + 10 * column + field)[
                np.newaxis, :2
            ]
            for field in range(2)
        ]
        for row in range(4)
        for column in range(6)
        if (row, column) not in ((0, 0), (3, 5), (2, 4))
    }
    path = write_plate(folder / "screen.ome.zarr", wells, 4, 6)

    def prepare(page: Page) -> None:
        page.run("bfbridge.browse(true)")
        page.page.get_by_role("button", name="Well B4", exact=True).click()
        page.settled()

    with live(path, extend=add_viewer) as server:
        shoot(chromium, f"{server.url}/view/{path.name}", "plate", prepare)


def window(chromium: Any, folder: Path) -> None:
    """Show the window with a chosen file, and how it is converted."""
    # A short path, because the page shows it.
    shown = folder.parent / "Experiment 7"
    shown.mkdir()
    try:
        bfbridge.imwrite(
            shown / "cells.ome.tif", cells(900, 1200, 70, 3, 5), axes="CZYX", pixel_size=0.325,
            channel_names=["DAPI", "Actin", "FISH"], pyramid=True,
        )  # fmt: skip
        for number in range(3):
            pixels = cells(300, 400, 20, 1, number)[:, 0]
            bfbridge.imwrite(shown / f"control {number}.ome.tif", pixels, axes="CYX")
        (shown / "raw").mkdir()
        (shown / "notes.txt").write_text("Stained on Monday.")
        for scheme in ("dark", "light"):
            with live(extend=Window([str(shown)]).add_to) as server:
                page = Page(chromium, SIZES["wide"][0], 980, color_scheme=scheme)
                page.go(f"{server.url}/gui")
                page.page.get_by_label("Choose cells.ome.tif").check()
                page.page.locator(".source dl").wait_for()
                page.page.wait_for_timeout(1000)
                save(page, f"window-{scheme}-wide")
                page.close()
    finally:
        shutil.rmtree(shown)


def notebook(chromium: Any, folder: Path) -> None:
    """Show the widget in JupyterLab."""
    bfbridge.imwrite(
        folder / "cells.ome.tif", cells(700, 1000, 60, 3, 9)[:2], axes="CZYX", pixel_size=0.325,
        channel_names=["DAPI", "Actin"],
    )  # fmt: skip
    empty = {"cell_type": "code", "metadata": {}, "execution_count": None, "outputs": []}
    lines = (
        'from bfbridge import BioReader\n\nbr = BioReader("cells.ome.tif")\nbr.view(height=430)',
        "br.shape, br.channel_names",
    )  # fmt: skip
    content = {
        "cells": [{**empty, "id": f"c{i}", "source": text} for i, text in enumerate(lines)],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    (folder / "cells.ipynb").write_text(json.dumps(content))
    for scheme in ("dark", "light"):
        themes = folder / scheme / "@jupyterlab" / "apputils-extension"
        themes.mkdir(parents=True)
        (themes / "themes.jupyterlab-settings").write_text(
            json.dumps({"theme": f"JupyterLab {scheme.title()}"})
        )
        with jupyterlab(folder, folder / scheme) as url:
            page = Page(chromium, 1100, 760, color_scheme=scheme)
            page.page.goto(f"{url}/lab/tree/cells.ipynb?reset")
            page.page.get_by_text("br.view").first.wait_for(timeout=60_000)
            page.page.wait_for_timeout(3000)
            page.page.click("text=Run >> nth=0")
            page.page.click("text=Run All Cells")
            page.page.wait_for_selector(".bfbridge .stage", timeout=60_000)
            page.page.get_by_role("button", name="No", exact=True).click()  # news
            page.page.keyboard.press("Control+b")  # hides the list of files
            page.page.wait_for_timeout(5000)
            save(page, f"notebook-{scheme}-wide")
            page.close()


@contextmanager
def jupyterlab(folder: Path, settings: Path) -> Iterator[str]:
    """Run JupyterLab; give its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", f"--port={port}", "--allow-root",
        "--IdentityProvider.token=", "--ServerApp.root_dir=.",
    ]  # fmt: skip
    variables = {"JUPYTERLAB_SETTINGS_DIR": str(settings), "HOME": str(folder)}
    process = subprocess.Popen(
        command, cwd=folder, env=os.environ | variables,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(f"http://127.0.0.1:{port}/api")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def wait_for(url: str) -> None:
    """Wait until a server answers."""
    for _ in range(300):
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise TimeoutError(url)


def main() -> None:
    """Make the pictures that are named, or all."""
    makers = {"viewer": viewer, "plate": plate, "window": window, "notebook": notebook}
    with browser() as chromium:
        for name in sys.argv[1:] or makers:
            with tempfile.TemporaryDirectory() as folder:
                makers[name](chromium, Path(folder))


if __name__ == "__main__":
    main()
