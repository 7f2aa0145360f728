"""Who can use the window: only the browser that opened it, only from its own page."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

pytest.importorskip("aiohttp")
pytest.importorskip("cmap")

from bfbridge.gui.page import FILES, SHARED, gui_file
from bfbridge.gui.window import Window
from tests.support.liveserver import live
from tests.support.windows import Client, opened

POSTS = ("folder", "choose", "command", "plan", "convert", "cancel", "clear", "reveal")
GETS = ("gui", "gui/state", "gui/jobs", "gui/static/page.js", "viewer/static/dom.js")
VIEWER = ("view/", "list/", "info/a.tif", "static/page.js", "page/open/abc", "metrics")


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with opened() as window:
        yield window


def test_the_first_browser_is_admitted_and_no_other() -> None:
    with live(extend=Window().add_to) as server:
        first, second = Client(server), Client(server)
        # Nothing is there before the page is opened.
        assert first.send("GET", "/gui/state").status == 403
        answer = first.open()
        assert answer.status == 200
        attributes = set(answer.headers["Set-Cookie"].split("; ")[1:])
        assert attributes == {"HttpOnly", "SameSite=Strict", f"Path={server.options.prefix}/"}
        # A page that was not shown, or that another user of the machine has requested.
        other = Client(server)
        assert other.open().status == 200
        assert other.cookie != first.cookie
        assert first.send("GET", "/gui/state").status == 200
        assert first.send("GET", "/gui").headers["Set-Cookie"] is None
        assert other.send("GET", "/gui/state").status == 403
        refused = second.send("GET", "/gui")
        assert (refused.status, refused.headers["Set-Cookie"]) == (403, None)
        assert "opened in another browser" in refused.json["error"]
        second.cookie = "bfbridge-window=" + "A" * 32
        assert second.send("GET", "/gui").status == 403


@pytest.mark.parametrize("path", [*GETS, *VIEWER])
def test_every_route_needs_the_cookie_and_the_token(client: Client, path: str) -> None:
    assert client.send("GET", f"/{path}").status in (200, 204, 404)
    assert client.send("GET", f"/{path}", Cookie="a=b").status == 403
    for prefix in ("", "/~wrong-token-1"):
        answer = client.server.get(f"/{path}", prefix=prefix, Cookie=client.cookie)
        assert answer.status in (403, 404)
        assert b"<" not in answer.body


@pytest.mark.parametrize("name", POSTS)
def test_changes_are_made_by_the_page_only(client: Client, name: str) -> None:
    path = f"/gui/{name}"
    assert client.send("GET", path).status == 405
    assert client.send("PUT", path, b"{}", Content_Type="application/json").status == 405
    assert client.post(name, Cookie="a=b").status == 403
    # What a form or a link of another site can send without asking first.
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert client.post(name, Content_Type=kind).status == 415
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
        assert client.post(name, Origin=origin).status == 403
    for host in ("evil.example", f"evil.example:{client.server.port}", "10.1.2.3"):
        assert client.post(name, Host=host).status == 421
    answer = client.send("POST", path, b"[1]", Content_Type="application/json")
    assert (answer.status, answer.json["error"]) == (400, "send a JSON object")
    answer = client.send("POST", path, b"{", Content_Type="application/json")
    assert (answer.status, answer.json["error"]) == (400, "this is not JSON")
    # The page itself is let in, whatever it asks for.
    own = f"http://127.0.0.1:{client.server.port}"
    assert client.post(name, Origin=own).status in (200, 422)


@pytest.mark.parametrize("path", GETS)
def test_reading_routes(client: Client, path: str) -> None:
    assert client.send("POST", f"/{path}", b"{}", Content_Type="application/json").status == 405
    assert client.send("GET", f"/{path}", Host="evil.example").status == 421
    assert client.send("GET", f"/{path}", Origin="http://evil.example").status == 403
    answer = client.send("GET", f"/{path}", Origin=f"http://127.0.0.1:{client.server.port}")
    assert answer.status == 200
    assert answer.headers["Access-Control-Allow-Origin"] is None
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'self';")


def test_the_page_and_its_files(client: Client) -> None:
    page = client.send("GET", "/gui").body.decode()
    named = re.findall(r'(?:href|src)="([^"]+)"', page)
    for url in {url for url in named if not url.startswith("data:")}:
        assert client.send("GET", f"/{url}").status == 200, url
    for name in FILES:
        assert client.send("GET", f"/gui/static/{name}").body == gui_file(name)
    assert {f"viewer/static/{name}" for name in SHARED} <= set(named)
    for name in ("types.js", "window.py", "../window.py", "view.css"):
        assert client.send("GET", f"/gui/static/{name}").status == 404
