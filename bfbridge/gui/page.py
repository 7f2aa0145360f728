"""The page of the window, and its files."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib.resources import files
from typing import Final

from bfbridge.viewer.assets import static_file, without_comments

__all__ = ["FILES", "SHARED", "gui_file", "page_html", "shared_file"]

MODULES: Final = ("text", "requests", "files", "chosen", "form", "queue", "page")
"""ES modules of the page, each after the modules it imports."""
FILES: Final = (*(f"{name}.js" for name in MODULES), "gui.css")
SHARED: Final = ("dom.js", "units.js", "theme.js", "source.js")
"""Modules of the viewer that the page uses; their URLs repeat the folders of the packages."""


@lru_cache(maxsize=16)
def gui_file(name: str) -> bytes | None:
    """Return a file of the page, or None if there is no file of this name."""
    if name not in FILES:
        return None
    text = files("bfbridge.gui").joinpath("static", name).read_text("utf-8")
    return (without_comments(text) if name.endswith(".js") else text).encode()


def shared_file(name: str) -> bytes | None:
    """Return a module of the viewer that the page uses, or None."""
    return static_file(name) if name in SHARED else None


def _linked(line: Callable[[str], str], names: tuple[str, ...]) -> str:
    return "".join(line(name) for name in names)


def page_html() -> bytes:
    """Return the page. Its links are relative to the first page of the server."""
    modules = tuple(f"gui/static/{name}.js" for name in MODULES)
    shared = tuple(f"viewer/static/{name}" for name in SHARED)
    styles = ("static/view.css", "gui/static/gui.css")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<title>bfbridge</title><link rel="icon" href="data:,">'
        + _linked(lambda url: f'<link rel="stylesheet" href="{url}">', styles)
        + _linked(lambda url: f'<link rel="modulepreload" href="{url}">', (*shared, *modules))
        + f'<script type="module" src="{modules[-1]}"></script></head>'
        '<body class="bfbridge gui"><noscript>This page needs JavaScript.</noscript></body>'
        "</html>\n"
    ).encode()
