"""Middleware of all requests: hosts, origins, errors, headers, counters, the access log."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final
from weakref import WeakSet

from aiohttp import hdrs, web

from bfbridge.serve.content.describe import to_json
from bfbridge.serve.faults import as_refused
from bfbridge.serve.metrics import Metrics
from bfbridge.serve.options import ServeOptions
from bfbridge.serve.replies import Refused

__all__ = ["Gate", "error_response"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
log = logging.getLogger("bfbridge.serve")
access = logging.getLogger("bfbridge.serve.access")
METHODS: Final = "GET, HEAD, OPTIONS"
_CSP: Final = (
    "default-src 'self'; img-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
_HEADERS: Final = {
    "Content-Security-Policy": _CSP,
    "X-Content-Type-Options": "nosniff",
    # The token is part of the URL.
    "Referrer-Policy": "no-referrer",
    "Server": "bfbridge",
}
_EXPOSED: Final = (
    "ETag, Content-Length, Content-Range, Accept-Ranges, Retry-After, X-Bfbridge-Dtype, "
    "X-Bfbridge-Shape"
)
SEND_SECONDS: Final = 60.0
"""Seconds after which a client that does not receive its reply is disconnected."""
IDLE_SECONDS: Final = 30.0
"""Seconds after which a connection without a request is closed."""


def error_response(error: Refused, *, body: bool = True) -> web.Response:
    """Return the response with the reason of a refusal."""
    content = to_json({"status": error.status, "error": str(error)})
    headers = {"Cache-Control": "no-store"}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    return web.Response(
        status=error.status,
        body=content if body else b"",
        content_type="application/json",
        headers=headers,
    )


class Gate:
    """Checks requests and finishes responses.

    Parameters
    ----------
    options
        Options of the server.
    metrics
        The counters.
    """

    def __init__(self, options: ServeOptions, metrics: Metrics) -> None:
        self._options = options
        self._metrics = metrics
        self._served: WeakSet[asyncio.BaseTransport] = WeakSet()

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Handle a request: check, compute, send."""
        begun = time.perf_counter()
        if request.transport is not None:
            self._served.add(request.transport)
        status = 499  # the status that servers log for a client that disconnected
        sent = 0
        try:
            with self._metrics.active():
                response = await self._answered(request, handler)
                status = response.status
                self._finish(request, response)
                await self._send(request, response)
                sent = 0 if request.method == hdrs.METH_HEAD else response.content_length or 0
        finally:
            self._metrics.add("sent_bytes", sent)
            if status != 499:
                self._metrics.answered(status, begun)
            if self._options.access_log:
                self._log(request, status, sent, begun)
        return response

    async def _answered(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        refused = self._refusal(request)
        if refused is not None:
            return error_response(refused)
        if request.method == hdrs.METH_OPTIONS:
            return web.Response(status=204, headers={"Allow": METHODS})
        # Other methods are for routes that name theirs; those of this package name none.
        named = request.match_info.route.method == request.method
        if request.method not in (hdrs.METH_GET, hdrs.METH_HEAD) and not named:
            response = error_response(Refused(405, "only GET and HEAD are supported"))
            response.headers["Allow"] = METHODS
            return response
        try:
            return await handler(request)
        except web.HTTPNotFound:
            return error_response(Refused(404, "not found"))
        except web.HTTPException as error:
            if error.status < 400:
                return web.Response(status=error.status, headers=error.headers)
            response = error_response(Refused(error.status, error.reason))
            if hdrs.CONTENT_RANGE in error.headers:
                response.headers[hdrs.CONTENT_RANGE] = error.headers[hdrs.CONTENT_RANGE]
            return response
        except asyncio.CancelledError:
            raise
        except Exception as error:
            known = as_refused(error, None, "")
            if known is None:
                log.exception("a request failed: %s", self._shown(request))
                known = Refused(500, "this is a defect of the server; its log has the details")
            return error_response(known)

    def _refusal(self, request: web.Request) -> Refused | None:
        """Return the refusal of a request because of its headers, or None."""
        host = request.headers.get(hdrs.HOST, "")
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if not self._options.allows_host(name):
            return Refused(421, "this host name is not one of this server")
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None or self._options.allows_origin(origin):
            return None
        if origin.partition("://")[2] == host:
            return None
        return Refused(403, "requests of pages from other origins are refused")

    def _finish(self, request: web.Request, response: web.StreamResponse) -> None:
        headers = response.headers
        headers.update(_HEADERS)
        if not self._options.cors:
            headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
            return
        headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        origin = request.headers.get(hdrs.ORIGIN)
        if "*" in self._options.cors:
            headers["Access-Control-Allow-Origin"] = "*"
        else:
            vary = headers.get("Vary")
            headers["Vary"] = "Origin" if vary is None else f"{vary}, Origin"
            if origin is None or not self._options.allows_origin(origin):
                return
            headers["Access-Control-Allow-Origin"] = origin
        headers["Access-Control-Expose-Headers"] = _EXPOSED
        if request.method == hdrs.METH_OPTIONS:
            headers["Access-Control-Allow-Methods"] = METHODS
            headers["Access-Control-Allow-Headers"] = "Range, If-None-Match, If-Range, Accept"
            headers["Access-Control-Max-Age"] = "86400"
            if request.headers.get("Access-Control-Request-Private-Network") == "true":
                headers["Access-Control-Allow-Private-Network"] = "true"

    async def _send(self, request: web.Request, response: web.StreamResponse) -> None:
        """Send the response within a time limit."""
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await response.prepare(request)
                await response.write_eof()
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()

    # ---- connections without requests

    async def close_idle(self, connections: Callable[[], Iterable[asyncio.Transport]]) -> None:
        """Close connections without requests, until cancelled.

        Parameters
        ----------
        connections
            Returns the open connections.
        """
        seen: dict[asyncio.Transport, float] = {}
        while True:
            await asyncio.sleep(IDLE_SECONDS / 3)
            now = time.monotonic()
            seen = {c: seen.get(c, now) for c in connections() if c not in self._served}
            for connection, since in seen.items():
                if now - since >= IDLE_SECONDS:
                    connection.abort()

    # ---- log

    def _log(self, request: web.Request, status: int, sent: int, begun: float) -> None:
        access.info(
            "%s %s %s %d %d %.1f ms",
            request.remote, request.method, self._shown(request), status, sent,
            (time.perf_counter() - begun) * 1e3,
        )  # fmt: skip

    def _shown(self, request: web.Request) -> str:
        """Return the path and query as sent, without the token."""
        raw = request.raw_path
        if self._options.token is not None:
            raw = raw.replace(self._options.token, "...")
        return raw if raw.isprintable() and len(raw) <= 2000 else repr(raw[:2000])
