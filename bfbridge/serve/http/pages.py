"""HTML pages that list folders, without scripts."""

from __future__ import annotations

import html
from typing import Final
from urllib.parse import quote

from bfbridge.serve.files.library import Listing

__all__ = ["STATIC", "index_page"]

_CSS: Final = b"""\
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 20%, transparent); }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.25rem; overflow-wrap: anywhere; }
ul { list-style: none; padding: 0; display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); }
li { border: 1px solid var(--line); border-radius: 6px; padding: .6rem; overflow-wrap: anywhere; }
li img { display: block; max-width: 100%; min-height: 3rem; margin: 0 auto .5rem;
  background: color-mix(in srgb, currentColor 8%, transparent); }
small a { margin-right: .6rem; }
"""
STATIC: Final = {"style.css": (_CSS, "text/css")}
"""Files of the pages: content and MIME type by name."""
_PICTURES: Final = 200
"""Largest number of thumbnails of a page."""


def index_page(listing: Listing, root: str) -> bytes:
    """Return the page of a folder.

    Parameters
    ----------
    listing
        The content of the folder.
    root
        Relative URL of the first page, such as "../../".
    """
    title = html.escape(listing.folder or "Images")
    items = [_folder(listing, name, root) for name in listing.folders]
    items += [
        _image(listing, name, root, number < _PICTURES)
        for number, name in enumerate(listing.images)
    ]
    if listing.folder:
        above = listing.folder.rpartition("/")[0]
        items.insert(0, f'<li><a href="{_href(root, "browse", above)}">..</a></li>')
    more = "<p>There are more entries than are listed.</p>" if listing.truncated else ""
    none = "" if items else "<p>There are no images in this folder.</p>"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{title} - bfbridge</title>"
        f'<link rel="stylesheet" href="{root}static/style.css"></head>'
        f"<body><h1>{title}</h1><ul>{''.join(items)}</ul>{none}{more}</body></html>\n"
    ).encode("utf-8", "replace")


def _href(root: str, route: str, name: str) -> str:
    return html.escape(f"{root}{route}/{quote(name)}")


def _joined(listing: Listing, name: str) -> str:
    return f"{listing.folder}/{name}" if listing.folder else name


def _folder(listing: Listing, name: str, root: str) -> str:
    link = _href(root, "browse", _joined(listing, name))
    return f'<li><a href="{link}">{html.escape(name)}/</a></li>'


def _image(listing: Listing, name: str, root: str, pictured: bool) -> str:
    whole = _joined(listing, name)
    picture = ""
    if pictured:
        source = _href(root, "thumbnail", f"{whole}/0.jpg")
        picture = f'<img loading="lazy" alt="" src="{source}">'
    links = " ".join(
        f'<a href="{_href(root, route, end)}">{text}</a>'
        for route, end, text in (
            ("view", whole, "view"), ("info", whole, "info"), ("ome", whole, "OME-XML"),
            ("metadata", whole, "metadata"),
            ("dzi", f"{whole}.dzi", "DeepZoom"), ("iiif/3", whole, "IIIF"),
        )
    )  # fmt: skip
    return f"<li>{picture}{html.escape(name)}<br><small>{links}</small></li>"
