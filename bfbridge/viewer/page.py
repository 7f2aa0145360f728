"""Routes of the viewer's page, for a server of `bfbridge.serve`."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import html
from collections.abc import AsyncIterator, Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from bfbridge.viewer.assets import MODULES, PARTS, static_file

if TYPE_CHECKING:
    from bfbridge.serve.options import ServeOptions

__all__ = ["add_viewer", "send_static"]

_TYPES: Final = {"js": "text/javascript", "css": "text/css", "json": "application/json"}


@lru_cache(maxsize=64)
def _compressed(name: str, find: Callable[[str], bytes | None]) -> tuple[bytes, str] | None:
    """Return a compressed file, and its entity tag."""
    content = find(name)
    if content is None:
        return None
    tag = hashlib.blake2b(content, digest_size=12).hexdigest()
    return gzip.compress(content, 9, mtime=0), f'"{tag}"'


async def send_static(
    request: web.Request, name: str, find: Callable[[str], bytes | None] = static_file
) -> web.Response:
    """Reply with a file of a page, compressed, with its entity tag.

    Parameters
    ----------
    request, name
        The request, and the name of the file.
    find
        Returns the content of a file, or None if there is no file of this name.
    """
    # The palettes take a tenth of a second.
    found = await asyncio.to_thread(_compressed, name, find)
    if found is None:
        return web.Response(status=404)
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
        Relative URL of the server's first page.
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
        + f'<link rel="preload" as="fetch" crossorigin href="{root}static/palettes.json">'
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
        Called with a page's number and whether it is open, when a page reports it.
    """

    async def view(request: web.Request) -> web.Response:
        depth = request.rel_url.raw_path[len(options.prefix) :].count("/") - 1
        body = _page("../" * depth, request.query.get("beside", ""), watch is not None)
        headers = {"Cache-Control": "no-store"}
        return web.Response(body=body, content_type="text/html", charset="utf-8", headers=headers)

    def static(name: str) -> Callable[[web.Request], Any]:
        async def handler(request: web.Request) -> web.StreamResponse:
            return await send_static(request, name)

        return handler

    async def page(request: web.Request) -> web.Response:
        if watch is not None:
            watch(request.match_info["id"], request.match_info["what"] == "open")
        return web.Response(status=204, headers={"Cache-Control": "no-store"})

    async def prepare(app: web.Application) -> AsyncIterator[None]:
        del app
        ahead = asyncio.create_task(asyncio.to_thread(_compressed, "palettes.json", static_file))
        yield
        await asyncio.wait([ahead])

    app.cleanup_ctx.append(prepare)
    prefix = options.prefix
    app.router.add_route("*", prefix + "/view/{file:.*}", view)
    app.router.add_route("*", prefix + "/page/{what:open|closed}/{id:[a-z0-9]{1,20}}", page)
    modules = (f"{module}.js" for module in (*MODULES, *PARTS, "page"))
    for name in ("view.css", "palettes.json", *modules):
        app.router.add_route("*", f"{prefix}/static/{name}", static(name))
