"""The routes of the viewer's page: what a browser gets."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("aiohttp")
pytest.importorskip("cmap")

from bfbridge.viewer.assets import MODULES, PARTS, static_file
from bfbridge.viewer.page import add_viewer
from tests.support.liveserver import Live, live
from tests.support.samples import write_ome_tiff

reported: list[tuple[str, bool]] = []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("routes")
    (made / "sub").mkdir()
    write_ome_tiff(made / "sub/a.ome.tif", np.zeros((1, 1, 1, 5, 7), np.uint8))
    return made


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Live]:
    watch = partial(add_viewer, watch=lambda page, is_open: reported.append((page, is_open)))
    with live(folder, extend=watch) as started:
        yield started


def metas(body: bytes) -> dict[str, str]:
    return dict(re.findall(r'<meta name="bfbridge-(\w+)" content="([^"]*)">', body.decode()))


def test_the_page_names_the_server_relative_to_its_place(server: Live) -> None:
    page = server.get("/view/sub/a.ome.tif?beside=%22%3E%3Cscript%3E")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.headers["Cache-Control"] == "no-store"
    found = metas(page.body)
    assert found == {"root": "../../", "beside": "&quot;&gt;&lt;script&gt;", "watched": "1"}
    assert metas(server.get("/view/a.tif").body)["root"] == "../"
    # What the page loads are routes of this server.
    named = re.findall(r'(?:href|src)="(\.\./[^"]+)"', page.body.decode())
    assert len(named) == len(MODULES) + 4
    for path in named:
        assert server.get("/" + path.removeprefix("../../")).status == 200


@pytest.mark.parametrize("name", ["view.css", "palettes.json", "page.js"])
def test_files_are_compressed_and_known_again(server: Live, name: str) -> None:
    content = static_file(name)
    plain = server.get(f"/static/{name}")
    packed = server.get(f"/static/{name}", Accept_Encoding="gzip, br")
    assert plain.body == content == gzip.decompress(packed.body)
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    kinds = {"css": "text/css", "json": "application/json", "js": "text/javascript"}
    for answer in (plain, packed):
        assert answer.headers["Content-Type"] == f"{kinds[name.split('.')[1]]}; charset=utf-8"
        assert answer.headers["Vary"] == "Accept-Encoding"
        again = server.get(f"/static/{name}", If_None_Match=answer.headers["ETag"])
        assert (again.status, again.body) == (304, b"")
    assert server.get(f"/static/{name}", If_None_Match='"other"').status == 200


def test_every_module_is_served_and_nothing_else(server: Live) -> None:
    for name in (*MODULES, *PARTS, "page"):
        assert server.get(f"/static/{name}.js").body == static_file(f"{name}.js")
    for name in ("app.py", "../view.css", "widget.js", "types.d.ts"):
        assert server.get(f"/static/{name}").status == 404


def test_a_page_reports_that_it_is_open(server: Live, folder: Path) -> None:
    reported.clear()
    for path in ("/page/open/ab12", "/page/closed/ab12", "/page/open/NO", "/page/shut/ab12"):
        answer = server.get(path)
        assert answer.status == (204 if path.endswith("ab12") and "shut" not in path else 404)
    assert reported == [("ab12", True), ("ab12", False)]
    with live(folder, extend=add_viewer) as unwatched:
        assert unwatched.get("/page/open/ab12").status == 204
        assert metas(unwatched.get("/view/sub/a.ome.tif").body)["watched"] == ""
    assert len(reported) == 2
