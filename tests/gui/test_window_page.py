"""What people do with the window: choose, look, convert, cancel, read errors, use the keyboard."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("aiohttp")
pytest.importorskip("cmap")

import zarr

from bfbridge import BioReader
from bfbridge.gui.window import Window
from tests.support.chromium import Page
from tests.support.liveserver import live
from tests.support.samples import distinct, write_ome_tiff
from tests.support.windows import paused

PIXELS = distinct((1, 2, 3, 80, 120))
HTML = "<img src=x onerror=document.title=1>.ome.tif"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "images"
    (made / "inner").mkdir(parents=True)
    names = {
        "Channel": {"Name": ["DAPI", "<b>GFP"]},
        "PhysicalSizeX": 0.5,
        "PhysicalSizeXUnit": "µm",
    }
    write_ome_tiff(made / "cells.ome.tif", PIXELS, metadata=names)
    for name in (HTML, "broken.ome.tif"):
        (made / name).write_bytes(b"II*\0" + b"\xff" * 100)
    return made


@pytest.fixture
def window(page: Page, folder: Path) -> Iterator[Page]:
    with live(extend=Window([str(folder)]).add_to) as server:
        page.go(f"{server.url}/gui")
        yield page


def row(window: Page, name: str) -> Any:
    return window.page.get_by_role("checkbox", name=f"Choose {name}", exact=True)


def job(window: Page, state: str) -> Any:
    found = window.page.locator(f".job.{state}").first
    found.wait_for(timeout=20_000)
    return found


def test_a_file_is_chosen_shown_and_converted(window: Page, folder: Path) -> None:
    page = window.page
    row(window, "cells.ome.tif").check()
    card = page.locator(".source")
    card.get_by_text("DAPI, <b>GFP").wait_for()
    assert (
        "120 \N{MULTIPLICATION SIGN} 80 pixels · 3 slices · 2 channels · uint16"
        in card.inner_text()
    )
    window.until("document.querySelector('.picture img').naturalWidth > 0")
    assert page.locator(".picture img").evaluate("(e) => [e.naturalWidth, e.naturalHeight]") == [
        120,
        80,
    ]
    # What the options are on the command line.
    code = page.locator(".command code")
    page.get_by_label("Format").select_option("ome-zarr-0.4")
    page.get_by_label("Compression").select_option("zstd")
    page.get_by_text("--ngff-version 0.4 --compression zstd --verify").wait_for()
    page.get_by_label("Format").select_option("ome-zarr")
    window.until("!document.querySelector('.command code').textContent.includes('ngff')")
    assert code.inner_text().startswith("bfbridge convert ")
    page.get_by_role("button", name="Preview").click()
    page.locator(".plan").get_by_text("cells.ome.zarr").wait_for()
    assert not (folder / "cells.ome.zarr").exists()
    page.get_by_role("button", name="Convert").click()
    done = job(window, "done")
    assert "verified: all pixels equal the source" in done.inner_text()
    made = zarr.open_group(folder / "cells.ome.zarr", mode="r")
    np.testing.assert_array_equal(made["0"][:], PIXELS)
    with BioReader(folder / "cells.ome.zarr") as br:
        np.testing.assert_array_equal(br.asarray("TCZYX"), PIXELS)
    # The result opens in the viewer, in a tab of its own, which has the cookie.
    link = done.get_by_role("link", name=re.compile("^View cells.ome.zarr"))
    assert link.get_attribute("target") == "_blank"
    url = link.evaluate("(e) => e.href")
    assert url.endswith("/view/cells.ome.zarr")
    assert page.context.request.get(url).status == 200
    # Once more: the error is shown, with what to do.
    page.get_by_role("button", name="Convert").click()
    failed = job(window, "failed")
    assert "tick “Overwrite”" in failed.inner_text()
    assert failed.get_by_role("alert").count() == 1
    assert window.errors == []


def test_cancelling_leaves_nothing(window: Page, folder: Path, monkeypatch: Any) -> None:
    row(window, "cells.ome.tif").check()
    window.page.locator(".source dl").wait_for()
    before = sorted(folder.iterdir())
    with paused(monkeypatch):
        window.page.get_by_role("button", name="Convert").click()
        running = job(window, "running")
        window.until("document.querySelector('.job.running progress').value > 0")
        assert running.get_by_role("progressbar").count() == 1
        running.get_by_role("button", name=re.compile("^Cancel")).click()
        cancelled = job(window, "cancelled")
    assert "Nothing unfinished was left." in cancelled.inner_text()
    assert sorted(folder.iterdir()) == before


def test_names_and_errors_are_text(window: Page, folder: Path) -> None:
    page = window.page
    row(window, HTML).check()
    row(window, "broken.ome.tif").check()
    window.until("document.querySelectorAll('.source [role=alert]').length === 2")
    assert str(folder / "broken.ome.tif") in page.locator(".work").inner_text()
    assert page.locator("img[src=x]").count() == 0
    assert page.title() != "1"
    page.get_by_label("Path or URL").fill(str(folder / "none"))
    page.get_by_role("button", name="Go").click()
    page.get_by_text("there is no such folder").wait_for()


def test_with_the_keyboard(window: Page, folder: Path) -> None:
    page = window.page
    page.get_by_role("button", name="inner", exact=True).focus()
    page.keyboard.press("Enter")
    page.get_by_text("This folder is empty.").wait_for()
    page.get_by_role("button", name="Folder above").focus()
    page.keyboard.press("Enter")
    box = row(window, "cells.ome.tif")
    box.focus()
    page.keyboard.press("Space")
    page.locator(".source dl").wait_for()
    # Every control has a name, and none is out of the order of the page.
    unnamed = window.run("""() =>
        [...document.querySelectorAll('button, input, select, a, progress')]
        .filter((e) => !e.closest('[hidden], [aria-hidden]'))
        .filter((e) => !(e.ariaLabel || e.textContent.trim() || e.labels?.length))
        .map((e) => e.outerHTML)""")
    assert unnamed == []
    assert window.run("document.querySelectorAll('[tabindex]:not([tabindex=\"-1\"])').length") == 0
    page.get_by_role("button", name=re.compile("^Remove cells")).click()
    page.get_by_text("Nothing is chosen").wait_for()
    assert not box.is_checked()
