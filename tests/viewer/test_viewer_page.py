"""What people do with the page: move, play, measure, choose, with mouse, fingers and keys."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("aiohttp")
pytest.importorskip("cmap")

from bfbridge.viewer.assets import MODULES, PARTS
from bfbridge.viewer.page import add_viewer
from tests.support.chromium import Page
from tests.support.liveserver import Live, live
from tests.support.samples import write_ome_tiff, write_ome_zarr

SHAPE = (3, 2, 7, 900, 1400)
PIXEL = {f"PhysicalSize{a}{end}": v for a in "XY" for end, v in (("", 0.25), ("Unit", "µm"))}


def stack() -> np.ndarray[Any, Any]:
    """Values that tell t, c, z, y and x apart."""
    t, c, z, y, x = np.ogrid[tuple(slice(n) for n in SHAPE)]
    return (x * 7 + y * 11 + z * 1000 + c * 3000 + t * 9000).astype(np.uint16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("pages")
    write_ome_tiff(made / "stack.ome.tif", stack(), tile=(256, 256), metadata=PIXEL)
    labels = np.zeros((1, 1, 1, 300, 500), np.uint16)
    labels[..., 50:150, 60:200] = 5
    labels[..., 180:260, 300:450] = 300
    image = np.full(labels.shape, 100, np.uint16)
    image[..., ::2, :] = 200
    write_ome_zarr(made / "cells.ome.zarr", [image], (1, 1, 1, 256, 256), labels=labels)
    coarse = np.ascontiguousarray(labels[..., ::2, ::2])
    write_ome_zarr(made / "coarse.ome.zarr", [image], (1, 1, 1, 256, 256), labels=coarse)
    write_ome_tiff(
        made / "unnamed.ome.tif",
        np.arange(2 * 64 * 64, dtype=np.uint16).reshape(1, 2, 1, 64, 64),
        metadata={"Channel": {"Name": ["", "GFP"]}},
    )
    (made / "broken.ome.tif").write_bytes(b"II*\0" + b"\xff" * 100)
    return made


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Live]:
    with live(folder, extend=add_viewer) as started:
        yield started


@pytest.fixture
def viewed(page: Page, server: Live) -> Page:
    page.go(f"{server.url}/view/stack.ome.tif")
    page.settled()
    return page


def raw_requests(page: Page) -> list[str]:
    return [url for url in page.requests if "/raw/" in url]


def test_no_request_leaves_this_machine_and_nothing_violates_the_policy(viewed: Page) -> None:
    assert all(url.startswith(("http://127.0.0.1:", "data:", "blob:")) for url in viewed.requests)
    assert viewed.errors == []


def test_a_plain_image_loads_little(page: Page, folder: Path) -> None:
    with live(folder / "stack.ome.tif", extend=add_viewer) as server:
        page.go(f"{server.url}/view/stack.ome.tif")
        page.settled()
        page.page.wait_for_timeout(500)
        loaded = page.run("""() => Object.fromEntries(performance.getEntriesByType('resource')
            .filter((r) => r.name.endsWith('.js'))
            .map((r) => [r.name.split('/').pop(), r.decodedBodySize]))""")
        assert set(loaded) == {f"{name}.js" for name in (*MODULES, "page")}
        assert 0 < sum(loaded.values()) < 80_000
        # The rest is there when it is used.
        root = f"{server.url}/static"
        for name in PARTS:
            assert page.run(f"import('{root}/{name}.js').then((m) => Object.keys(m).length)") > 0


def test_contrast_needs_no_request(viewed: Page) -> None:
    viewed.page.wait_for_timeout(500)
    before = len(viewed.requests)
    picture = viewed.picture()
    handle = viewed.page.get_by_role("slider", name=re.compile("^Maximum of")).first.bounding_box()
    assert handle is not None
    x, y = handle["x"] + handle["width"] / 2, handle["y"] + 10
    viewed.page.mouse.move(x, y)
    viewed.page.mouse.down()
    for step in range(1, 11):
        viewed.page.mouse.move(x - 10 * step, y)
    viewed.page.mouse.up()
    viewed.settled()
    assert viewed.run("bfbridge.viewer.state.channels[0].high") < 20000
    assert not np.array_equal(picture, viewed.picture())
    assert len(viewed.requests) == before


def test_the_value_under_the_cursor_is_that_of_the_file(viewed: Page) -> None:
    viewed.run("bfbridge.viewer.set({z: 2, t: 1})")
    viewed.look(700, 450, 4)
    px, py = viewed.run("bfbridge.viewer.onStage(711.5, 463.5)")
    box = viewed.page.locator(".stage").bounding_box()
    assert box is not None
    viewed.page.mouse.move(box["x"] + px, box["y"] + py)
    viewed.page.wait_for_timeout(50)
    status = viewed.page.inner_text(".status")
    first, second = (int(stack()[1, c, 2, 463, 711]) for c in (0, 1))
    assert "x 711, y 463" in status
    assert f"{first}, {second}" in status
    assert "177.9 µm, 115.9 µm" in status  # 711.5 and 463.5 times 0.25, to four digits


@pytest.mark.parametrize("zoom", [0.2, 1.0, 7.3])
def test_scale_bar(viewed: Page, zoom: float) -> None:
    viewed.look(700, 450, zoom)
    number, unit = viewed.page.inner_text(".scalebar span").split()
    length = float(number) * {"nm": 1e-3, "µm": 1.0, "mm": 1e3}[unit]
    width = viewed.run("document.querySelector('.scalebar i').getBoundingClientRect().width")
    assert width * 0.25 / zoom == pytest.approx(length, rel=0.01)
    assert 60 <= width <= 161


def test_a_link_restores_the_view(viewed: Page, chromium: Any) -> None:
    viewed.run("bfbridge.viewer.set({z: 5, t: 2})")
    viewed.run(
        "bfbridge.viewer.setChannel(1, {color: '#12ab34', low: 20, high: 12000, gamma: 0.7})"
    )
    viewed.look(333, 444, 1.5)
    viewed.run("bfbridge.viewer.turn(90)")
    viewed.run("bfbridge.viewer.mirror()")
    viewed.settled()
    viewed.page.wait_for_timeout(500)
    again = Page(chromium)
    again.go(viewed.page.url)
    again.settled()
    np.testing.assert_array_equal(again.picture(), viewed.picture())
    state = "JSON.stringify([bfbridge.viewer.state, bfbridge.viewer.view])"
    assert again.run(state) == viewed.run(state)
    again.close()


def test_keys_alone(viewed: Page) -> None:
    keyboard = viewed.page.keyboard
    viewed.page.locator(".stage").focus()
    before = viewed.run("bfbridge.viewer.view")
    for key, changed in (
        ("+", "zoom"),
        ("ArrowRight", "x"),
        ("ArrowDown", "y"),
        ("r", "angle"),
        ("f", "flip"),
    ):
        keyboard.press(key)
        viewed.settled()
        after = viewed.run("bfbridge.viewer.view")
        assert after[changed] != before[changed], key
        before = after
    z = viewed.run("bfbridge.viewer.state.z")
    keyboard.press("PageUp")
    assert viewed.run("bfbridge.viewer.state.z") == z + 1
    keyboard.press(".")
    assert viewed.run("bfbridge.viewer.state.t") == 1
    keyboard.press("?")
    viewed.page.locator("dialog.help").wait_for()
    keyboard.press("Escape")
    # Every control is reached by Tab and has a label.
    names = viewed.run("""[...document.querySelectorAll('button, input, select, [tabindex]')]
        .filter((e) => e.checkVisibility())
        .map((e) => e.ariaLabel || e.title || e.textContent || e.labels?.[0]?.textContent || '')""")
    assert len(names) > 30
    assert all(name.strip() for name in names)


def test_a_pinch_zooms(chromium: Any, server: Live) -> None:
    page = Page(chromium, 420, 700, has_touch=True, is_mobile=True)
    page.go(f"{server.url}/view/stack.ome.tif")
    page.settled()
    before = page.run("bfbridge.viewer.view")
    session = page.context.new_cdp_session(page.page)

    def touch(kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(places)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", (180, 300), (240, 300))
    for step in range(1, 7):
        touch("touchMove", (180 - 10 * step, 300), (240 + 10 * step, 300))
    touch("touchEnd")
    page.settled()
    after = page.run("bfbridge.viewer.view")
    assert after["zoom"] / before["zoom"] == pytest.approx(3, rel=0.05)
    touch("touchStart", (200, 300))
    for step in range(1, 5):
        touch("touchMove", (200, 300 - 20 * step))
    touch("touchEnd")
    page.settled()
    assert page.run("bfbridge.viewer.view.y") > after["y"] + 70 / after["zoom"]
    assert page.errors == []
    page.close()


def test_a_fling_wastes_little(viewed: Page, server: Live) -> None:
    viewed.look(200, 200, 3)
    before = viewed.run("bfbridge.viewer.loader.counts")
    box = viewed.page.locator(".stage").bounding_box()
    assert box is not None
    for _ in range(4):
        viewed.page.mouse.move(box["x"] + 500, box["y"] + 300)
        viewed.page.mouse.down()
        for step in range(1, 9):
            viewed.page.mouse.move(box["x"] + 500 - 45 * step, box["y"] + 300 - 20 * step)
        viewed.page.mouse.up()
    viewed.page.mouse.move(box["x"] + 300, box["y"] + 200)
    for delta in (-200, -200, 300, 300, 300, -100):
        viewed.page.mouse.wheel(0, delta)
        viewed.page.wait_for_timeout(16)
    viewed.settled()
    after = viewed.run("bfbridge.viewer.loader.counts")
    sent = after["sent"] - before["sent"]
    assert after["aborted"] - before["aborted"] <= max(1, 0.05 * sent)
    assert after["failed"] == 0
    assert viewed.run("bfbridge.viewer.sharp")


def test_glides_that_are_stopped_abandon_no_requests(viewed: Page) -> None:
    viewed.look(100, 450, 12)
    before = viewed.run("bfbridge.viewer.loader.counts")
    stopped, ended = viewed.run("""() => {
      const v = bfbridge.viewer, {counts} = v.loader, {now} = performance;
      let clock = performance.now();
      performance.now = () => clock;
      const glide = () => v.glideTo({...v.view, x: v.view.x + 230}, 900);
      const wait = (ms) => {
        for (const end = clock + ms; clock < end; clock += 20) v.draw();
      };
      const first = counts.sent;
      for (let i = 0; i < 4; i++) {
        v.stirred = clock;
        glide();
        wait(200);
        v.stop();
      }
      const stopped = counts.sent - first;
      glide();
      wait(1000);
      performance.now = now;
      return [stopped, counts.sent - first];
    }""")
    viewed.settled()
    after = viewed.run("bfbridge.viewer.loader.counts")
    assert after["aborted"] == before["aborted"]
    assert stopped == 0
    assert ended > 0
    assert viewed.run("bfbridge.viewer.sharp")


def test_at_most_six_requests_at_once(viewed: Page) -> None:
    viewed.run("""() => {
      const loader = bfbridge.viewer.loader, start = loader.start.bind(loader);
      window.most = 0;
      loader.start = () => { start(); window.most = Math.max(window.most, loader.running.size); };
    }""")
    for z in range(7):
        viewed.run("(z) => bfbridge.viewer.set({z})", z)
        viewed.settled()
    assert 1 <= viewed.run("window.most") <= 6


def test_another_slice_replaces_the_first_without_a_gap(viewed: Page) -> None:
    viewed.look(700, 450, 1)
    viewed.run("""() => {
      window.seen = [];
      bfbridge.viewer.addEventListener('drawn', () => {
        const gl = bfbridge.viewer.painter.gl, pixel = new Uint8Array(4);
        gl.readPixels(300, 300, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel);
        window.seen.push([...pixel].join());
      });
      bfbridge.viewer.step('z', 1);
    }""")
    viewed.settled()
    seen = viewed.run("window.seen")
    # The pixel before, then the pixel after: never the background, nor a coarser level's.
    assert 1 <= len(set(seen)) <= 2
    assert "0,0,0,255" not in seen


def test_playing(viewed: Page) -> None:
    viewed.page.get_by_role("button", name="Play along z").click()
    z = viewed.run("bfbridge.viewer.state.z")
    viewed.until(f"(bfbridge.viewer.state.z + 7 - {z}) % 7 >= 3")
    viewed.page.get_by_role("button", name="Play along z").click()
    viewed.settled()
    z = viewed.run("bfbridge.viewer.state.z")
    viewed.page.wait_for_timeout(300)
    assert viewed.run("bfbridge.viewer.state.z") == z


def test_playing_abandons_no_coarse_tiles(viewed: Page) -> None:
    viewed.look(256, 256, 2)
    # Coarse tiles are answered last, full ones after several frames.
    viewed.run("""() => {
      const {source} = bfbridge.viewer, raw = source.raw.bind(source);
      source.raw = async (file, version, tile, signal) => {
        await new Promise((done) => setTimeout(done, tile.level ? 5000 : 150));
        return raw(file, version, tile, signal);
      };
    }""")
    before = viewed.run("bfbridge.viewer.loader.counts.aborted")
    viewed.run("bfbridge.main.play('z')")
    viewed.until("bfbridge.viewer.state.z === 2")  # from 3, through 6 and 0
    viewed.run("bfbridge.main.play(null)")
    # One of the first plane, none of whose tiles were under way.
    assert viewed.run("bfbridge.viewer.loader.counts.aborted") - before <= 1


def test_memory_is_bounded(viewed: Page) -> None:
    viewed.run("""() => {
      const store = bfbridge.viewer.store;
      for (let i = 0; i < 1000; i++) {
        store.nextFrame();
        store.put(`key ${i}`, new Uint16Array(512 * 512), 512, 512);
      }
    }""")
    assert viewed.run("bfbridge.viewer.store.bytes") <= 192 * 2**20
    kept = "[...bfbridge.viewer.store.kept.values()].reduce((n, k) => n + k.values.byteLength, 0)"
    assert viewed.run("bfbridge.viewer.store.bytes") == viewed.run(kept)


def test_labels_above_an_image(page: Page, server: Live) -> None:
    page.go(f"{server.url}/view/cells.ome.zarr")
    page.settled()
    plain = page.region(0, 0, 500, 300)
    assert (plain[..., 0] == plain[..., 1]).all()
    page.page.get_by_label("Labels", exact=True).select_option(index=1)
    page.until("bfbridge.viewer.state.overlay")
    page.page.wait_for_timeout(300)
    colored = page.region(0, 0, 500, 300)
    changed = (colored != plain).any(-1)
    assert changed[60:140, 70:190].all()
    assert not changed[:40].any()
    px, py = page.run("bfbridge.viewer.onStage(100, 100)")
    box = page.page.locator(".stage").bounding_box()
    assert box is not None
    page.page.mouse.click(box["x"] + px, box["y"] + py)
    assert page.run("bfbridge.viewer.state.overlay.picked") == 5
    assert "label 5" in page.page.inner_text(".status")
    page.run("bfbridge.browse(true)")
    named = page.run("[...document.querySelectorAll('.left .row small')].map((e) => e.textContent)")
    assert named == ["500 \u00d7 300", "500 \u00d7 300 \u00b7 labels"]


def test_labels_of_a_lower_resolution(page: Page, server: Live) -> None:
    page.go(f"{server.url}/view/coarse.ome.zarr")
    page.settled()
    page.run("bfbridge.viewer.setOverlay({series: 1, opacity: 0.5, picked: 0})")
    page.settled()
    page.until("bfbridge.viewer.mask.idAt(100, 140) === 5")
    assert page.run("bfbridge.viewer.mask.idAt(400, 250)") == 300
    assert page.run("bfbridge.viewer.mask.idAt(30, 30)") == 0


def test_measuring(viewed: Page) -> None:
    viewed.look(700, 450, 1)
    box = viewed.page.locator(".stage").bounding_box()
    assert box is not None
    viewed.page.get_by_role("button", name="Measure a length (M)").click()
    viewed.until("bfbridge.viewer.tool")
    viewed.page.mouse.move(box["x"] + 100, box["y"] + 100)
    viewed.page.mouse.down()
    viewed.page.mouse.move(box["x"] + 260, box["y"] + 220)
    viewed.page.mouse.up()
    # 160 and 120 pixels of 0.25 µm.
    assert viewed.run("bfbridge.viewer.shapes[0].text") == "50 µm"
    viewed.page.get_by_role("button", name="Measure an area (P)").click()
    viewed.until("bfbridge.viewer.tool?.area")
    for x, y in ((50, 50), (250, 50), (250, 150), (50, 150)):
        viewed.page.mouse.click(box["x"] + x, box["y"] + y)
        viewed.page.wait_for_timeout(350)
    viewed.page.locator(".stage").press("Enter")
    assert viewed.run("bfbridge.viewer.shapes[1].text") == "1250 µm²"


def test_graphs_have_the_colours_of_the_theme(chromium: Any, server: Live) -> None:
    page = Page(chromium, color_scheme="dark")
    page.page.route("**/histogram/**", lambda _: None)  # is never answered
    page.go(f"{server.url}/view/stack.ome.tif")
    page.settled()
    drawn = """(() => {
      const graph = document.querySelector('.graph');
      const {data} = graph.getContext('2d').getImageData(0, 0, graph.width, graph.height);
      const color = getComputedStyle(graph.parentElement).color.match(/\\d+/g).map(Number);
      for (let i = 0; i < data.length; i += 4) {
        if (data[i + 3] === 255 && color.every((v, c) => data[i + c] === v)) return true;
      }
    })()"""
    assert page.run(f"Boolean({drawn})")
    dark = page.run("bfbridge.viewer.background")
    page.page.emulate_media(color_scheme="light")
    page.until(drawn, 5)
    assert page.run("bfbridge.viewer.background") != dark
    page.page.get_by_role("button", name="Light or dark").click()
    page.until(f"bfbridge.viewer.background.join() === '{','.join(map(str, dark))}'", 5)
    page.until(drawn, 5)
    assert page.errors == []
    page.close()


def test_a_narrow_page_shows_all_values(chromium: Any, server: Live) -> None:
    page = Page(chromium, 390, 844)
    page.go(f"{server.url}/view/stack.ome.tif")
    page.settled()
    page.look(1200, 800, 1)
    box = page.page.locator(".stage").bounding_box()
    assert box is not None
    page.page.mouse.move(box["x"] + 150, box["y"] + 300)
    page.until("document.querySelector('.status').textContent.includes('µm')")
    page.until("document.querySelector('.overview')?.checkVisibility()")
    assert page.run("""(({scrollWidth: w, clientWidth, scrollHeight: h, clientHeight}) =>
        w <= clientWidth && h <= clientHeight)(document.querySelector('.status'))""")
    bottom, top, overview = page.run("""[
        document.querySelector('.scalebar').getBoundingClientRect().bottom,
        document.querySelector('.bottom').getBoundingClientRect().top,
        document.querySelector('.overview').getBoundingClientRect().width]""")
    assert bottom < top
    assert overview < 100
    page.close()


def test_a_channel_without_a_name_has_a_number(page: Page, server: Live) -> None:
    page.go(f"{server.url}/view/unnamed.ome.tif")
    page.settled()
    names = page.run("[...document.querySelectorAll('.channel .name')].map((e) => e.textContent)")
    assert names == ["Channel 1", "GFP"]


def test_metadata_and_files(viewed: Page) -> None:
    viewed.page.get_by_role("button", name="Metadata (I)").click()
    viewed.page.get_by_role("tab", name="OME").click()
    viewed.page.get_by_label("Search metadata").fill("PhysicalSizeX")
    viewed.until("document.querySelector('dialog.metadata td')?.textContent.includes('0.25')")
    viewed.page.get_by_role("button", name="close").click()
    viewed.page.get_by_role("button", name="Files and images").click()
    viewed.page.get_by_role("button", name="cells.ome.zarr").click()
    viewed.until("bfbridge.viewer.file === 'cells.ome.zarr'")
    viewed.settled()
    assert "cells.ome.zarr" in viewed.page.url


def test_two_images_move_together(viewed: Page) -> None:
    viewed.page.get_by_role("button", name="Second image beside this one").click()
    viewed.until("bfbridge.second?.viewer.sharp")
    viewed.look(300, 300, 2)
    assert viewed.run("bfbridge.second.viewer.view") == viewed.run("bfbridge.viewer.view")
    viewed.run("bfbridge.compare(null)")


def test_a_file_that_cannot_be_read(page: Page, server: Live) -> None:
    page.go(f"{server.url}/view/broken.ome.tif")
    page.until("!bfbridge.main.message.hidden")
    text = page.page.inner_text("[role=alert]")
    assert "broken.ome.tif cannot be shown" in text
    assert len(text) > 60
    assert str(Path.cwd()) not in text


def test_a_server_that_died_and_came_back(chromium: Any, folder: Path) -> None:
    page = Page(chromium)
    with live(folder, extend=add_viewer) as first:
        page.go(f"{first.url}/view/stack.ome.tif")
        page.settled()
        port = first.port
    page.run("bfbridge.viewer.set({z: 6, t: 2})")
    page.until("!bfbridge.main.message.hidden")
    assert "does not answer" in page.page.inner_text("[role=alert]")
    with live(folder, extend=add_viewer, port=port):
        page.until("bfbridge.main.message.hidden", 15)
        page.settled()
        assert page.run("bfbridge.viewer.shown") == {"z": 6, "t": 2}
    page.close()


def test_requests_that_were_aborted_leave_no_trace(viewed: Page) -> None:
    for z in (1, 2, 3, 4, 5, 6, 0):
        viewed.run("(z) => bfbridge.viewer.set({z})", z)
    viewed.settled()
    assert viewed.run("bfbridge.viewer.shown.z") == 0
    assert viewed.run("bfbridge.viewer.loader.running.size") == 0
    time.sleep(0.1)
    assert viewed.run("bfbridge.main.message.hidden")
