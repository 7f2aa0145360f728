"""Files for the browser: modules, style, palettes."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final

import numpy as np

from bfbridge.rendering.palettes import distinct_colors, palette_colors

__all__ = ["MODULES", "PALETTES", "PARTS", "palettes", "static_file", "without_comments"]

MODULES: Final = (
    "camera", "units", "dom", "source", "gl", "tiles", "input", "viewer", "pane", "panel", "app",
)  # fmt: skip
"""ES modules that show an image, each after the modules it imports."""
PARTS: Final = (
    "auto", "browse", "compare", "help", "layers", "links", "mask", "metadata", "overview",
    "picture", "shapes", "theme",
)  # fmt: skip
"""ES modules that are imported when they are used first."""
PALETTES: Final = (
    "gray", "viridis", "magma", "inferno", "plasma", "cividis", "turbo", "hot", "cool", "bone",
    "matplotlib:coolwarm", "twilight",
)  # fmt: skip
"""Palettes that the viewer offers for channels."""


@lru_cache(maxsize=1)
def palettes() -> dict[str, Any]:
    """Return the palettes in the form that the viewer expects.

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


_COMMENT: Final = re.compile(r"/\*\*.*?\*/|^ *//[^\n]*", re.DOTALL | re.MULTILINE)


@lru_cache(maxsize=32)
def static_file(name: str) -> bytes | None:
    """Return a file of the page, or None if there is no file of this name.

    Comments, most of which are types, are left out of modules: a fifth of their bytes.
    """
    if name == "palettes.json":
        return json.dumps(palettes(), separators=(",", ":")).encode()
    known = {"view.css", *(f"{module}.js" for module in (*MODULES, *PARTS, "page", "widget"))}
    if name not in known:
        return None
    text = files("bfbridge.viewer").joinpath("static", name).read_text("utf-8")
    return without_comments(text).encode() if name.endswith(".js") else text.encode()


def without_comments(text: str) -> str:
    """Return a module without its comments; the lines keep their numbers."""
    return _COMMENT.sub(lambda found: "\n" * found[0].count("\n"), text)
