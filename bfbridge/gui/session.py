"""Who may use a window: the browser that opened it first."""

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


class Session:
    """Gives a secret cookie to the first browser that opens the page, and requires it afterwards.

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

    @web.middleware
    async def middleware(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        """Handle a request of the browser that opened the page; refuse all others."""
        first = (
            self._secret is None and request.path == self._page and request.method == hdrs.METH_GET
        )
        if first:
            self._secret = secrets.token_urlsafe(24)
        elif not self._is_ours(request):
            raise Refused(
                403,
                "this window was opened in another browser. Close it there and start "
                "`bfbridge gui` again.",
            )
        response = await handler(request)
        if first and self._secret is not None:
            response.set_cookie(
                COOKIE, self._secret, path=self._path, httponly=True, samesite="Strict"
            )
        return response

    def _is_ours(self, request: web.Request) -> bool:
        sent = request.cookies.get(COOKIE, "")
        return self._secret is not None and secrets.compare_digest(
            sent.encode("utf-8", "replace"), self._secret.encode()
        )


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
