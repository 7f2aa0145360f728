"""The viewer in notebooks: JupyterLab and marimo, each in a real browser."""

from __future__ import annotations

import base64
import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("anywidget")
pytest.importorskip("cmap")

from bfbridge import BioReader
from tests.support.chromium import Page
from tests.support.samples import write_ome_tiff


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 4000, (1, 2, 4, 600, 800), dtype=np.uint16)
    path = tmp_path_factory.mktemp("notebook") / "cells.ome.tif"
    return write_ome_tiff(path, pixels, tile=(256, 256))


class Answers:
    """What a widget sends, and the same as a page would ask for it."""

    def __init__(self, widget: Any) -> None:
        self.sent: list[tuple[Any, Any]] = []
        widget.send = lambda content, buffers=None: self.sent.append((content, buffers))
        self.widget = widget

    def ask(self, **content: Any) -> tuple[Any, Any]:
        self.widget._hear(None, {"id": "1", **content}, [])
        deadline = time.monotonic() + 30
        while not self.sent:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return self.sent.pop()


def test_tiles_over_the_comm(image: Path) -> None:
    with BioReader(image) as br:
        answers = Answers(br.view(z=1))
        assert (answers.widget.z, answers.widget.series) == (1, 0)
        info = answers.ask(kind="info", series=0)[0]["content"]
        assert info["image"]["sizes"]["X"] == 800
        content, buffers = answers.ask(
            kind="raw", series=0, level=0, row=0, column=1, z=2, t=0, channels=[1, 0]
        )
        assert content["content"] == {"dtype": "uint16"}
        found = np.frombuffer(buffers[0], np.uint16).reshape(2, 512, 288)
        for place, c in enumerate((1, 0)):
            wanted = br.read(X=(512, 800), Y=(0, 512), Z=2, C=c).squeeze()
            np.testing.assert_array_equal(found[place], wanted)
        json.dumps(answers.ask(kind="histogram", series=0, channels=[0])[0])
        for wrong in (
            {"kind": "raw", "series": -1},
            {"kind": "nothing"},
            {"kind": "info", "series": 9},
        ):
            refused = answers.ask(**wrong)[0]
            assert refused["error"]
            assert refused["status"] in (400, 404)
        answers.widget.close()


def test_a_picture_stays_in_the_notebook(image: Path) -> None:
    from PIL import Image

    with BioReader(image) as br:
        widget = br.view()
        bundle = widget._repr_mimebundle_()[0]
        assert "application/vnd.jupyter.widget-view+json" in bundle
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))))
        assert picture[..., :3].std() > 10
        widget.close()


@pytest.mark.parametrize(
    ("request_", "status", "message"),
    [
        ({"kind": "nothing"}, 400, "there is no such request"),
        ({}, 400, "there is no such request"),
        ({"kind": "info", "series": "0"}, 400, "series: give a whole number of 0 or more"),
        ({"kind": "info", "series": True}, 400, "series: give a whole number of 0 or more"),
        ({"kind": "info", "series": 1}, 404, "there is no series 1; it has 1"),
        ({"kind": "histogram", "series": 0, "channels": [2]}, 404, "there is no channel 2"),
        ({"kind": "histogram", "series": 0, "channels": ["x"]}, 400, "c: give numbers"),
        ({"kind": "histogram", "series": 0, "channels": 5}, 400, "channels: give a list of num"),
        ({"kind": "histogram", "series": 0, "z": "x"}, 400, "z: give a whole number"),
        ({"kind": "histogram", "series": 0, "z": 4}, 404, "z=4: there are 0 to 3"),
        ({"kind": "histogram", "series": 0, "t": -1}, 400, "t: give a whole number"),
        ({"kind": "raw", "series": 0, "level": 9}, 404, "the image has the levels 0 to"),
        ({"kind": "raw", "series": 0, "row": 9}, 404, "tile"),
        ({"kind": "raw", "series": 0, "z": 7}, 404, "z=7: there are 0 to 3"),
        ({"kind": "raw", "series": 0, "row": None}, 400, "row: give a whole number"),
    ],
)
def test_requests_that_are_refused(
    image: Path, request_: dict[str, Any], status: int, message: str
) -> None:
    if request_.get("kind") == "raw":
        request_ = {"level": 0, "row": 0, "column": 0, "z": 0, "t": 0} | request_
    with BioReader(image) as br:
        answers = Answers(br.view())
        (reply, buffers) = answers.ask(**request_)
        assert (reply["id"], reply["status"], buffers) == ("1", status, [])
        assert message in reply["error"]
        assert str(image) not in reply["error"]
        answers.widget.close()


def test_metadata_over_the_comm(image: Path) -> None:
    with BioReader(image) as br:
        answers = Answers(br.view())
        assert answers.ask(kind="ome")[0]["content"] == br.ome_xml
        entries = json.loads(answers.ask(kind="metadata")[0]["content"])["entries"]
        assert entries == {name: str(value) for name, value in br.original_metadata.items()}
        plane = answers.ask(kind="histogram", series=0, channels=[1], z=2, t=0)[0]["content"]
        values = br.read(Z=2, C=1)
        (found,) = plane["channels"]
        assert (plane["z"], found["min"], found["max"]) == (2, values.min(), values.max())
        assert sum(found["counts"]) == values.size
        answers.widget.close()


def test_defects_and_images_without_ome_xml_are_answered(
    image: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from bfbridge.errors import UnreadableFile
    from bfbridge.viewer import widget as module
    from bfbridge.views import ImageView

    def fail(*_: Any) -> None:
        raise RuntimeError("unexpected")

    with BioReader(image) as br:
        answers = Answers(br.view())
        monkeypatch.setattr(ImageView, "ome_xml", None)
        reply = answers.ask(kind="ome")[0]
        assert (reply["status"], "cannot be expressed as OME-XML" in reply["error"]) == (404, True)
        monkeypatch.setattr(module.describe, "describe", fail)
        reply = answers.ask(kind="info", series=0)[0]
        assert (reply["status"], reply["error"]) == (
            500, "this is a defect of bfbridge (RuntimeError)",
        )  # fmt: skip
        assert "a request of the notebook failed" in caplog.text

        def unreadable(_: Any) -> bytes:
            raise UnreadableFile("a.tif: damaged")

        # The widget is shown without a picture for notebooks that have no kernel.
        monkeypatch.setattr(module, "thumbnail_png", unreadable)
        bundle = answers.widget._repr_mimebundle_()[0]
        assert "image/png" not in bundle
        assert "application/vnd.jupyter.widget-view+json" in bundle
        answers.widget.close()


def test_requests_that_are_aborted(image: Path) -> None:
    begun, go = threading.Event(), threading.Event()

    def wait(_: dict[str, Any]) -> tuple[Any, list[Any]]:
        begun.set()
        go.wait(30)
        return "done", []

    with BioReader(image) as br:
        answers = Answers(br.view())
        widget = answers.widget
        widget._answers["wait"] = wait
        # All threads wait, so that the next requests do not begin.
        for number in range(4):
            widget._hear(None, {"id": f"w{number}", "kind": "wait"}, [])
        assert begun.wait(30)
        widget._hear(None, {"id": "a", "kind": "ome"}, [])
        widget._hear(None, {"id": "b", "kind": "ome"}, [])
        for content in ({"id": "a", "kind": "abort"}, {"id": "?", "kind": "abort"}, {"id": 5}, 5):
            widget._hear(None, content, [])
        go.set()
        widget._pool.shutdown(wait=True)
        assert sorted(reply["id"] for reply, _ in answers.sent) == ["b", "w0", "w1", "w2", "w3"]
        assert widget._requests == {}
        widget.close()


MODEL = """async (source) => {
  const traits = {series: 0, z: 1, t: 0, center: [0, 0], zoom: 0, channels: [], shapes: [],
                  height: 400, _name: 'cells.ome.tif', _palettes: await palettes()};
  const listeners = {};
  window.model = {
    get: (name) => traits[name], save_changes: () => undefined, off: () => undefined,
    set: (name, value) => { traits[name] = value; },
    on: (name, done) => { listeners[name] = done; },
    send: async (content) => {
      if (content.kind === 'abort') return;
      const [reply, buffers] = await ask(content);
      const decoded = buffers.map((b) => Uint8Array.from(atob(b), (c) => c.charCodeAt(0)));
      // The kernel sets traits before the page has heard of the image.
      if (content.kind === 'info') {
        Object.assign(traits, {z: 3, center: [300, 200], zoom: 2});
        listeners['change:z']();
      }
      listeners['msg:custom'](reply, decoded.map((b) => new DataView(b.buffer)));
    },
  };
  const url = URL.createObjectURL(new Blob([source], {type: 'text/javascript'}));
  const {default: {render}} = await import(url);
  const el = document.body.appendChild(document.createElement('div'));
  el.style.width = '700px';
  render({model, el});
  window.bfbridge = el.bfbridge;
}"""


def test_traits_that_are_set_while_it_opens(page: Page, image: Path) -> None:
    from bfbridge.viewer.assets import palettes
    from bfbridge.viewer.widget import joined_modules

    with BioReader(image) as br:
        answers = Answers(br.view(z=1))

        def ask(content: dict[str, Any]) -> tuple[Any, list[str]]:
            number = content.pop("id")
            reply, buffers = answers.ask(**content)
            return {**reply, "id": number}, [base64.b64encode(b).decode() for b in buffers]

        page.page.expose_function("ask", ask)
        page.page.expose_function("palettes", palettes)
        page.run(MODEL, joined_modules())
        page.until("window.bfbridge")
        page.settled()
        assert page.run("bfbridge.viewer.shown.z") == 3
        view = page.run("bfbridge.viewer.view")
        assert (view["x"], view["y"], view["zoom"]) == (300, 200, 2)
        page.page.wait_for_timeout(400)
        assert page.run("[model.get('z'), model.get('zoom')]") == [3, 2]
        answers.widget.close()


# ---- notebooks


@contextmanager
def started(command: list[str], url: str, folder: Path) -> Iterator[None]:
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "JUPYTER_PLATFORM_DIRS": "1", "HOME": str(folder)},
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(url, timeout=5).close()
                break
            except (OSError, urllib.error.URLError):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.2)
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


FIND = """
  const find = (node) => {
    for (const element of node.querySelectorAll('*')) {
      if (element.bfbridge) return element.bfbridge;
      const inner = element.shadowRoot && find(element.shadowRoot);
      if (inner) return inner;
    }
    return null;
  };
  const app = find(document);
"""


def shown(page: Page, image: Path) -> None:
    """Wait for the widget's picture, and compare it."""
    deadline = time.monotonic() + 90
    sharp = (
        f"(() => {{ {FIND} return Boolean(app && app.viewer.sharp && app.viewer.complete); }})()"
    )
    while not page.run(sharp):
        assert time.monotonic() < deadline, page.errors
        page.page.wait_for_timeout(200)
    url = page.run(f"""(async () => {{ {FIND}
      const v = app.viewer;
      v.lookAt({{...v.view, x: v.canvas.width / 2, y: v.canvas.height / 2, zoom: 1 / v.ratio}});
      while (!(v.sharp && v.complete && !v.asked)) await new Promise((r) => setTimeout(r, 50));
      return v.picture(true).toDataURL();
    }})()""")
    from PIL import Image

    found = np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))[..., :3]
    with BioReader(image) as br:
        wanted = br.render(level=0, z=2)[..., :3]
    height, width = (min(a, b) for a, b in zip(found.shape[:2], wanted.shape[:2], strict=True))
    assert min(height, width) > 100
    difference = np.abs(found[:height, :width].astype(int) - wanted[:height, :width])
    assert difference.max() <= 1


@pytest.mark.slow
def test_jupyterlab(chromium: Any, image: Path, tmp_path: Path) -> None:
    pytest.importorskip("jupyterlab")
    source = (
        f"from bfbridge import BioReader\nbr = BioReader({str(image)!r})\n"
        "w = br.view(height=400)\nw"
    )
    empty = {"cell_type": "code", "metadata": {}, "execution_count": None, "outputs": []}
    cells = [
        {**empty, "id": f"c{i}", "source": text}
        for i, text in enumerate((source, "w.z = 2"))
    ]  # fmt: skip
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "n.ipynb").write_text(json.dumps(notebook))
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--port={port}", "--allow-root",
               "--IdentityProvider.token=", "--ServerApp.root_dir=."]  # fmt: skip
    with started(command, f"{url}/api", tmp_path):
        page = Page(chromium, 1200, 900)
        page.page.goto(f"{url}/lab/tree/n.ipynb?reset")
        page.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
        page.page.get_by_text("br.view").first.wait_for(timeout=60_000)
        page.page.wait_for_timeout(2000)
        page.page.click("text=Run >> nth=0")
        page.page.click("text=Run All Cells")
        page.page.wait_for_selector(".bfbridge .stage", timeout=60_000)
        shown(page, image)
        page.page.screenshot(path=os.environ.get("BFBRIDGE_SHOT_LAB", str(tmp_path / "lab.png")))
        page.page.keyboard.press("Control+s")
        page.page.wait_for_timeout(2000)
        page.close()
    saved = json.loads((tmp_path / "n.ipynb").read_text())
    assert "image/png" in json.dumps(saved["cells"][0]["outputs"])


@pytest.mark.slow
def test_marimo(chromium: Any, image: Path, tmp_path: Path) -> None:
    pytest.importorskip("marimo")
    (tmp_path / "n.py").write_text(
        "import marimo\napp = marimo.App()\n\n@app.cell\ndef _():\n"
        f"    from bfbridge import BioReader\n    br = BioReader({str(image)!r})\n"
        "    w = br.view(height=400, z=2)\n    w\n    return\n\n"
        "if __name__ == '__main__':\n    app.run()\n"
    )
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        sys.executable,
        "-m",
        "marimo",
        "run",
        "--headless",
        "--no-token",
        f"--port={port}",
        "n.py",
    ]
    with started(command, url, tmp_path):
        page = Page(chromium, 1200, 900)
        page.page.goto(url)
        shown(page, image)
        page.page.screenshot(path=os.environ.get("BFBRIDGE_SHOT_MARIMO", str(tmp_path / "m.png")))
        page.close()
