"""Delivery of replies, cached or computed, with ETag, Range, HEAD and gzip."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from aiohttp import hdrs, web

from bfbridge.engine.chunk_cache import ChunkCache
from bfbridge.errors import FileChanged
from bfbridge.serve.faults import as_refused
from bfbridge.serve.files.open_files import OpenFiles
from bfbridge.serve.files.served_file import ServedFile
from bfbridge.serve.http.scheduler import Lane, Scheduler
from bfbridge.serve.metrics import Metrics
from bfbridge.serve.options import ServeOptions, is_loopback
from bfbridge.serve.replies import Plan, Refused, Reply

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["Delivery"]

T = TypeVar("T")
Planner = Callable[[ServedFile], Plan]
_TEXT: Final = ("application/json", "application/ld+json", "application/xml", "text/")
_LEAST_GZIP: Final = 1024
_RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
_IMMUTABLE: Final = "private, max-age=31536000, immutable"
_REVALIDATED: Final = "private, no-cache"
_SMALL: Final = 1 << 16
"""Largest body in bytes that is copied behind the headers, to send both with one system call."""
_MOST_CACHED: Final = 8
"""A reply is cached if it takes at most 1 / `_MOST_CACHED` of the cache."""


class Delivery:
    """Replies to requests whose content is computed from files.

    Parameters
    ----------
    options, metrics
        Options and counters of the server.
    files
        The open files.
    scheduler
        Runs the computations.
    cache
        The cache of decoded chunks and encoded replies, which share one limit.
    """

    def __init__(
        self,
        options: ServeOptions,
        metrics: Metrics,
        files: OpenFiles,
        scheduler: Scheduler,
        cache: ChunkCache,
    ) -> None:
        self._options = options
        self._metrics = metrics
        self._files = files
        self._scheduler = scheduler
        self._cache = cache

    async def send(
        self, request: web.Request, name: str, planner: Planner, lane: Lane = "viewer",
        variant: str = "",
    ) -> web.StreamResponse:  # fmt: skip
        """Reply to a request for content of a file.

        Parameters
        ----------
        request
            Its path and query, with the content of the file, determine the reply.
        name
            Name of the file.
        planner
            Checks the request against the file; runs in a thread.
        lane
            The queue.
        variant
            Other values on which the reply depends.

        Raises
        ------
        Refused
            The request is refused.
        """
        for attempt in range(2):
            try:
                async with asyncio.timeout(self._options.timeout):
                    served = await self._files.get(name)
                    return await self._answer(request, served, planner, lane, variant)
            except FileChanged as error:
                self._files.forget(name)
                if attempt:
                    raise self._refused(error, name) from error
            except Refused:
                raise
            except Exception as error:
                raise self._refused(error, name) from error
        raise Refused(503, "the file keeps changing", retry_after=1)

    async def _answer(
        self, request: web.Request, served: ServedFile, planner: Planner, lane: Lane,
        variant: str,
    ) -> web.StreamResponse:  # fmt: skip
        key = _etag(served, request, self._options.prefix, variant)
        headers: dict[str, str] = {
            hdrs.ETAG: f'"{key}"',
            hdrs.CACHE_CONTROL: (
                _IMMUTABLE if request.query.get("v") == served.version else _REVALIDATED
            ),
        }
        if _matches(request.headers.get(hdrs.IF_NONE_MATCH), key):
            self._metrics.add("not_modified")
            return web.Response(status=304, headers=headers)
        reply = self._kept(key)
        if reply is not None:
            self._metrics.add("cache_hits")
        elif request.method == hdrs.METH_HEAD:
            plan = await self._scheduler.run((key, "head"), lambda: planner(served), lane)
            return _head(plan, headers)
        else:
            self._metrics.add("cache_misses")
            reply = await self._scheduler.run(key, lambda: self._made(key, planner, served), lane)
        if not reply.found:
            raise Refused(404, "this chunk contains only zeros and is not stored")
        headers.update(reply.headers)
        return await self._respond(request, reply, headers, key)

    async def listed(self, function: Callable[[str], T], folder: str) -> T:
        """Call a function of the library with a folder in a thread, and return its result."""
        return await self._files.ask(function, folder)

    async def has(self, name: str) -> bool:
        """Whether there is a file of this name."""
        try:
            await self._files.locate(name)
        except Refused:
            return False
        return True

    def _refused(self, error: Exception, name: str) -> Exception:
        """Return the refusal for an error, or the error itself if it is a defect of the server."""
        return as_refused(error, self._files.source_of(name), name) or error

    # ---- cache

    def _kept(self, key: Hashable) -> Reply | None:
        return cast("Any", self._cache.get(key))  # type: ignore[no-any-return]

    def _made(self, key: Hashable, planner: Planner, served: ServedFile) -> Reply:
        """Compute a reply in a thread, and cache it.

        It is cached before the job is done, so that no other request computes it again, and also if
        no request waits any more.
        """
        reply = planner(served).make()
        self._keep(key, reply)
        return reply

    def _keep(self, key: Hashable, reply: Reply) -> None:
        if reply.nbytes * _MOST_CACHED <= self._cache.max_bytes:
            # The cache uses only the attribute `nbytes` of its values.
            self._cache[key] = cast("Any", reply)
        self._metrics.set("cache_bytes", self._cache.nbytes)

    # ---- HTTP

    async def _respond(
        self, request: web.Request, reply: Reply, headers: dict[str, str], key: str
    ) -> web.StreamResponse:
        headers[hdrs.CONTENT_TYPE] = reply.content_type
        headers[hdrs.ACCEPT_RANGES] = "bytes"
        body: bytes | memoryview = reply.body
        pays = self._pays(request, reply)
        if pays:
            headers[hdrs.VARY] = "Accept-Encoding"
        span = _span(request, len(body), key)
        if span is not None:
            start, stop = span
            headers[hdrs.CONTENT_RANGE] = f"bytes {start}-{stop - 1}/{len(body)}"
            return _sized(request, memoryview(body)[start:stop], headers, 206)
        if pays and "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, ""):
            packed = await self._scheduler.run(
                (key, "gzip"), lambda: gzip.compress(body, 1, mtime=0), "viewer"
            )
            # Strong validators differ where bytes do (RFC 9110, 8.8.3.3).
            headers[hdrs.ETAG] = f'"{key}-gzip"'
            headers[hdrs.CONTENT_ENCODING] = "gzip"
            body = packed
        return _sized(request, body, headers, 200)

    def _pays(self, request: web.Request, reply: Reply) -> bool:
        """Whether to compress a body: text, and pixel values that are sent to other machines."""
        if len(reply.body) < _LEAST_GZIP:
            return False
        if reply.content_type.startswith(_TEXT):
            return True
        plain = reply.content_type == "application/octet-stream"
        raw = "X-Bfbridge-Dtype" in reply.headers
        return plain and raw and not is_loopback(request.remote or "")


def _etag(served: ServedFile, request: web.Request, prefix: str, variant: str) -> str:
    identity = f"{served.version} {request.raw_path[len(prefix) :]} {variant}"
    return hashlib.blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def _matches(header: str | None, key: str) -> bool:
    """Whether If-None-Match contains the tag of a reply, compressed or not (weak comparison)."""
    if header is None:
        return False
    tags = {tag.strip().removeprefix("W/").strip('"') for tag in header.split(",")}
    return key in tags or f"{key}-gzip" in tags


def _span(request: web.Request, size: int, key: str) -> tuple[int, int] | None:
    """Return start and stop of a single requested range, or None for the whole body.

    Raises
    ------
    web.HTTPRequestRangeNotSatisfiable
        The range is beyond the end.
    """
    found = _RANGE.fullmatch(request.headers.get(hdrs.RANGE, ""))
    condition = request.headers.get(hdrs.IF_RANGE)
    if found is None or (condition is not None and condition.strip() != f'"{key}"'):
        return None
    first, last = found.groups()
    if first:
        start, stop = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < int(first):
            return None
    elif last:
        start, stop = max(0, size - int(last)), size
    else:
        return None
    if start >= size or start >= stop:
        raise web.HTTPRequestRangeNotSatisfiable(headers={hdrs.CONTENT_RANGE: f"bytes */{size}"})
    return start, stop


def _sized(
    request: web.Request, body: bytes | memoryview, headers: dict[str, str], status: int
) -> web.StreamResponse:
    if request.method == hdrs.METH_HEAD:
        headers[hdrs.CONTENT_LENGTH] = str(len(body))
        return web.Response(status=status, headers=headers)
    if isinstance(body, bytes) and len(body) <= _SMALL:
        return web.Response(status=status, headers=headers, body=body)
    return _Body(body, headers, status)


class _Body(web.StreamResponse):
    """A response whose body is any buffer."""

    def __init__(self, data: bytes | memoryview, headers: dict[str, str], status: int) -> None:
        super().__init__(status=status, headers=headers)
        self.content_length = len(data)
        self._data = data

    async def write_eof(self, data: bytes | memoryview = b"") -> None:
        await super().write_eof(data or self._data)  # type: ignore[arg-type]


def _head(plan: Plan, headers: dict[str, str]) -> web.Response:
    headers.update(plan.headers)
    headers[hdrs.CONTENT_TYPE] = plan.content_type
    headers[hdrs.ACCEPT_RANGES] = "bytes"
    if plan.length is not None:
        headers[hdrs.CONTENT_LENGTH] = str(plan.length)
    return web.Response(status=200, headers=headers)
