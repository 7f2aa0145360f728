"""Routes of the viewer's page, for a server of `bfbridge.serve`."""

from __future__ import annotations

import gzip
import hashlib
import html
import json
from collections.abc import Callable
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from aiohttp import web

from bfbridge.rendering.palettes import distinct_colors, palette_colors

if TYPE_CHECKING:
    from bfbridge.serve.options import ServeOptions

__all__ = ["MODULES", "PALETTES", "add_viewer", "palettes", "static_file"]

MODULES: Final = (
    "camera", "units", "dom", "source", "gl", "tiles", "shapes", "input", "viewer", "panel",
    "browse", "app",
)  # fmt: skip
"""ES modules that the page and the notebook share, each after those that it imports."""
PALETTES: Final = (
    "gray", "viridis", "magma", "inferno", "plasma", "cividis", "turbo", "hot", "cool", "bone",
    "matplotlib:coolwarm", "twilight",
)  # fmt: skip
"""Palettes that channels can be drawn with."""
_TYPES: Final = {"js": "text/javascript", "css": "text/css", "json": "application/json"}


@lru_cache(maxsize=1)
def palettes() -> dict[str, Any]:
    """Return the palettes as the viewer takes them.

    Returns
    -------
    dict
        ``labels``: 255 colours of labels; ``names`` and ``palettes``: 256 colours of each palette.
        Colours are lists of red, green and blue, 0 to 255.

    Raises
    ------
    MissingExtra
        cmap is not installed.
    """
    return {
        "labels": distinct_colors()[:, :3].tolist(),
        "names": [name.rpartition(":")[2] for name in PALETTES],
        "palettes": [_sampled(name) for name in PALETTES],
    }


def _sampled(name: str) -> list[list[int]]:
    stops = palette_colors(name)[:, :3]
    places = np.linspace(0, len(stops) - 1, 256)
    columns = [np.interp(places, np.arange(len(stops)), stops[:, i]) for i in range(3)]
    found: list[list[int]] = np.rint(np.stack(columns, axis=1)).astype(int).tolist()
    return found


@lru_cache(maxsize=32)
def static_file(name: str) -> bytes | None:
    """Return a file of the page, or None where there is none of this name."""
    if name == "palettes.json":
        return json.dumps(palettes(), separators=(",", ":")).encode()
    known = {"page.js", "view.css", *(f"{module}.js" for module in MODULES)}
    if name not in known:
        return None
    return files("bfbridge.viewer").joinpath("static", name).read_bytes()


@lru_cache(maxsize=32)
def _compressed(name: str) -> tuple[bytes, str] | None:
    """Return a file compressed, and its tag."""
    content = static_file(name)
    if content is None:
        return None
    tag = hashlib.blake2b(content, digest_size=12).hexdigest()
    return gzip.compress(content, 9, mtime=0), f'"{tag}"'


def _static(request: web.Request, name: str) -> web.StreamResponse | None:
    found = _compressed(name)
    if found is None:
        return None
    body, tag = found
    headers = {"ETag": tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if request.headers.get("If-None-Match") == tag:
        return web.Response(status=304, headers=headers)
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        headers["Content-Encoding"] = "gzip"
    else:
        body = gzip.decompress(body)
    kind = _TYPES[name.rpartition(".")[2]]
    return web.Response(body=body, content_type=kind, charset="utf-8", headers=headers)


def _page(root: str, beside: str, watched: bool) -> bytes:
    """Return the page.

    Parameters
    ----------
    root
        Where the server's first page is, seen from this one.
    beside
        File of a second pane, or "".
    watched
        Whether the page tells the server that it is open.
    """
    values = {"root": root, "beside": beside, "watched": "1" if watched else ""}
    metas = "".join(
        f'<meta name="bfbridge-{name}" content="{html.escape(value)}">'
        for name, value in values.items()
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"{metas}<title>bfbridge</title>"
        '<link rel="icon" href="data:,">'
        f'<link rel="stylesheet" href="{root}static/view.css">'
        + "".join(
            f'<link rel="modulepreload" href="{root}static/{name}.js">'
            for name in (*MODULES, "page")
        )
        + f'<script type="module" src="{root}static/page.js"></script></head>'
        '<body class="bfbridge"><noscript>The viewer needs JavaScript.</noscript></body></html>\n'
    ).encode()


def add_viewer(
    app: web.Application,
    options: ServeOptions,
    watch: Callable[[str, bool], None] | None = None,
) -> None:
    """Add the viewer's routes to a server: ``/view/FILE``, and its files below ``/static``.

    Parameters
    ----------
    app, options
        The server.
    watch
        Called with a page's number and whether it is open, when a page says so.
    """

    async def view(request: web.Request) -> web.Response:
        depth = request.rel_url.raw_path[len(options.prefix) :].count("/") - 1
        body = _page("../" * depth, request.query.get("beside", ""), watch is not None)
        headers = {"Cache-Control": "no-store"}
        return web.Response(body=body, content_type="text/html", charset="utf-8", headers=headers)

    def static(name: str) -> Callable[[web.Request], Any]:
        async def handler(request: web.Request) -> web.StreamResponse:
            found = _static(request, name)
            return web.Response(status=404) if found is None else found

        return handler

    async def page(request: web.Request) -> web.Response:
        if watch is not None:
            watch(request.match_info["id"], request.match_info["what"] == "open")
        return web.Response(status=204, headers={"Cache-Control": "no-store"})

    prefix = options.prefix
    app.router.add_route("*", prefix + "/view/{file:.*}", view)
    app.router.add_route("*", prefix + "/page/{what:open|closed}/{id:[a-z0-9]{1,20}}", page)
    for name in ("page.js", "view.css", "palettes.json", *(f"{module}.js" for module in MODULES)):
        app.router.add_route("*", f"{prefix}/static/{name}", static(name))
