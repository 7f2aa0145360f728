"""Around the image: plate map, regions, two images of different sizes, large images, the policy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

pytest.importorskip("aiohttp")
pytest.importorskip("cmap")

from bfbridge import BioReader
from bfbridge.viewer.page import add_viewer
from tests.support.chromium import Page
from tests.support.liveserver import Live, live
from tests.support.samples import write_ome_tiff, write_ome_zarr, write_plate

MIB = 2**20
WELLS = {(0, 0): 1, (0, 2): 2, (1, 1): 1}
SHAPES = (
    '<Rectangle ID="Shape:0" X="100" Y="50" Width="120" Height="60" StrokeColor="-16776961"/>'
    '<Ellipse ID="Shape:1" X="400" Y="200" RadiusX="50" RadiusY="20"/>'
    '<Line ID="Shape:2" X1="300" Y1="20" X2="350" Y2="90"/>'
    '<Polygon ID="Shape:3" Points="20,220 90,230 60,280"/>'
    '<Point ID="Shape:4" X="500.5" Y="40.5" Text="&lt;img src=x&gt;"/>'
)


def field(row: int, column: int, number: int) -> np.ndarray[Any, Any]:
    """A uniform image whose value names its place."""
    return np.full((1, 1, 1, 90, 120), 100 + 40 * row + 20 * column + 5 * number, np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("around")
    wells = {(r, c): [field(r, c, i) for i in range(n)] for (r, c), n in WELLS.items()}
    write_plate(made / "plate.ome.zarr", wells, 2, 3)
    y, x = np.ogrid[:300, :600]
    small = (x + y).astype(np.uint16)[np.newaxis, np.newaxis, np.newaxis]
    write_ome_tiff(made / "regions.ome.tif", small, tile=(256, 256))
    path = made / "regions.ome.tif"
    xml = str(tifffile.tiffcomment(path))
    xml = xml.replace("</Image>", '<ROIRef ID="ROI:0"/></Image>')
    xml = xml.replace(
        "</OME>", f'<ROI ID="ROI:0"><Union>{SHAPES}</Union></ROI>'
        '<ROI ID="ROI:1"><Union><Point ID="Shape:9" X="1" Y="1"/></Union></ROI></OME>'
    )  # fmt: skip
    tifffile.tiffcomment(path, xml.encode())
    write_ome_tiff(made / "double.ome.tif", np.kron(small, np.ones((2, 2), np.uint16)))
    rng = np.random.default_rng(1)
    levels = [rng.integers(0, 4000, (4, 2, 6, 1024 >> i, 1536 >> i), np.uint16) for i in range(2)]
    write_ome_zarr(made / "five.ome.zarr", levels, (1, 1, 1, 512, 512))
    return made


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Live]:
    with live(folder, extend=add_viewer) as started:
        yield started


# ---- plates


def test_the_plate_map(page: Page, server: Live) -> None:
    page.go(f"{server.url}/view/plate.ome.zarr")
    page.settled()
    page.run("bfbridge.browse(true)")
    cells = page.run("""[...document.querySelectorAll('.plate tbody tr')].map((row) =>
        [...row.querySelectorAll('td')].map((c) => c.querySelector('button')?.ariaLabel ?? ''))""")
    assert cells == [["Well A1", "", "Well A3"], ["", "Well B2", ""]]
    page.page.get_by_role("button", name="Well A3").click()
    page.until("document.querySelector('.plate [aria-current=true]')?.ariaLabel === 'Well A3'")
    page.settled()
    assert page.run("bfbridge.viewer.tiles.valuesAt(60, 45, {z: 0, t: 0}, [0], 0).values") == [140]
    # The second field of this well.
    page.page.locator(".fields").get_by_role("button", name="2").click()
    page.until("document.querySelector('.fields [aria-current=true]')?.textContent === '2'")
    page.settled()
    assert page.run("bfbridge.viewer.tiles.valuesAt(60, 45, {z: 0, t: 0}, [0], 0).values") == [145]


def test_the_plate_map_has_thumbnails(page: Page, server: Live) -> None:
    page.go(f"{server.url}/view/plate.ome.zarr")
    page.settled()
    page.run("bfbridge.browse(true)")
    page.until("""((all) => all.length === 3 && all.every((i) => i.complete && i.naturalWidth))(
        [...document.querySelectorAll('.plate img')])""")


# ---- regions of interest


def test_regions_are_where_the_file_says(page: Page, server: Live) -> None:
    page.go(f"{server.url}/view/regions.ome.tif")
    page.settled()
    page.until("bfbridge.viewer.shapes.length")
    shapes = page.run("bfbridge.viewer.shapes")
    # Those of this image alone: ROI:1 has no reference.
    assert [s["kind"] for s in shapes] == ["Rectangle", "Ellipse", "Line", "Polygon", "Point"]
    assert shapes[0]["points"] == [[100, 50], [220, 50], [220, 110], [100, 110]]
    assert shapes[0]["color"] == "#ff0000"
    ellipse = np.array(shapes[1]["points"])
    assert np.allclose((((ellipse - (400, 200)) / (50, 20)) ** 2).sum(1), 1)
    assert shapes[2]["points"] == [[300, 20], [350, 90]]
    assert shapes[3]["points"] == [[20, 220], [90, 230], [60, 280]]
    page.look(300, 150, 1)
    drawn = """([x, y]) => {
      const v = bfbridge.viewer, [px, py] = v.onStage(x, y).map((p) => Math.round(p * v.ratio));
      return [...v.above.getContext('2d').getImageData(px, py, 1, 1).data];
    }"""
    assert page.run(drawn, [160, 50]) == [255, 0, 0, 255]
    assert page.run(drawn, [160, 80]) == [0, 0, 0, 0]
    assert page.run(drawn, [450, 200])[3] == 255
    page.page.get_by_role("checkbox", name="Regions").uncheck()
    page.settled()
    assert page.run(drawn, [160, 50]) == [0, 0, 0, 0]
    # Text of a file is text.
    assert page.run("document.querySelectorAll('img[src=x]').length") == 0


# ---- two images


def test_images_of_different_sizes_show_the_same_place(page: Page, server: Live) -> None:
    page.go(f"{server.url}/view/regions.ome.tif?beside=double.ome.tif")
    page.settled()
    page.until("bfbridge.second?.viewer.sharp")
    page.look(200, 100, 2)
    page.until("bfbridge.second.viewer.sharp")
    other = page.run("bfbridge.second.viewer.view")
    assert (other["x"], other["y"], other["zoom"]) == (400, 200, 1)
    first, second = page.run("""[bfbridge.main, bfbridge.second].map(({viewer: v}) =>
        v.valuesAt(...v.imagePlace(v.width / 2 + 20.5, v.height / 2 + 10.5)).values)""")
    assert first == second == [200 + 10 + 100 + 5]
    # The second moves the first as well.
    page.run(
        """((v) => v.lookAt({...v.view, x: 800, y: 300, zoom: 1.5}))(bfbridge.second.viewer)"""
    )
    page.settled()
    mine = page.run("bfbridge.viewer.view")
    assert (mine["x"], mine["y"], mine["zoom"]) == (400, 150, 3)


# ---- the policy


def test_the_policy_holds_and_is_effective(chromium: Any, server: Live) -> None:
    page = Page(chromium, permissions=["clipboard-write"])
    page.page.add_init_script("""
      window.violations = [];
      document.addEventListener('securitypolicyviolation',
        (e) => window.violations.push(`${e.violatedDirective} ${e.blockedURI}`));
    """)
    page.go(f"{server.url}/view/regions.ome.tif?beside=double.ome.tif")
    page.settled()
    for key in ("r", "f", "n", "a", "i"):
        page.page.locator(".stage").first.press(key)
        page.page.wait_for_timeout(50)
    page.page.get_by_role("tab", name="Original").click()
    page.page.get_by_role("button", name="close").first.click()
    with page.page.expect_download() as download:
        page.page.locator(".stage").first.press("s")
    assert download.value.suggested_filename == "regions.ome.tif.png"
    page.page.get_by_role("button", name="Light or dark").click()
    page.settled()
    assert page.run("window.violations") == []
    assert page.errors == []
    own = server.url.partition("/~")[0] + "/"
    assert [u for u in page.requests if not u.startswith((own, "data:", f"blob:{own}"))] == []
    # The browser refuses what comes from elsewhere, and code in the page.
    page.run("""async () => {
      await fetch('http://localhost:9/').catch(() => undefined);
      const script = document.createElement('script');
      script.textContent = 'window.ran = true';
      document.body.append(script);
      await new Promise((done) => setTimeout(done, 100));
    }""")
    assert page.run("window.violations.length") == 2
    assert not page.run("window.ran")
    page.close()


# ---- large images


def fling(page: Page, turns: int = 8) -> None:
    """Drag and release quickly, and zoom, as people do who look for something."""
    box = page.page.locator(".stage").bounding_box()
    assert box is not None
    mouse, x, y = page.page.mouse, box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for turn in range(turns):
        mouse.move(x, y)
        mouse.down()
        for step in range(1, 9):
            mouse.move(x - 40 * step, y - 25 * step * (-1) ** turn)
        mouse.up()
        page.page.wait_for_timeout(300)
        for _ in range(4):
            mouse.wheel(0, 240 if turn % 4 > 1 else -240)
            page.page.wait_for_timeout(16)
        page.page.wait_for_timeout(200)
    page.settled()


def watched(page: Page, server: Live, act: Any) -> dict[str, float]:
    """Do something; return the requests and the largest memory of the page's tiles."""
    page.run("""() => {
      window.most = 0;
      bfbridge.viewer.addEventListener('drawn', () => {
        window.most = Math.max(window.most, bfbridge.viewer.store.bytes);
      });
    }""")
    before = page.run("bfbridge.viewer.loader.counts")
    wasted = server.metrics.get("wasted")
    act()
    after = page.run("bfbridge.viewer.loader.counts")
    found = {name: after[name] - before[name] for name in after}
    return {**found, "most": page.run("window.most"),
            "wasted": server.metrics.get("wasted") - wasted}  # fmt: skip


@pytest.mark.java
def test_an_image_of_100_000_by_100_000(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "huge&sizeX=100000&sizeY=100000&resolutions=9.fake"
    with live(str(path), extend=add_viewer) as server:
        page.go(f"{server.url}/view/huge%26sizeX=100000%26sizeY=100000%26resolutions=9.fake")
        page.until("bfbridge.viewer.sharp && bfbridge.viewer.complete", 90)
        page.look(50_000, 50_000, 0.5)
        found = watched(page, server, lambda: fling(page))
        assert found["sent"] > 5
        assert found["failed"] == 0
        assert found["aborted"] <= max(2, 0.05 * found["sent"])
        assert found["wasted"] <= max(2, 0.05 * found["sent"])
        assert found["most"] <= 192 * MIB
        assert server.metrics.get("cache_bytes") <= server.options.cache_bytes
        # The last view is sharp, and that of the file.
        page.look(70_000.5, 30_000.5, 1)
        values = page.run("bfbridge.viewer.tiles.valuesAt(70000, 30000, {z: 0, t: 0}, [0], 0)")
        with BioReader(path) as br:
            wanted = int(br.read(X=(70_000, 70_001), Y=(30_000, 30_001)).item())
        assert values == {"level": 0, "values": [wanted]}


def test_playing_a_stack_of_five_axes_is_bounded(page: Page, server: Live) -> None:
    page.go(f"{server.url}/view/five.ome.zarr")
    page.settled()
    page.look(768, 512, 1)

    def play() -> None:
        for axis in "zt":
            page.page.get_by_role("button", name=f"Play along {axis}").click()
            page.page.wait_for_timeout(1500)
            page.page.get_by_role("button", name=f"Play along {axis}").click()
            page.settled()
            page.until("!bfbridge.viewer.loader.running.size")

    found = watched(page, server, play)
    assert found["sent"] > 20
    assert found["failed"] == 0
    assert found["most"] <= 192 * MIB
    # Tiles that were requested ahead are kept while the planes before them are completed.
    assert found["aborted"] <= 0.05 * found["sent"]
    shown = page.run("bfbridge.viewer.shown")
    assert shown == {axis: page.run(f"bfbridge.viewer.state.{axis}") for axis in "zt"}
