"""The canvas shows what `BioReader.render` draws."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("aiohttp")
pytest.importorskip("cmap")

from bfbridge import BioReader
from bfbridge.viewer.page import add_viewer
from tests.real.manifest import DATA, Entry, entries
from tests.support.chromium import Page, browser
from tests.support.liveserver import Live, live
from tests.support.samples import write_ome_tiff

OPEN = [entry for entry in entries() if entry.opens and not entry.pixels_fail]
QUICK = {"ometiff", "ometiff_pyramid", "omezarr_v05", "svs", "tiff_multiseries"}


def assert_same(page: Page, view: Any, series: int = 0) -> np.ndarray[Any, Any]:
    """Compare the middle of an image at full size with `render`."""
    across, down = page.stage()
    sizes = view.sizes
    width, height = min(sizes["X"], across), min(sizes["Y"], down)
    x, y = (sizes["X"] - width) // 2, (sizes["Y"] - height) // 2
    found = page.region(x, y, width, height).astype(int)
    z, t = page.run("[bfbridge.viewer.state.z, bfbridge.viewer.state.t]")
    wanted = view.render(x=(x, x + width), y=(y, y + height), z=z, t=t, level=0)[..., :3]
    assert found.shape == wanted.shape
    difference = np.abs(found - wanted)
    assert difference.max() <= 1, f"{(difference > 1).mean():.2%} differ, {difference.max()}"
    return found


DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]


def waves(dtype: str, channels: int = 3, height: int = 600, width: int = 700) -> Any:
    """Smooth pictures with noise, another in each channel, over the range of a type."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:height, :width]
    planes = [
        np.sin(x / (20 + 9 * c)) * np.cos(y / (31 - 5 * c)) + rng.normal(0, 0.1, (height, width))
        for c in range(channels)
    ]
    values = (np.stack(planes) + 1.5) / 3
    kind = np.dtype(dtype)
    if kind.kind == "f":
        scaled = values * 10.0 + (1e9 if dtype == "float64" else 0)
    else:
        bounds = np.iinfo(kind)
        span = min(float(bounds.max) - float(bounds.min), 4e9)
        scaled = bounds.min + values.clip(0, 1) * span
        if dtype == "uint32":
            scaled = 3e9 + values.clip(0, 1) * 1000  # more digits than float32 has
    return np.asarray(scaled, kind)[np.newaxis, :, np.newaxis]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("viewed")
    for dtype in DTYPES:
        write_ome_tiff(made / f"{dtype}.ome.tif", waves(dtype), tile=(256, 256))
    write_ome_tiff(made / "many.ome.tif", waves("uint16", 11, 300, 400), tile=(256, 256))
    return made


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Live]:
    with live(folder, extend=add_viewer) as started:
        yield started


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(page: Page, server: Live, folder: Path, dtype: str) -> None:
    page.go(f"{server.url}/view/{dtype}.ome.tif")
    page.settled()
    with BioReader(folder / f"{dtype}.ome.tif") as br:
        found = assert_same(page, br.series[0])
    assert found.std() > 10


def test_more_channels_than_one_pass_draws(page: Page, server: Live, folder: Path) -> None:
    page.go(f"{server.url}/view/many.ome.tif")
    page.settled()
    page.run(
        "bfbridge.viewer.set({channels: bfbridge.viewer.state.channels.map("
        "(c) => ({...c, active: true}))})"
    )
    with BioReader(folder / "many.ome.tif") as br:
        view = br.series[0]
        found = page.region(0, 0, 400, 300).astype(int)
        wanted = view.render(channels=range(11), level=0)[..., :3]
        assert np.abs(found - wanted).max() <= 1


@pytest.mark.parametrize(
    ("change", "band"),
    [
        ({"low": 100, "high": 180}, {"min": 100, "max": 180}),
        ({"low": 20, "high": 220, "gamma": 0.5}, {"min": 20, "max": 220, "gamma": 0.5}),
        ({"low": 20, "high": 220, "invert": True}, {"min": 20, "max": 220, "invert": True}),
        (
            {"low": 0, "high": 255, "palette": "viridis"},
            {"min": 0, "max": 255, "palette": "viridis"},
        ),
    ],
    ids=["window", "gamma", "invert", "palette"],
)  # fmt: skip
def test_contrast(page: Page, server: Live, folder: Path, change: Any, band: Any) -> None:
    page.go(f"{server.url}/view/uint8.ome.tif")
    page.settled()
    page.run("bfbridge.viewer.solo(0)")
    page.run("(change) => bfbridge.viewer.setChannel(0, {color: '#ffffff', ...change})", change)
    found = page.region(0, 0, 500, 400).astype(int)
    with BioReader(folder / "uint8.ome.tif") as br:
        style = {"bands": [{"band": 1, "palette": "white", **band}]}
        wanted = br.series[0].render(style=style, x=(0, 500), y=(0, 400), level=0)[..., :3]
    assert np.abs(found - wanted[: found.shape[0], : found.shape[1]]).max() <= 1


def test_a_smooth_picture_has_no_seams(page: Page, server: Live, folder: Path) -> None:
    page.go(f"{server.url}/view/uint8.ome.tif")
    page.settled()
    page.run("bfbridge.viewer.solo(0)")
    page.run("bfbridge.viewer.setChannel(0, {low: 0, high: 255, color: '#ffffff'})")
    # The corner of four tiles, eight times enlarged.
    page.look(512, 512, 8)
    found = page.picture()[..., 0].astype(float)
    with BioReader(folder / "uint8.ome.tif") as br:
        plane = br.series[0].read(C=0).squeeze().astype(float)
    across, down = page.stage()
    x = (np.arange(across) + 0.5 - across / 2) / 8 + 512 - 0.5
    y = (np.arange(down) + 0.5 - down / 2) / 8 + 512 - 0.5
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = x - x0, (y - y0)[:, np.newaxis]
    upper, lower = (
        plane[np.ix_(y0 + i, x0)] * (1 - fx) + plane[np.ix_(y0 + i, x0 + 1)] * fx for i in (0, 1)
    )
    assert np.abs(found - (upper * (1 - fy) + lower * fy)).max() <= 1.01


def without_webgl(url: str) -> str:
    with browser("--disable-3d-apis") as started:
        page = Page(started)
        page.page.goto(url)
        page.page.wait_for_selector("[role=alert]")
        text: str = page.page.inner_text("[role=alert]")
        return text


@pytest.mark.slow(ci=True)
def test_without_webgl_the_page_says_so(server: Live) -> None:
    # The browser of the other tests runs its own event loop in this thread.
    with ThreadPoolExecutor(1) as pool:
        assert "WebGL 2" in pool.submit(without_webgl, f"{server.url}/view/uint8.ome.tif").result()


def test_this_browser_has_webgl(page: Page, server: Live) -> None:
    page.go(f"{server.url}/view/uint8.ome.tif")
    assert page.run("bfbridge.viewer.painter.gl instanceof WebGL2RenderingContext")


# ---- real files


@pytest.fixture(scope="module")
def real() -> Iterator[Live]:
    with live(DATA, extend=add_viewer) as started:
        yield started


@pytest.fixture(scope="module")
def real_page(chromium: Any, real: Live) -> Iterator[Page]:
    page = Page(chromium)
    page.go(f"{real.url}/view/")
    yield page
    page.close()


@pytest.mark.java
@pytest.mark.parametrize("entry", [e for e in OPEN if e.format in QUICK], ids=str)
def test_some_files(real_page: Page, entry: Entry) -> None:
    run(real_page, entry)


@pytest.mark.java
@pytest.mark.slow
@pytest.mark.parametrize("entry", OPEN, ids=str)
def test_every_file(real_page: Page, entry: Entry) -> None:
    run(real_page, entry)


def run(real_page: Page, entry: Entry) -> None:
    real_page.open(entry.path.relative_to(DATA).as_posix())
    with BioReader(entry.path) as br:
        found = assert_same(real_page, br.series[0])
        uniform = np.ptp(br.series[0].render(max_size=256)[..., :3]) == 0
        whole = found.shape[:2] == (br.series[0].sizes["Y"], br.series[0].sizes["X"])
    assert uniform or not whole or np.ptp(found) > 0
    assert real_page.errors == []
