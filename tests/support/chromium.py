"""A real browser: Chromium through playwright, with WebGL on the processor."""

from __future__ import annotations

import base64
import io
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

# Without the last one there is no WebGL, and every picture is empty.
FLAGS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]


def executable() -> str | None:
    """Return the browser of ``BFBRIDGE_CHROMIUM``, or one that is installed."""
    named = os.environ.get("BFBRIDGE_CHROMIUM")
    names = [named] if named else ["chromium", "chromium-browser", "google-chrome"]
    return next((found for name in names if (found := shutil.which(name))), None)


@contextmanager
def browser(*flags: str) -> Iterator[Any]:
    """Start Chromium; skip the test where there is none, unless one is named."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = executable()
    if path is None:
        assert "BFBRIDGE_CHROMIUM" not in os.environ, "BFBRIDGE_CHROMIUM names no program"
        pytest.skip("there is no Chromium; set BFBRIDGE_CHROMIUM")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=[*FLAGS, *flags])
        try:
            yield started
        finally:
            started.close()


class Page:
    """A page of the viewer, what it requested and what went wrong in it."""

    def __init__(self, browser: Any, width: int = 900, height: int = 600, **options: Any) -> None:
        size = {"width": width, "height": height}
        self.context = browser.new_context(viewport=size, **options)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._listen)

    def _listen(self, message: Any) -> None:
        # Refused requests are the server's answers, which tests look at.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.errors.append(message.text)

    def close(self) -> None:
        self.context.close()

    def run(self, script: str, argument: Any = None) -> Any:
        return self.page.evaluate(script, argument)

    def until(self, script: str, seconds: float = 30) -> None:
        """Wait for an expression; the page's policy forbids playwright's own way."""
        deadline = time.monotonic() + seconds
        while not self.run(f"Boolean({script})"):
            assert time.monotonic() < deadline, f"{script} did not become true; {self.errors}"
            self.page.wait_for_timeout(20)

    def go(self, url: str) -> None:
        self.page.goto(url)
        self.until("window.bfbridge")

    def settled(self) -> None:
        """Wait until the picture is sharp and nothing moves."""
        self.until("((v) => v.sharp && v.complete && !v.motion && !v.asked)(bfbridge.viewer)")

    def open(self, name: str, series: int = 0) -> None:
        self.run("([name, series]) => bfbridge.main.open(name, series)", [name, series])
        self.settled()

    def look(self, x: float, y: float, zoom: float) -> None:
        """Look at a place, which becomes the centre."""
        self.run(
            "([x, y, zoom]) => bfbridge.viewer.lookAt({...bfbridge.viewer.view, x, y, zoom, "
            "angle: 0, flip: false})",
            [x, y, zoom],
        )
        self.settled()

    def stage(self) -> tuple[int, int]:
        width, height = self.run("[bfbridge.viewer.canvas.width, bfbridge.viewer.canvas.height]")
        return width, height

    def picture(self) -> np.ndarray[Any, Any]:
        """Return what the canvas shows, (Y, X, 3)."""
        from PIL import Image

        url = self.run("bfbridge.viewer.picture(true).toDataURL()")
        data = base64.b64decode(url.partition(",")[2])
        return np.asarray(Image.open(io.BytesIO(data)))[..., :3]

    def region(self, x: int, y: int, width: int, height: int) -> np.ndarray[Any, Any]:
        """Return a region at full size, pixel for pixel, cut at the stage's edge."""
        across, down = self.stage()
        self.look(x + across / 2, y + down / 2, 1)
        return self.picture()[:height, :width]


@pytest.fixture
def page(chromium: Any) -> Iterator[Page]:
    """Open a page of the fixture `chromium`; errors in it fail the test."""
    opened = Page(chromium)
    yield opened
    errors = opened.errors
    opened.close()
    assert errors == []
