"""What a server refuses: names that lead out, hosts, origins, methods, sizes, damaged files."""

# ruff: noqa: E402 - packages that may be missing are looked for first

from __future__ import annotations

import contextlib
import http.client
import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

for module in ("aiohttp", "cmap", "imagecodecs", "tifffile"):
    pytest.importorskip(module)

import tifffile

from bfbridge.errors import BadArgument, FileMissing
from bfbridge.serve.faults import without_paths
from bfbridge.serve.files.library import Library
from bfbridge.serve.http import gate
from bfbridge.serve.options import ServeOptions
from bfbridge.serve.replies import Refused
from bfbridge.serve.run import listen
from tests.support.liveserver import Live, live


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    outer = tmp_path_factory.mktemp("outer")
    folder = outer / "served"
    (folder / "in").mkdir(parents=True)
    (outer / "served-not").mkdir()
    pixels = np.arange(300 * 200, dtype=np.uint16).reshape(300, 200)
    for path in ("secret.tif", "served-not/secret.tif", "served/good.tif", "served/in/good.tif"):
        tifffile.imwrite(outer / path, pixels)
    tifffile.imwrite(folder / ".hidden.tif", pixels)
    (folder / "out.tif").symlink_to(outer / "secret.tif")
    (folder / "outer").symlink_to(outer)
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "inside.tif").symlink_to(folder / "good.tif")
    os.mkfifo(folder / "pipe.tif")
    (folder / "truncated.tif").write_bytes((folder / "good.tif").read_bytes()[:5000])
    (folder / "garbage.czi").write_bytes(os.urandom(4096))
    (folder / "empty.tif").write_bytes(b"")
    (folder / "a&b<c>.tif").write_bytes(b"II*\0")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Live]:
    with live(folder, isolated=False) as running:
        yield running


OUTSIDE = [
    "../secret.tif",
    "in/../../secret.tif",
    "%2e%2e/secret.tif",
    "%2e%2e%2fsecret.tif",
    "..%2fsecret.tif",
    "%252e%252e%252fsecret.tif",
    "..%5csecret.tif",
    "..\\secret.tif",
    "in/..%5c..%5csecret.tif",
    "%2fetc%2fpasswd",
    "/etc/passwd",
    "//etc/passwd",
    "C:%5cWindows%5cwin.ini",
    "C:/Windows/win.ini",
    "file:///etc/passwd",
    "http://127.0.0.1:1/x.tif",
    "s3://bucket/key.tif",
    "good.tif%00",
    "good.tif%00.png",
    "../served-not/secret.tif",
    "out.tif",
    "outer/secret.tif",
    "loop",
    "loop/good.tif",
    "pipe.tif",
    ".hidden.tif",
    "in",
    "in/",
    "in//good.tif",
    "./good.tif",
    "nothing.tif",
    "~root/x.tif",
    "%ff%fe.tif",
    "%c0%ae%c0%ae/secret.tif",
    "good.tif/",
    "x" * 3000,
    "%7b%7d{t}.tif",
    "*.tif",
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_name_leads_out(server: Live, name: str) -> None:
    answers = [server.get(f"/{route}/{name}") for route in ("info", "ome", "browse", "list")]
    answers += [
        server.get(f"/tile/{name}/0/0/0/0.png"),
        server.get(f"/raw/{name}/0/0/0/0/0/0"),
        server.get(f"/iiif/3/{name.replace('/', '%2F')}/info.json"),
        server.get(f"/zarr/{name}.ome.zarr/zarr.json"),
    ]
    if name in ("in", "in/", "in//good.tif"):
        # A folder may be listed, but is no image.
        del answers[2:4]
    # Absent and forbidden cannot be told apart.
    bodies = {(answer.status, answer.body) for answer in answers}
    assert bodies == {(404, b'{"status":404,"error":"not found"}')}


def test_links_within_the_folder_are_followed(server: Live) -> None:
    assert server.get("/info/inside.tif").status == 200
    listed = server.get("/list/?recursive=1").json
    assert "inside.tif" in listed["images"]
    names = {"out.tif", "pipe.tif", ".hidden.tif", "loop"}
    assert not names & {*listed["images"], *listed["folders"], *listed["all"]}
    assert "outer" not in listed["folders"]


def test_the_token_is_needed(server: Live) -> None:
    for prefix in ("", "/~", "/~wrong-token", "/~test-token-", "/~test-token-11"):
        for path in ("/", "/list/", "/info/good.tif", "/metrics"):
            assert server.get(path, prefix=prefix).status == 404
    assert server.get("/info/good.tif").status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200), ("localhost:80", 200), ("[::1]:8000", 200), ("LOCALHOST", 200),
        ("evil.example", 421), ("127.0.0.1.evil.example", 421), ("8.8.8.8", 421), ("", 421),
        ("images.example:8000", 200),
    ],
)  # fmt: skip
def test_the_host_is_checked(folder: Path, host: str, status: int) -> None:
    with live(folder, allowed_hosts=("images.example",)) as server:
        assert server.get("/list/", Host=host).status == status
        assert server.get("/healthz", prefix="", Host=host).status == status


def test_addresses_are_hosts_where_the_server_is_on_all_of_them() -> None:
    options = ServeOptions(("x",), host="0.0.0.0")
    assert options.allows_host("192.168.1.5")
    assert options.allows_host("[fe80::1]")
    assert not options.allows_host("evil.example")
    assert options.is_public


def test_other_origins_are_refused(server: Live) -> None:
    own = f"http://127.0.0.1:{server.port}"
    path = "/info/good.tif"
    assert server.get(path, Origin=own, Host=f"127.0.0.1:{server.port}").status == 200
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
        answer = server.get(path, Origin=origin)
        assert answer.status == 403
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_origins_are_allowed_by_option(folder: Path) -> None:
    origin = "https://viewer.example"
    with live(folder, cors=(origin,)) as server:
        answers = [
            server.get("/info/good.tif", Origin=origin),
            # Clients of Zarr have to see that a chunk is absent.
            server.get("/zarr/good.tif.ome.zarr/nothing", Origin=origin),
            server.get("/zarr/good.tif.ome.zarr/zarr.json", Origin=origin, Range="bytes=0-3"),
        ]
        assert [answer.status for answer in answers] == [200, 404, 206]
        for answer in answers:
            assert answer.headers["Access-Control-Allow-Origin"] == origin
            assert "Content-Range" in answer.headers["Access-Control-Expose-Headers"]
            assert "Origin" in answer.headers["Vary"]
        asked = server.get(
            "/info/good.tif", "OPTIONS", Origin=origin, Access_Control_Request_Method="GET",
            Access_Control_Request_Private_Network="true",
        )  # fmt: skip
        assert asked.status == 204
        assert "Range" in asked.headers["Access-Control-Allow-Headers"]
        assert asked.headers["Access-Control-Allow-Private-Network"] == "true"
        assert server.get("/info/good.tif", Origin="https://evil.example").status == 403
    with live(folder, cors=("*",)) as server:
        answer = server.get("/info/good.tif", Origin="https://any.example")
        assert answer.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "PROPFIND"])
def test_only_reading_is_answered(server: Live, method: str) -> None:
    answer = server.get("/info/good.tif", method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")


@pytest.mark.java
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/tile/good.tif/0/0/0/0.png?size=100000", 400),
        ("/tile/good.tif/0/0/0/0.png?size=1", 400),
        ("/tile/good.tif/0/0/0/0.png?z=5", 404),
        ("/tile/good.tif/0/0/0/0.png?t=1", 404),
        ("/tile/good.tif/0/0/0/0.png?z=-1", 400),
        ("/tile/good.tif/0/0/0/0.png?z=1e9", 400),
        ("/tile/good.tif/0/0/0/0.png?quality=1000", 400),
        ("/tile/good.tif/0/0/0/0.png?channels=7", 404),
        ("/tile/good.tif/0/0/0/0.png?channels=" + "0," * 100 + "0", 400),
        ("/tile/good.tif/0/0/0/0.png?style={", 400),
        ('/tile/good.tif/0/0/0/0.png?style={"function":"os.system"}', 400),
        ('/tile/good.tif/0/0/0/0.png?style={"dtype":"uint16","min":0}', 400),
        ("/tile/good.tif/0/99/0/0.png", 404),
        ("/tile/good.tif/0/0/1/0.png", 404),
        ("/tile/good.tif/3/0/0/0.png", 404),
        ("/tile/good.tif/99999999999999999999/0/0/0.png", 400),
        ("/raw/good.tif/0/7/0/0/0/0", 404),
        ("/raw/good.tif/0/0/0/0/9/0", 404),
        ("/raw/good.tif/0/0/9/0/0/0", 404),
        ("/raw/good.tif/0/0/0/0/0/0?c=5", 404),
        ("/raw/good.tif/0/0/0/0/0/0?c=x", 400),
        ("/iiif/3/good.tif/full/^100000,100000/0/default.png", 400),
        ("/iiif/3/good.tif/full/max/45/default.png", 501),
        ("/iiif/3/good.tif/0,0,0,0/max/0/default.png", 400),
        ("/iiif/3/good.tif/900,900,5,5/max/0/default.png", 400),
        ("/iiif/3/good.tif/full/max/0/default.exe", 400),
        ("/iiif/3/good.tif;style=!!/full/max/0/default.png", 400),
        ("/zarr/good.tif.ome.zarr/0/c/0/0/0/9/0", 404),
        ("/zarr/good.tif.ome.zarr/0/c/0/0/0/-1/0", 404),
        ("/zarr/good.tif.ome.zarr/../zarr.json", 404),
        ("/static/../app.py", 404),
        ("/static/app.py", 404),
        ("/unknown", 404),
        ("/tile/truncated.tif/0/0/0/0.png", 422),
        ("/info/garbage.czi", 422),
        ("/info/empty.tif", 422),
    ],
)
def test_bad_requests_get_a_status_and_a_sentence(
    server: Live, folder: Path, path: str, status: int
) -> None:
    answer = server.get(path.replace(" ", "").replace('"', "%22").replace("{", "%7B"))
    assert answer.status == status
    assert len(answer.body) < 1000
    assert answer.json["status"] == status
    assert str(folder.parent) not in answer.json["error"]
    assert "Traceback" not in answer.json["error"]
    # Good files beside damaged ones are served on.
    assert server.get("/raw/good.tif/0/0/0/0/0/0").status == 200


def test_errors_of_files_are_remembered(folder: Path) -> None:
    with live(folder) as server:
        for _ in range(3):
            assert server.get("/info/truncated.tif").status in (200, 422)
            assert server.get("/info/empty.tif").status == 422
        assert server.metrics.get("files_failed") <= 2


def test_headers_that_protect_pages(server: Live) -> None:
    for path in ("/", "/info/good.tif", "/nothing", "/tile/good.tif/0/0/0/0.png"):
        headers = server.get(path).headers
        assert "default-src 'self'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["Server"] == "bfbridge"


def test_names_are_escaped_in_pages(server: Live) -> None:
    page = server.get("/").body
    assert b"a&amp;b&lt;c&gt;.tif" in page
    assert b"<c>" not in page


def test_paths_are_left_out_of_messages() -> None:
    text = without_paths(
        "/data/x/a.tif: names /etc/passwd and C:\\Users\\me\\b.tif, and s3://k:s@host/c; see a/b.",
        "/data/x/a.tif",
        "a.tif",
    )
    assert text == "a.tif: names [path] and [path], and [path]; see a/b."
    assert len(without_paths("x" * 5000, None, "")) <= 600


# ---- connections


def _connect(server: Live) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    ],
)
def test_requests_that_are_no_http(server: Live, data: bytes) -> None:
    with _connect(server) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(65_536)
    assert not answer or int(answer.split()[1]) in (400, 404, 421, 431, 505)
    assert server.get("/list/").status == 200


@pytest.mark.slow(ci=True)
def test_a_thousand_connections(server: Live) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 2500:
        pytest.skip("needs 2500 descriptors; client and server are one process here")
    connections: list[socket.socket] = []
    try:
        connections += [_connect(server) for _ in range(1000)]
        assert server.get("/info/good.tif").status == 200
        for connection in connections[::50]:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
    finally:
        for connection in connections:
            connection.close()


def test_a_client_that_sends_nothing_is_disconnected(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "IDLE_SECONDS", 0.3)
    with live(folder) as server, _connect(server) as connection:
        # One that asks keeps its connection.
        kept = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        kept.request("GET", "/healthz")
        kept.getresponse().read()
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""
        kept.request("GET", "/healthz")
        assert kept.getresponse().status == 200
        kept.close()


def test_a_client_that_takes_nothing_is_disconnected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.ones((2048, 2048), np.float64), tile=(2048, 2048))
    monkeypatch.setattr(gate, "SEND_SECONDS", 0.5)
    with live(tmp_path) as server, _connect(server) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        path = f"{server.options.prefix}/raw/a.tif/0/0/0/0/0/0?size=2048"
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        deadline = time.monotonic() + 20
        while server.metrics.get("requests_active") or not server.metrics.get("computed"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert server.get("/healthz", prefix="").status == 200


def test_the_port_is_free_after_the_end(folder: Path) -> None:
    before = set(threading.enumerate())
    with live(folder) as server:
        port = server.port
        assert server.get("/info/good.tif").status == 200
    deadline = time.monotonic() + 20
    while any(t.name.startswith("bfbridge-") for t in set(threading.enumerate()) - before):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with live(folder, port=port) as server:
        assert server.get("/list/").status == 200


# ---- options


def test_messages_of_options(tmp_path: Path) -> None:
    for options, message in (
        ({"port": 70_000}, "port=70000"),
        ({"workers": 0}, "workers=0"),
        ({"token": "a b"}, "token: give 8 to 200"),
        ({"cors": ("https://x.example/path",)}, "without a path"),
        ({"timeout": 0}, "timeout=0"),
        ({"compression": "best"}, "best"),
    ):
        with pytest.raises(BadArgument, match=message):
            ServeOptions(("x",), **options)
    with pytest.raises(BadArgument, match="at least one"):
        ServeOptions(())
    with pytest.raises(FileMissing, match="no such file or folder"):
        Library([str(tmp_path / "absent")])
    with pytest.raises(BadArgument, match="one image"):
        Library(["s3://bucket/folder/"])
    with live(tmp_path) as server, pytest.raises(BadArgument, match="cannot listen"):
        listen(ServeOptions(("x",), port=server.port))
    with pytest.raises(Refused):
        Library([str(tmp_path)]).locate("..")
