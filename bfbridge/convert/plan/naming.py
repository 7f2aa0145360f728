"""Names of new files: the parts of a source's name, and patterns in the form of bfconvert.

=====  ==============================  ======================
token  meaning                         makes a file for each
=====  ==============================  ======================
%s     number of the image (series)    image
%n     its name                        image
%c     number of the channel           channel
%w     its name                        channel
%z     number of the slice             slice
%t     number of the time point        time point
%A     when the image was acquired     -
%%     a percent sign                  -
=====  ==============================  ======================

Numbers count from 0 in the source (``loci.formats.FormatTools``, SERIES_NUM and following).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from bfbridge.convert.locations import Place
from bfbridge.errors import BadArgument

__all__ = ["axes_of_pattern", "base_name", "filled", "is_name_pattern", "marked", "suffix_of"]

DOUBLE = (".ome", ".companion", ".nii", ".idx", ".ome.xml")
COMPRESSED = (".gz", ".bz2", ".zip")
AXES = {"s": "series", "n": "series", "c": "c", "w": "c", "z": "z", "t": "t"}
TILES = "xym"
_TOKEN = re.compile(rf"%([%A{TILES}{''.join(AXES)}])")
_FORBIDDEN = re.compile(r'[/\\:*?"<>|\x00-\x1f]')


def is_name_pattern(name: str) -> bool:
    """Return whether a file name has tokens.

    >>> is_name_pattern("a_%s.ome.tif"), is_name_pattern("50%.ome.tif")
    (True, False)
    """
    return _TOKEN.search(name) is not None


def axes_of_pattern(name: str) -> tuple[str, ...]:
    """Return the axes along which each position is written to a separate file.

    Raises
    ------
    BadArgument
        The pattern requests a file for each tile, which is not supported.
    """
    tokens = _TOKEN.findall(name)
    if any(token in TILES for token in tokens):
        raise BadArgument(
            f"{name}: %x, %y and %m would make a file of every tile. Cut regions with crop= "
            "(--crop), or write a percent sign as %%."
        )
    found = {AXES[token] for token in tokens if token in AXES}
    return tuple(axis for axis in ("series", "c", "t", "z") if axis in found)


def filled(name: str, values: Mapping[str, Callable[[], str]]) -> str:
    """Fill in a pattern; characters that are forbidden in file names become underscores."""

    def fill(found: re.Match[str]) -> str:
        letter = found.group(1)
        return "%" if letter == "%" else _FORBIDDEN.sub("_", values[letter]())

    return _TOKEN.sub(fill, name)


def suffix_of(name: str) -> str:
    """Return a file name's suffix, double ones whole: ".ome.tif", ".nii.gz", ".czi".

    >>> suffix_of("a.b.ome.tif"), suffix_of("brain.nii.gz"), suffix_of("plain")
    ('.ome.tif', '.nii.gz', '')
    """
    name = name.rstrip("/").rsplit("/", 1)[-1].split("&", 1)[0]
    stem, suffix = os.path.splitext(name)
    inner = os.path.splitext(stem)[1]
    if inner and (inner.lower() in DOUBLE or suffix.lower() in COMPRESSED):
        return inner + suffix
    return suffix


def base_name(name: str) -> str:
    """Return a file name without folder and suffix; parameters of a ``.fake`` name go too."""
    last = Path(name.split("?", 1)[0].rstrip("/")).name
    base = last.removesuffix(suffix_of(last)) or last
    return base.split("&", 1)[0] if last.lower().endswith(".fake") else base


def marked(target: Place, marks: str) -> Place:
    """Put marks such as "_c0_t1" between a file's base name and its suffix."""
    if not marks:
        return target
    suffix = suffix_of(target.name)
    return target.with_name(target.name.removesuffix(suffix) + marks + suffix)
