"""Images in notebooks: the viewer as an anywidget, in JupyterLab, Notebook, VS Code and marimo.

Tiles are sent over the notebook's connection: no port and no proxy are needed.
"""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, cast

from bfbridge.errors import BfbridgeError, MissingExtra
from bfbridge.rendering.palettes import distinct_colors
from bfbridge.rendering.summary import thumbnail_png
from bfbridge.runtime import forking
from bfbridge.serve import faults
from bfbridge.serve.content import describe, grids, raw
from bfbridge.serve.content.query import channel_numbers, plane_of
from bfbridge.serve.files.served_file import ServedFile
from bfbridge.serve.replies import Refused
from bfbridge.viewer.assets import MODULES, PARTS, palettes, static_file

try:
    import anywidget
    import traitlets
except ImportError as error:
    raise MissingExtra(
        f"view() needs a package that is not installed ({error}). Install it with: "
        'python -m pip install "bfbridge[widget]"'
    ) from error

if TYPE_CHECKING:
    from bfbridge.reader import BioReader
    from bfbridge.views import ImageView

__all__ = ["ImageWidget", "joined_modules", "show"]

log = logging.getLogger("bfbridge.viewer")
SIDE: Final = 512
"""Side of a tile, as in ``source.js``."""
THREADS: Final = 4
_IMPORT: Final = re.compile(r"^import \{(.+?)\} from '\./(\w+)\.js';\n", re.MULTILINE)
_LATER: Final = re.compile(r"\bimport\('\./(\w+)\.js'\)")
_EXPORT: Final = re.compile(r"^export (?=(?:async )?(?:class|function|const) (\w+))", re.MULTILINE)


@lru_cache(maxsize=1)
def joined_modules() -> str:
    """Return the viewer as one ES module, as notebooks load it from a string.

    Each module becomes a function that returns what the module exports. Modules that the page
    imports later are part of the text as well, because a notebook has no place to import from.
    """
    parts = [_wrapped(name, _module(name)) for name in (*MODULES, *PARTS)]
    return "\n".join((*parts, _IMPORT.sub(_taken, _module("widget"))))


def _module(name: str) -> str:
    text = (static_file(f"{name}.js") or b"").decode()
    return _LATER.sub(r"Promise.resolve(module_\1)", text)


def _taken(found: re.Match[str]) -> str:
    return f"const {{{found[1]}}} = module_{found[2]};\n"


def _wrapped(name: str, text: str) -> str:
    exports = ", ".join(match[1] for match in _EXPORT.finditer(text))
    body = _EXPORT.sub("", _IMPORT.sub(_taken, text))
    return f"const module_{name} = (() => {{\n{body}\nreturn {{{exports}}};\n}})();\n"


class ImageWidget(anywidget.AnyWidget):
    """An image in a notebook. Traits follow the user's actions, and can be set.

    Attributes
    ----------
    series
        Number of the image in its file.
    z, t
        The plane.
    center
        Pixel (x, y) of the full image in the centre.
    zoom
        CSS pixels for one pixel of the image; 0 shows the whole image.
    channels
        A dictionary for each channel: ``active``, ``color`` (``#rrggbb``), ``palette`` (a name or
        None), ``low``, ``high``, ``gamma``, ``invert``, ``opacity``.
    shapes
        Drawn shapes: ``kind``, ``points`` as [x, y] in pixels, ``closed``, ``text``.
    height
        Height of the widget, in CSS pixels.
    """

    _esm = joined_modules()
    _css = (static_file("view.css") or b"").decode()
    series = traitlets.Int(0).tag(sync=True)
    z = traitlets.Int(None, allow_none=True).tag(sync=True)
    t = traitlets.Int(None, allow_none=True).tag(sync=True)
    center = traitlets.List([0.0, 0.0]).tag(sync=True)
    zoom = traitlets.Float(0.0).tag(sync=True)
    channels: Any = traitlets.List([]).tag(sync=True)
    shapes: Any = traitlets.List([]).tag(sync=True)
    height = traitlets.Int(520).tag(sync=True)
    _name = traitlets.Unicode("").tag(sync=True)
    _palettes = traitlets.Dict({}).tag(sync=True)

    def __init__(self, image: ImageView, **state: Any) -> None:
        name = re.split(r"[\\/]", image.source_name)[-1]
        self._served = ServedFile(cast("BioReader", image), name)
        self._image = image
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="bfbridge-widget")
        self._lock = forking.lock()
        self._requests: dict[str, Future[None]] = {}
        self._answers: dict[str, Callable[[dict[str, Any]], tuple[Any, list[Any]]]] = {
            "info": lambda request: (
                describe.describe(self._served, _number(request, "series")), []
            ),
            "histogram": self._histogram,
            "raw": self._raw,
            "ome": self._ome,
            "metadata": lambda request: (
                describe.to_json(describe.original_metadata(self._served)).decode(), []
            ),
        }  # fmt: skip
        super().__init__(_name=name, _palettes=palettes(), **state)
        self.on_msg(self._hear)

    # ---- messages

    def _hear(self, widget: Any, content: Any, buffers: Any) -> None:
        del widget, buffers
        if not isinstance(content, dict) or not isinstance(content.get("id"), str):
            return
        number = content["id"]
        if content.get("kind") == "abort":
            with self._lock:
                waiting = self._requests.pop(number, None)
            if waiting is not None:
                waiting.cancel()
            return
        with self._lock:
            self._requests[number] = self._pool.submit(self._answer, number, content)

    def _answer(self, number: str, request: dict[str, Any]) -> None:
        buffers: list[Any] = []
        try:
            answer = self._answers.get(request.get("kind", ""))
            if answer is None:
                raise Refused(400, "there is no such request")
            content, buffers = answer(request)
            reply = {"id": number, "content": describe._finite(content)}
        except Exception as error:
            known = faults.as_refused(error, self._image.source_name, self._served.name)
            if known is None:
                log.exception("a request of the notebook failed")
                known = Refused(500, f"this is a defect of bfbridge ({type(error).__name__})")
            reply = {"id": number, "status": known.status, "error": str(known)}
        with self._lock:
            self._requests.pop(number, None)
        self.send(reply, buffers)

    def _histogram(self, request: dict[str, Any]) -> tuple[Any, list[Any]]:
        series = _number(request, "series")
        channels = self._channels(request, series)
        z, t = (
            None if request.get(name) is None else _number(request, name) for name in ("z", "t")
        )
        return describe.histograms(self._served, series, channels, z, t), []

    def _ome(self, request: dict[str, Any]) -> tuple[Any, list[Any]]:
        del request
        xml = self._image.ome_xml
        if xml is None:
            raise Refused(404, "the metadata of this file cannot be expressed as OME-XML")
        return xml, []

    def _raw(self, request: dict[str, Any]) -> tuple[Any, list[Any]]:
        names = ("series", "level", "row", "column", "z", "t")
        series, level, row, column, z, t = (_number(request, name) for name in names)
        image = self._served.image(series)
        plane_of(image.view, z, t)
        if level >= len(image.levels):
            raise Refused(404, f"the image has the levels 0 to {len(image.levels) - 1}")
        box = grids.tile_box(image, level, row, column, SIDE)
        channels = self._channels(request, series)
        found = raw.raw_tile(self._served, series, level, box, channels, z, t)
        return {"dtype": raw.raw_dtype(image.dtype).name}, [found.body]

    def _channels(self, request: dict[str, Any], series: int) -> list[int]:
        given = request.get("channels") or ()
        if not isinstance(given, (list, tuple)):
            raise Refused(400, "channels: give a list of numbers")
        text = ",".join(map(str, given))
        return channel_numbers(text or None, self._served.view(series).sizes["C"])

    # ---- notebooks

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """Return the widget, and a picture for notebooks without a kernel."""
        found = super()._repr_mimebundle_(**options)
        bundle, metadata = found if isinstance(found, tuple) else (found, {})
        try:
            picture = thumbnail_png(self._image)
        except BfbridgeError:
            picture = None
        if bundle is not None and picture is not None:
            bundle = {**bundle, "image/png": base64.b64encode(picture).decode()}
        return bundle, metadata

    def close(self) -> None:
        """Release the threads and the page's side of the widget."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        super().close()


def _number(request: dict[str, Any], name: str) -> int:
    value = request.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise Refused(400, f"{name}: give a whole number of 0 or more")
    return value


def show(image: ImageView, **state: Any) -> ImageWidget:
    """Return a widget that shows an image; see `ImageView.view`."""
    distinct_colors()
    return ImageWidget(image, series=image.index, **state)
