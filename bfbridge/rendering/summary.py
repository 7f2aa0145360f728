"""Representations of an image in the interpreter and in notebooks: text, table, thumbnail.

All parts are limited: text in length, the thumbnail in decoded bytes and in time. File names and
metadata are escaped, because they come from files.
"""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Collection, Iterable
from concurrent.futures import TimeoutError as LateError
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from bfbridge.analysis.statistics import coarse_level
from bfbridge.engine.workers import shared_pool
from bfbridge.errors import BfbridgeError

if TYPE_CHECKING:
    from bfbridge.backend import Quantity
    from bfbridge.views import ImageView

__all__ = ["as_html", "as_text", "mimebundle", "thumbnail_png"]

THUMBNAIL: Final = 192
"""Pixels along the longer side of the thumbnail."""
SECONDS: Final = 2.0
_MOST_BYTES: Final = 64 << 20
_MOST_REMOTE_BYTES: Final = 4 << 20
_MOST_NAMES: Final = 8
_MOST_ROWS: Final = 100
_LONGEST: Final = 160


def as_text(view: ImageView) -> str:
    """Return six lines: name, axes, dtype and size, pixel size, channels, backend."""
    kind = type(view).__name__
    file = view._file
    if file.closed:
        return f"<{kind} {_shown(file.source.name)}, closed>"
    samples = view.samples_per_pixel
    nbytes = math.prod(view.sizes.values()) * view.dtype.itemsize
    images, levels = len(view.series), len(view.levels)
    place = f"image {view.index} of {images}"
    if view.name:
        place += f" {_shown(view.name)}"
    if view.role != "image":
        place += f" ({view.role})"
    place += f", level {view.level} of {levels}"
    dtype = view.dtype.name + (f", {samples} samples a pixel" if samples > 1 else "")
    lines = [
        f"<{kind} {_shown(file.source.name)}, {place}>",
        f"  axes:       {', '.join(f'{axis}={size}' for axis, size in view.sizes.items())}",
        f"  dtype:      {dtype}, {_bytes(nbytes)}",
        f"  pixel size: {_pixel_size(view)}",
        f"  channels:   {_channels(view)}",
        f"  backend:    {view.backend} ({_cut(view.backend_reason)})",
    ]
    return "\n".join(lines)


def _shown(text: str) -> str:
    """Return text in quotation marks, with escapes for characters that cannot be printed."""
    return repr(_cut(text))


def _cut(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:,.4g} TiB"


def _pixel_size(view: ImageView) -> str:
    size = view.physical_pixel_size
    known = [(axis, getattr(size, axis)) for axis in "xyz" if getattr(size, axis) is not None]
    return ", ".join(f"{axis} {_quantity(q)}" for axis, q in known) or "not known"


def _quantity(quantity: Quantity) -> str:
    return f"{quantity.value:.6g} {quantity.unit}"


def _channels(view: ImageView) -> str:
    names = view.channel_names
    shown = ["-" if name is None else _shown(name)[1:-1] for name in names[:_MOST_NAMES]]
    text = ", ".join(shown) if any(names) else f"{len(names)} without names"
    return text if len(names) <= _MOST_NAMES else f"{text}, ... {len(names)} in all"


# ---- notebooks


def mimebundle(
    view: ImageView, include: Collection[str] | None = None, exclude: Collection[str] | None = None
) -> dict[str, Any]:
    """Return text, HTML, and the thumbnail as PNG if it is cheap, by MIME type."""
    wanted = {"text/plain", "text/html", "image/png"}
    if include:
        wanted &= set(include)
    wanted -= set(exclude or ())
    bundle: dict[str, Any] = {}
    if "text/plain" in wanted:
        bundle["text/plain"] = as_text(view)
    picture = thumbnail_png(view) if wanted & {"text/html", "image/png"} else None
    if "text/html" in wanted:
        bundle["text/html"] = as_html(view, picture)
    if "image/png" in wanted and picture is not None:
        bundle["image/png"] = base64.b64encode(picture).decode()
    return bundle


def thumbnail_png(view: ImageView, size: int = THUMBNAIL) -> bytes | None:
    """Return a thumbnail, or None if it needs much decoding, takes long, or cannot be made."""
    if view._file.closed:
        return None
    try:
        if _cost(view, size) > _most_bytes(view):
            return None
        picture: bytes = shared_pool().submit(partial(_drawn, view, size)).result(SECONDS)
    except (BfbridgeError, LateError, MemoryError, RuntimeError, OSError):
        return None
    return picture


def _drawn(view: ImageView, size: int) -> bytes:
    from bfbridge.rendering.picture import render

    data: bytes = render(view, max_size=size, format="png")
    return data


def _most_bytes(view: ImageView) -> int:
    return _MOST_BYTES if view._file.source.url is None else _MOST_REMOTE_BYTES


def _cost(view: ImageView, size: int) -> int:
    """Return the approximate number of bytes decoded for a thumbnail and its contrast."""
    full = view.levels[0]
    fine = [level for level in view.levels if max(level.sizes["Y"], level.sizes["X"]) >= size]
    return _plane_bytes(coarse_level(full)) + _plane_bytes((fine or [full])[-1])


def _plane_bytes(level: ImageView) -> int:
    """Return the bytes of all stored chunks with the shown channels of one plane."""
    (height, width, *_), (tall, wide, deep, _, long) = level.sizes.values(), level.chunks
    area = -(-height // tall) * tall * (-(-width // wide) * wide)
    channels = min(level.sizes["C"], _MOST_NAMES * level.samples_per_pixel)
    return area * deep * long * channels * level.dtype.itemsize


_STYLE: Final = "text-align:left;vertical-align:top"


def as_html(view: ImageView, picture: bytes | None = None) -> str:
    """Return a table of an image, with a thumbnail and folded metadata.

    Parameters
    ----------
    view
        The image.
    picture
        A thumbnail as PNG, or None.
    """
    if view._file.closed:
        return f"<pre>{html.escape(as_text(view))}</pre>"
    rows = [_row("file", view.source_name), _row("image", _image_line(view))]
    lines = as_text(view).splitlines()[1:]
    rows += [_row(*(part.strip() for part in line.split(":", 1))) for line in lines]
    table = f"<table><tbody>{''.join(rows)}</tbody></table>"
    if picture is not None:
        data = base64.b64encode(picture).decode()
        source = f"data:image/png;base64,{data}"
        table = (
            '<div style="display:flex;flex-wrap:wrap;align-items:flex-start;gap:1em">'
            f'<img alt="thumbnail" src="{source}">{table}</div>'
        )
    return f"<div>{table}{_folded_images(view)}{_folded_metadata(view)}</div>"


def _row(name: str, value: Any) -> str:
    head, shown = html.escape(_cut(name)), html.escape(_cut(value))
    return f'<tr><th style="{_STYLE}">{head}</th><td style="{_STYLE}">{shown}</td></tr>'


def _image_line(view: ImageView) -> str:
    text = f"{view.index} of {len(view.series)}"
    return f"{text}: {view.name}" if view.name else text


def _folded_images(view: ImageView) -> str:
    """Return the images of the file and the levels of this one."""
    series = view.series
    rows = [_row(f"level {level.level}", _sizes(level)) for level in view.levels]
    if len(series) > 1:
        shown = islice(series, _MOST_ROWS)
        rows += [
            _row(f"image {other.index}", f"{other.name or '-'}: {_sizes(other)}, {other.role}")
            for other in shown
        ]
        if len(series) > _MOST_ROWS:
            rows.append(_row("...", f"{len(series)} images in all"))
    return _details("images and levels", rows)


def _sizes(view: ImageView) -> str:
    sizes = view.sizes
    return " x ".join(f"{axis} {sizes[axis]}" for axis in "XYZCT")


def _folded_metadata(view: ImageView) -> str:
    try:
        found = view.original_metadata
        items = list(islice(found.items(), _MOST_ROWS))
    except BfbridgeError as error:
        return _details("original metadata", [_row("cannot be read", error)])
    rows = [_row(str(name), value) for name, value in items]
    if len(found) > _MOST_ROWS:
        rows.append(_row("...", f"{len(found)} entries in all: see original_metadata"))
    return _details("original metadata", rows)


def _details(title: str, rows: Iterable[str]) -> str:
    body = "".join(rows)
    if not body:
        return ""
    return (
        f"<details><summary>{html.escape(title)}</summary>"
        f"<table><tbody>{body}</tbody></table></details>"
    )
