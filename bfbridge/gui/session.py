"""Who may use a window: the first browser that shows its page."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

from aiohttp import hdrs, web

from bfbridge.serve.replies import Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bfbridge.serve.options import ServeOptions

__all__ = ["Session", "read_body"]

COOKIE: Final = "bfbridge-window"
_MOST_OFFERED: Final = 100
"""Largest number of times that the page is given before a browser shows it."""


class Session:
    """Gives the page with a secret cookie, and admits the browser that sends its cookie first.

    From then on, every request needs this cookie, also those of the page. Until then, the page may
    be requested again: a browser may fail to load it.

    The link is an argument of the browser's process, which other users of the machine may see. The
    cookie is known to the browser only: pages of other sites do not send it (SameSite), and scripts
    cannot read it (HttpOnly).

    Parameters
    ----------
    options
        Options of the server.
    page
        Path of the page.
    """

    def __init__(self, options: ServeOptions, page: str) -> None:
        # Cookies of all ports of a host are the same, but not those of all paths.
        self._path = f"{options.prefix}/"
        self._page = page
        self._secret: str | None = None
        self._offered: list[str] = []

    @web.middleware
    async def middleware(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        """Handle a request of the browser that shows the page; refuse all others."""
        offered = None
        if not self._is_ours(request):
            if not self._offers(request):
                raise Refused(
                    403,
                    "this window was opened in another browser. Close it there and start "
                    "`bfbridge gui` again.",
                )
            offered = secrets.token_urlsafe(24)
            self._offered.append(offered)
        response = await handler(request)
        if offered is not None:
            response.set_cookie(COOKIE, offered, path=self._path, httponly=True, samesite="Strict")
        return response

    def _offers(self, request: web.Request) -> bool:
        """Whether a request gets a cookie: for the page, while no browser was admitted."""
        return (
            self._secret is None
            and len(self._offered) < _MOST_OFFERED
            and request.path == self._page
            and request.method == hdrs.METH_GET
        )

    def _is_ours(self, request: web.Request) -> bool:
        """Whether a request has the cookie of the admitted browser; admit the first one."""
        sent = request.cookies.get(COOKIE, "").encode("utf-8", "replace")
        known = self._offered if self._secret is None else [self._secret]
        for secret in known:
            if secrets.compare_digest(sent, secret.encode()):
                self._secret = secret
                self._offered.clear()
                return True
        return False


async def read_body(request: web.Request) -> dict[str, Any]:
    """Return the JSON object that a page has sent.

    A page of another site can send forms and text without asking the server first, but not JSON.

    Raises
    ------
    Refused
        415: it is not declared as JSON. 400: it is not a JSON object.
    """
    if request.content_type != "application/json":
        raise Refused(415, "send application/json")
    try:
        body = await request.json()
    except ValueError:
        raise Refused(400, "this is not JSON") from None
    if not isinstance(body, dict):
        raise Refused(400, "send a JSON object")
    return body
