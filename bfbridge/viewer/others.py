"""Links and origins of other viewers."""

from __future__ import annotations

import json
from typing import Final
from urllib.parse import quote

from bfbridge.errors import BadArgument

__all__ = ["SITES", "link_for"]

SITES: Final = {
    "neuroglancer": "https://neuroglancer-demo.appspot.com",
    "vizarr": "https://hms-dbmi.github.io",
}
"""Origins of web viewers; the server must allow them to read from it."""


def link_for(viewer: str, server: str, name: str) -> str:
    """Return the URL of a web viewer that shows a file of a server as OME-Zarr 0.4.

    Parameters
    ----------
    viewer
        One of `SITES`.
    server
        URL of the server's first page, with a slash at the end.
    name
        The file, as the server names it.

    Raises
    ------
    BadArgument
        There is no such viewer.
    """
    store = f"{server}zarr2/{quote(name)}.ome.zarr"
    if viewer == "neuroglancer":
        layers = [{"type": "image", "source": f"zarr://{store}", "name": name}]
        state = {"layers": layers, "layout": "xy"}
        return f"{SITES[viewer]}/#!{quote(json.dumps(state, separators=(',', ':')))}"
    if viewer == "vizarr":
        return f"{SITES[viewer]}/vizarr/?source={quote(store, safe='')}"
    raise BadArgument(f"--with {viewer}: use one of napari, {', '.join(SITES)}.")
