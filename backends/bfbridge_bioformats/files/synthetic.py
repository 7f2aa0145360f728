"""Synthetic images, which FakeReader makes from the parameters in a ``.fake`` name."""

from __future__ import annotations

import math
from math import prod
from pathlib import Path

from bfbridge.errors import UnreadableFile
from bfbridge.limits import Limits, check
from bfbridge.storage.source import Source

__all__ = ["check_synthetic"]

SUFFIX = ".fake"
# FakeReader also reads parameters from a file with this suffix.
_PARAMETERS = ".fake.ini"
_LONGEST_PAUSE = 60_000
_PLANES = ("sizeZ", "sizeC", "sizeT")
_WELLS = ("plates", "plateRows", "plateCols", "fields", "plateAcqs")
# Numbers of objects that FakeReader makes for each image or for the file.
_OBJECTS = (
    *("annLong", "annDouble", "annMap", "annComment", "annBool", "annTime", "annTag", "annTerm"),
    *("annXml", "ellipses", "labels", "lines", "masks", "points", "polygons", "polylines"),
    *("rectangles", "screens", "resolutions", "lutLength"),
)


def check_synthetic(source: Source, limits: Limits) -> None:
    """Allow a synthetic image only for a path that the user gave, with parameters within limits.

    Raises
    ------
    UnreadableFile
        The name belongs to bytes, an open file, a URL or the content of a compressed file, or to a
        parameter file.
    LimitExceeded
        It declares more images or planes than the limits, more annotations or regions than
        `Limits.channels`, or pauses of more than a minute.
    """
    name = source.filename.lower()
    if name.endswith(_PARAMETERS) or (name.endswith(SUFFIX) and source.path is None):
        raise UnreadableFile(
            f"{source.name}: this is the name of a synthetic image, whose pixels are made from the "
            "parameters in its name. They are made only for a path that ends in .fake."
        )
    if name.endswith(SUFFIX):
        _check_parameters(source, limits)


def _check_parameters(source: Source, limits: Limits) -> None:
    numbers: dict[str, float] = {}
    tokens = [*source.filename[: -len(SUFFIX)].split("&")[1:], *_beside(source, limits)]
    for key, value in (map(str.strip, token.partition("=")[::2]) for token in tokens):
        # The key of a colour contains an index; FakeReader makes all colours up to that index.
        colour = key.startswith("color_")
        number = _number(key.removeprefix("color_") if colour else value)
        name = "color" if colour else key
        numbers[name] = max(number, numbers.get(name, 0.0))

    def count(*keys: str) -> int:
        return prod(_whole(numbers.get(key, 1.0)) for key in keys)

    where = source.name
    images = count("series") * count(*_WELLS)
    objects = sum(count(key) for key in (*_OBJECTS, "color") if key in numbers)
    check(images, limits.images, "number of images", where)
    check(images * count(*_PLANES), limits.planes, "number of planes", where)
    check(images * objects, limits.channels, "number of annotations, regions and colours", where)
    for key in ("sleepOpenBytes", "sleepInitFile"):
        check(_whole(numbers.get(key, 0.0)), _LONGEST_PAUSE, f"{key} in milliseconds", where)


def _beside(source: Source, limits: Limits) -> list[str]:
    """Return the lines of a parameter file beside the name, or in the working folder."""
    path = Path(f"{source.name}.ini")
    if not path.is_file():
        # FakeReader looks there for a name without a file.
        path = Path(path.name)
    if not path.is_file():
        return []
    check(path.stat().st_size, limits.xml_bytes, "length in bytes", str(path))
    return path.read_text(encoding="utf-8", errors="replace").splitlines()


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _whole(number: float) -> int:
    """Return a count as Java converts it; at least 1."""
    if math.isnan(number):
        return 1
    return max(int(min(number, 2.0**31)), 1)
