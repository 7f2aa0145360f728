"""The routes of the window, for a server of `bfbridge.serve`.

The page reads with GET and changes with POST. Every request needs the random token of the server in
its path, and the cookie of `bfbridge.gui.session`.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from functools import wraps
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from bfbridge.analysis.description import describe
from bfbridge.convert.locations import is_url
from bfbridge.convert.reports.record import reason_of
from bfbridge.errors import BadArgument, BfbridgeError, FileMissing
from bfbridge.gui.folders import given_source, is_folder, list_folder, places
from bfbridge.gui.formats import Order, describe_formats, fits_picture
from bfbridge.gui.jobs import Job, Queue
from bfbridge.gui.page import FILES, SHARED, gui_file, page_html, shared_file
from bfbridge.gui.session import Session, read_body
from bfbridge.serve.content.describe import to_json
from bfbridge.serve.files.open_files import OpenFiles
from bfbridge.serve.http import app as server
from bfbridge.serve.replies import Refused
from bfbridge.viewer.page import add_viewer, send_static
from bfbridge.viewer.presence import Presence

if TYPE_CHECKING:
    from bfbridge.reader import BioReader
    from bfbridge.serve.files.library import Library
    from bfbridge.serve.options import ServeOptions

__all__ = ["Window"]

Handler = Callable[["Window", web.Request], Awaitable[web.Response]]
_MOST_IMAGES: Final = 500
"""Largest number of images of a file that are described."""
_UNPROCESSABLE: Final = 422


def _answering(function: Callable[[Window, dict[str, Any]], Awaitable[Any]]) -> Handler:
    """Make a handler of a function from the sent object to an object to reply with.

    Messages of errors keep their paths, which the gate would remove: the page is of the user who
    has chosen the files.
    """

    @wraps(function)
    async def handler(self: Window, request: web.Request) -> web.Response:
        body = await read_body(request)
        try:
            return _json(await function(self, body))
        except Refused:
            raise
        except BfbridgeError as error:
            raise Refused(_UNPROCESSABLE, reason_of(error)) from error

    return handler


def _json(content: Any) -> web.Response:
    headers = {"Cache-Control": "no-store"}
    return web.Response(body=to_json(content), content_type="application/json", headers=headers)


class Window:
    """The window of one user. `add_to` is the `extend` of `ServeOptions`.

    Parameters
    ----------
    sources
        What is chosen, or for a single folder listed, at the start. Default: the home folder.
    ended
        Called when the page was closed and no conversion is running. None: the server goes on.

    Raises
    ------
    FileMissing
        A path does not exist.
    """

    def __init__(
        self, sources: Sequence[str] = (), ended: Callable[[], object] | None = None
    ) -> None:
        given = [given_source(source) for source in sources]
        for path in given:
            if not is_url(path) and not os.path.exists(path):
                raise FileMissing(f"{path}: no such file or folder.")
        local = [path for path in given if not is_url(path)]
        self._start = os.path.expanduser("~")
        if local:
            self._start = local[0] if is_folder(local[0]) else os.path.dirname(local[0])
        self._chosen = [] if given == [self._start] else given
        self._queue = Queue()
        self._presence = None if ended is None else Presence(ended, busy=lambda: self._queue.busy)
        self._library: Library
        self._files: OpenFiles

    def add_to(self, app: web.Application, options: ServeOptions) -> None:
        """Add the routes of the page and of the viewer, and the check of the cookie."""
        prefix = options.prefix
        self._library, self._files = app[server.LIBRARY], app[server.FILES]
        app.middlewares.append(Session(options, f"{prefix}/gui").middleware)
        app.cleanup_ctx.append(self._lifetime)
        add_viewer(app, options, watch=self._presence)
        router = app.router
        router.add_get(f"{prefix}/gui", self._page)
        router.add_get(f"{prefix}/gui/state", self._state)
        router.add_get(f"{prefix}/gui/jobs", self._jobs)
        for folder, names, find in (
            ("gui", FILES, gui_file), ("viewer", SHARED, shared_file)
        ):  # fmt: skip
            for name in names:
                router.add_get(f"{prefix}/{folder}/static/{name}", _file(name, find))
        posts: dict[str, Callable[[web.Request], Awaitable[web.Response]]] = {
            "folder": self._folder,
            "choose": self._choose,
            "command": self._command,
            "plan": self._plan,
            "convert": self._convert,
            "cancel": self._cancel,
            "clear": self._clear,
            "reveal": self._reveal,
        }
        for name, handler in posts.items():
            router.add_post(f"{prefix}/gui/{name}", handler)

    async def _lifetime(self, app: web.Application) -> AsyncIterator[None]:
        del app
        yield
        await asyncio.to_thread(self._queue.close)

    # ---- what the page shows

    async def _page(self, request: web.Request) -> web.Response:
        del request
        headers = {"Cache-Control": "no-store"}
        return web.Response(
            body=page_html(), content_type="text/html", charset="utf-8", headers=headers
        )

    async def _state(self, request: web.Request) -> web.Response:
        """Reply with what the page needs once."""
        del request
        return _json({
            **await asyncio.to_thread(describe_formats),
            "places": await asyncio.to_thread(places, self._start),
            "start": self._start,
            "chosen": self._chosen,
            "watched": self._presence is not None,
            "reveals": _file_manager() is not None,
        })  # fmt: skip

    @_answering
    async def _folder(self, body: dict[str, Any]) -> Any:
        """List a folder; of anything else, say what may be chosen instead."""
        path = given_source(_text(body, "path"))
        if is_url(path) or await asyncio.to_thread(_is_image, path):
            return {"source": path}
        return await asyncio.to_thread(list_folder, path, hidden=body.get("hidden") is True)

    @_answering
    async def _choose(self, body: dict[str, Any]) -> Any:
        """Describe a file; it may be viewed from now on."""
        path = given_source(_text(body, "path"))
        name = path.rstrip("/\\").replace("\\", "/").rpartition("/")[2] or path
        if await asyncio.to_thread(is_folder, path):
            return {"path": path, "name": name, "folder": True}
        served = self._library.add(path)
        reader = (await self._files.get(served)).reader
        description = await asyncio.to_thread(_described, reader)
        return {"path": path, "name": name, "view": served, **description}

    # ---- conversions

    @_answering
    async def _command(self, body: dict[str, Any]) -> Any:
        """Reply with the equivalent command line."""
        order = await asyncio.to_thread(_order, body)
        return {"command": order.command, "target": order.target}

    @_answering
    async def _plan(self, body: dict[str, Any]) -> Any:
        """Reply with what a conversion would write."""
        return await asyncio.to_thread(_planned, body)

    @_answering
    async def _convert(self, body: dict[str, Any]) -> Any:
        """Add a conversion to the queue."""
        order = await asyncio.to_thread(_order, body)
        if order.options.get("overwrite"):
            # Windows does not replace open files. They are opened again when they are shown.
            for name in self._library.list().images:
                self._files.forget(name)
        return {"number": self._queue.add(order).number}

    async def _jobs(self, request: web.Request) -> web.Response:
        """Reply with the state of all conversions."""
        del request
        return _json([self._shown(job) for job in self._queue])

    def _shown(self, job: Job) -> dict[str, Any]:
        snapshot = job.snapshot()
        if job.is_over:
            for output in snapshot["outputs"]:
                # The user may have moved the file already.
                with suppress(BfbridgeError):
                    output["view"] = self._library.add(output["target"])
        return snapshot

    @_answering
    async def _cancel(self, body: dict[str, Any]) -> Any:
        self._queue[body.get("number")].cancel()
        return {}

    @_answering
    async def _clear(self, body: dict[str, Any]) -> Any:
        del body
        self._queue.clear()
        return {}

    @_answering
    async def _reveal(self, body: dict[str, Any]) -> Any:
        """Open the folder of a conversion in the file manager."""
        folder = self._queue[body.get("number")].order.folder
        if is_url(folder) or not os.path.isdir(folder):
            raise FileMissing(f"{folder}: there is no such folder.")
        await asyncio.to_thread(_open_folder, folder)
        return {}


def _file(name: str, find: Callable[[str], bytes | None]) -> Any:
    async def handler(request: web.Request) -> web.Response:
        return await send_static(request, name, find)

    return handler


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise BadArgument(f"{name}: give a text.")
    return value


def _order(body: dict[str, Any]) -> Order:
    sources, options = body.get("sources"), body.get("options")
    if not isinstance(sources, list) or not isinstance(options, dict):
        raise BadArgument("sources, options: give a list and an object.")
    if not all(isinstance(source, str) for source in sources):
        raise BadArgument("sources: give texts.")
    folder = given_source(_text(body, "folder"))
    return Order.of([given_source(source) for source in sources], folder, options)


def _planned(body: dict[str, Any]) -> dict[str, Any]:
    from bfbridge.convert import plan_conversion

    order = _order(body)
    return plan_conversion(order.source, order.target, **order.arguments).as_dict()


def _is_image(path: str) -> bool:
    return os.path.exists(path) and not is_folder(path)


def _described(reader: BioReader) -> dict[str, Any]:
    """Describe an open file for the page: as `bfbridge info`, for a limited number of images."""
    found = describe(reader)
    images = found["series"]
    for view, image in zip(reader.series[:_MOST_IMAGES], images[:_MOST_IMAGES], strict=True):
        image["picture"] = fits_picture(view)
    files = found.pop("used_files")
    local = [path for path in files if not is_url(path) and os.path.isfile(path)]
    size = sum(os.path.getsize(path) for path in local) if len(local) == len(files) else None
    return {
        **found, "series": images[:_MOST_IMAGES], "images": len(images), "files": len(files),
        "used_files": files[:_MOST_IMAGES], "bytes": size,
    }  # fmt: skip


def _file_manager() -> list[str] | None:
    """Return the command that opens a folder, without the folder; None if there is none."""
    if sys.platform == "win32":
        return ["explorer"]
    program = shutil.which("open" if sys.platform == "darwin" else "xdg-open")
    graphical = sys.platform == "darwin" or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    return [program] if program is not None and graphical else None


def _open_folder(folder: str) -> None:
    command = _file_manager()
    if command is None:
        raise BadArgument(f"{folder}: there is no file manager to open it with.")
    subprocess.Popen(  # noqa: S603 - a folder that a conversion was ordered into, without a shell
        [*command, folder], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
