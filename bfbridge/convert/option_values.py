"""Parsers of option values: each takes the value and the option's name, and checks it.

Values come from Python or, as text, from the command line. A parser accepts its own results, so
that options can be copied with changes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from os import PathLike
from typing import Any

from bfbridge.backend import PixelSize, Quantity
from bfbridge.errors import BadArgument

__all__ = [
    "SPLITS",
    "mapping",
    "number_from",
    "object_with",
    "parse_channel_names",
    "parse_colors",
    "parse_crop",
    "parse_downsample_z",
    "parse_factors",
    "parse_flip",
    "parse_length",
    "parse_names",
    "parse_number",
    "parse_part",
    "parse_pixel_size",
    "parse_positions",
    "parse_project",
    "parse_scaling",
    "parse_series",
    "parse_size",
    "parse_split",
    "parse_stitch",
    "parse_suffix",
    "parse_swap",
    "parse_time_step",
    "reader_arguments",
    "switch",
]

SPLITS = ("series", "c", "t", "z")
LEAST_MEMORY = 16 << 20


def switch(value: Any, name: str) -> bool:
    """Return True or False; 1 and 0 are accepted."""
    from bfbridge.runtime.arguments import flag

    return flag(value, name)


def number_from(least: int) -> Callable[[Any, str], int]:
    """Return a parser of integers that are not below `least`."""

    def parse(value: Any, name: str) -> int:
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
            raise BadArgument(f"{name}={value!r}: give an integer, {least} or more.")
        return int(value)

    return parse


_QUANTITY = re.compile(r"\s*([0-9.]+(?:[eE][-+]?[0-9]+)?)\s*(\D*?)\s*")


def _split_quantity(value: Any, name: str) -> tuple[Any, str | None]:
    """Return number and unit of "1.5um", 1.5 or (1.5, "um")."""
    if isinstance(value, str):
        found = _QUANTITY.fullmatch(value)
        if found is None:
            raise BadArgument(f"{name}={value!r}: give a number and a unit, such as 0.5um or 2s.")
        value = (found[1], found[2] or None)
    number, unit = value if isinstance(value, (tuple, list)) and len(value) == 2 else (value, None)
    try:
        size = None if isinstance(number, bool) else float(number)
    except (TypeError, ValueError):
        size = None
    if size is None or not 0 < size < float("inf"):
        raise BadArgument(f"{name}={value!r}: give a number above 0, and a unit.")
    return size, unit


def parse_pixel_size(value: Any, name: str) -> tuple[Quantity | None, ...]:
    """Read sizes along X, Y and Z: "0.3,0.3,1um", (0.3, 0.3, (1, "µm")), or two for X and Y.

    Units are lengths of OME. In a text, sizes without a unit have that of the last size; the
    default is µm. None keeps the size of the source.

    Raises
    ------
    BadArgument
        There are not two or three sizes above 0, or a unit is no length.
    """
    is_text = isinstance(value, str)
    parts = value.split(",") if isinstance(value, str) else _listed(value, (object,))
    if parts is None or not 2 <= len(parts) <= 3:
        raise BadArgument(
            f"{name}={value!r}: give sizes along X, Y and Z, such as 0.325,0.325,1um."
        )
    empty = [part is None or (isinstance(part, str) and not part) for part in parts]
    pairs = [
        None if no else _split_quantity(part, name) for part, no in zip(parts, empty, strict=True)
    ]
    last = pairs[-1][1] if is_text and pairs[-1] is not None else None
    sizes = [
        None if pair is None else Quantity(pair[0], parse_length(pair[1] or last or "µm", name))
        for pair in pairs
    ]
    return (*sizes, *(None,) * (3 - len(sizes)))


def parse_length(value: Any, name: str) -> str:
    """Return OME's symbol of a unit of length.

    Raises
    ------
    BadArgument
        It is not one.
    """
    from bfbridge.ome.units import LENGTHS, length_symbol

    symbol = length_symbol(value) if isinstance(value, str) else None
    if symbol is None or symbol not in LENGTHS:
        raise BadArgument(f"{name}: {value!r} is no unit of length, such as nm, um or mm.")
    return symbol


def parse_time_step(value: Any, name: str) -> Quantity:
    """Read a time: "250ms", "5 min", 2.5 (seconds) or (5, "min").

    Raises
    ------
    BadArgument
        It is not above 0, or the unit is no time.
    """
    from bfbridge.ome.units import time_symbol

    number, unit = _split_quantity(value, name)
    symbol = time_symbol(unit or "s")
    if symbol is None:
        raise BadArgument(
            f"{name}: {unit!r} is no unit of time. Use ms, s, min, h or others of OME."
        )
    return Quantity(number, symbol)


def parse_names(value: Any, name: str) -> tuple[str, ...]:
    """Return one text, or a list of texts, as a tuple."""
    listed = [value] if isinstance(value, str) else _listed(value, (str,))
    if not listed:
        raise BadArgument(f"{name}={value!r}: give a text, or a list of texts.")
    return tuple(listed)


def parse_channel_names(value: Any, name: str) -> tuple[str, ...]:
    """Return names as a tuple; a single text is split at commas."""
    names = parse_names(value, name)
    if len(names) == 1:
        names = tuple(part.strip() for part in names[0].split(","))
    return names


def parse_colors(value: Any, name: str) -> tuple[tuple[int, int, int], ...]:
    """Return colours as red, green, blue, 0 to 255.

    Raises
    ------
    BadArgument
        One of them is not a colour.
    """
    listed = value.split(",") if isinstance(value, str) else _listed(value, (str, tuple, list))
    if listed and len(listed) == 1 and isinstance(listed[0], str):
        listed = listed[0].split(",")
    if not listed:
        raise BadArgument(f"{name}={value!r}: give a colour for each channel, such as 0000FF,lime.")
    return tuple(_color(one, name) for one in listed)


def _color(value: Any, name: str) -> tuple[int, int, int]:
    if isinstance(value, str):
        from bfbridge.rendering.palettes import parse_color

        text = value.strip()
        text = f"#{text}" if re.fullmatch("[0-9a-fA-F]{6}", text) else text
        if re.fullmatch("#[0-9a-fA-F]{6}", text):
            red, green, blue = bytes.fromhex(text[1:])
        else:
            red, green, blue, _ = (round(part) for part in parse_color(text))
        return red, green, blue
    whole = [int(n) for n in value if isinstance(n, Integral)]
    parts = [n for n in whole if 0 <= n <= 255]
    if len(parts) != 3 or len(value) != 3:
        raise BadArgument(f"{name}: {value!r} is no colour: give (red, green, blue), 0 to 255.")
    return parts[0], parts[1], parts[2]


def parse_swap(value: Any, name: str) -> tuple[str, ...]:
    """Read pairs of axes: "zt", "zt,zc", or a list of such texts.

    Raises
    ------
    BadArgument
        A pair is not two of z, c and t.
    """
    parts = value.split(",") if isinstance(value, str) else _listed(value, (str,))
    pairs = [part.strip().lower() for part in parts or ["?"] * (parts is None)]
    for pair in pairs:
        if len(pair) != 2 or len(set(pair)) != 2 or not set(pair) <= set("zct"):
            raise BadArgument(f"{name}={value!r}: give two of z, c and t, such as zt.")
    return tuple(pairs)


def parse_flip(value: Any, name: str) -> str:
    """Return axes of the stage: "", "x", "y" or "xy"."""
    axes = value.lower() if isinstance(value, str) else "?"
    if not set(axes) <= set("xy") or len(set(axes)) < len(axes):
        raise BadArgument(f"{name}={value!r}: give y, x or xy.")
    return axes


def parse_stitch(value: Any, name: str) -> str | None:
    """Return how overlaps are made; True is "last", False is None."""
    from bfbridge.files.rearranged import OVERLAPS
    from bfbridge.runtime.arguments import one_of

    if isinstance(value, bool):
        return "last" if value else None
    return one_of(value, name, OVERLAPS)


def parse_project(value: Any, name: str) -> tuple[str, str]:
    """Return the method and the axis of a projection; a text such as "max z" is split."""
    from bfbridge.files.rearranged import PROJECTIONS

    parts = value.split() if isinstance(value, str) else _listed(value, (str,))
    found = [part.lower() for part in parts or ()]
    if len(found) != 2 or found[0] not in PROJECTIONS or found[1] not in ("z", "c", "t"):
        raise BadArgument(
            f"{name}={value!r}: give one of {', '.join(PROJECTIONS)}, then z, c or t."
        )
    return found[0], found[1]


def parse_number(value: Any, name: str) -> float:
    """Return a real number; whole numbers as int.

    Raises
    ------
    BadArgument
        It is not a number.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise BadArgument(f"{name}={value!r}: give a number.")
    number = float(value)
    return int(number) if number.is_integer() else number


def parse_downsample_z(value: Any, name: str) -> str:
    """Return "none", "2" or "auto"."""
    from bfbridge.engine.pyramid import Z_RULES

    if str(value) not in Z_RULES:
        raise BadArgument(f"{name}={value!r}: use one of {', '.join(Z_RULES)}.")
    return str(value)


def parse_factors(value: Any, name: str) -> tuple[Any, ...]:
    """Read factors of levels: "2,4,8", "1x2x2,2x4x4", or a list of numbers and triples.

    Raises
    ------
    BadArgument
        They are not integers, or not multiples of those before them.
    """
    from bfbridge.engine.pyramid import LevelPlan

    if isinstance(value, str):
        parts = [part.strip().lower().split("x") for part in value.split(",")]
        if any(not n.strip().isdigit() for part in parts for n in part):
            raise BadArgument(
                f"{name}={value!r}: give factors such as 2,4,8 or, along Z, Y, X, 1x2x2,2x4x4."
            )
        found = [tuple(map(int, part)) for part in parts]
        value = [part[0] if len(part) == 1 else part for part in found]
    factors = _listed(value, (Integral, tuple, list))
    if not factors:
        raise BadArgument(f"{name}={value!r}: give a list of factors, such as [2, 4, 8].")
    try:
        LevelPlan(list(factors)).steps((2, 2, 2), PixelSize())
    except BadArgument as error:
        raise BadArgument(str(error).replace("pyramid=", f"{name}=", 1)) from None
    return tuple(tuple(f) if isinstance(f, list) else f for f in factors)


def object_with(method: str) -> Callable[[Any, str], Any]:
    """Return a parser that checks that an object has a method."""

    def parse(value: Any, name: str) -> Any:
        if isinstance(value, type) or not hasattr(value, method):
            raise BadArgument(f"{name}={value!r}: this object has no method {method}().")
        return value

    return parse


def parse_suffix(value: Any, name: str) -> str:
    """Return a file name suffix.

    Raises
    ------
    BadArgument
        It does not begin with a dot.
    """
    if not isinstance(value, str) or not value.startswith("."):
        raise BadArgument(f"{name}={value!r}: give a suffix such as .ome.tif or .ome.zarr.")
    return value


def mapping(value: Any, name: str) -> dict[str, Any]:
    """Return a mapping of names to values as a dict."""
    if not isinstance(value, Mapping):
        raise BadArgument(f"{name}={value!r}: give a mapping of names to values.")
    return dict(value)


def reader_arguments(value: Any, name: str) -> dict[str, Any]:
    """Return keyword arguments of `BioReader`.

    Raises
    ------
    BadArgument
        `BioReader` has no such argument.
    """
    from inspect import signature

    from bfbridge.reader import BioReader

    given = mapping(value, name)
    known = signature(BioReader).parameters
    for argument in given:
        if argument not in known:
            raise BadArgument(f"{name} has {argument!r}: BioReader has no such argument.")
    return given


def parse_series(value: Any, name: str) -> int | str | list[int | str]:
    """Return a number, a name, or a list of numbers and names."""
    if isinstance(value, str):
        return value
    if isinstance(value, Integral):
        return int(value)
    listed = _listed(value, (Integral, str))
    if listed is None:
        raise BadArgument(f"{name}={value!r}: give a number, a name, or a list of these.")
    return [item if isinstance(item, str) else int(item) for item in listed]


def parse_split(value: Any, name: str) -> tuple[str, ...]:
    """Read the axes to split by: "c,t" or ["c", "t"]; "s" is the same as "series".

    Raises
    ------
    BadArgument
        Files cannot be split along one of them.
    """
    parts = value.split(",") if isinstance(value, str) else _listed(value, (str,))
    if parts is None:
        raise BadArgument(f"{name}={value!r}: give a list or a text.")
    axes = ["series" if part.strip().lower() == "s" else part.strip().lower() for part in parts]
    wrong = [axis for axis in axes if axis not in SPLITS]
    if wrong:
        raise BadArgument(f"{name}={wrong[0]!r}: files are split by some of {', '.join(SPLITS)}.")
    return tuple(axis for axis in SPLITS if axis in axes)


def parse_crop(value: Any, name: str) -> tuple[int, int, int, int]:
    """Read a box, x, y, width, height in pixels, in the form of bfconvert's ``-crop``.

    Raises
    ------
    BadArgument
        Not four integers, or a box without area.
    """
    parts = value.split(",") if isinstance(value, str) else _listed(value, (Integral,))
    if parts is None:
        raise BadArgument(f"{name}={value!r}: give a list or a text.")
    try:
        x, y, width, height = (int(part) for part in parts)
    except ValueError:
        x = y = width = height = -1
    if min(x, y) < 0 or min(width, height) < 1:
        raise BadArgument(
            f"{name}={value!r}: give x,y,width,height in pixels, such as 0,0,512,512."
        )
    return x, y, width, height


def parse_scaling(value: Any, name: str) -> Any:
    """Check the kind of a scaling rule; `bfbridge.convert.plan.scaling` reads it."""
    if not isinstance(value, (str, tuple, list)):
        raise BadArgument(f"{name}={value!r}: give 'clip', 'full', 'minmax', or (low, high).")
    return value


def parse_size(value: Any, name: str = "memory") -> int:
    """Read a number of bytes: 500000000, "512M", "2g".

    Raises
    ------
    BadArgument
        Not a size, or below 16 MiB.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", str(value).strip().lower())
    if found is None:
        raise BadArgument(f"{name}={value!r}: give bytes, or a size such as 512M or 2G.")
    size = int(float(found.group(1)) * 1024 ** " kmgt".index(found.group(2) or " "))
    if size < LEAST_MEMORY:
        raise BadArgument(f"{name}={value!r}: at least 16M are needed.")
    return size


def parse_part(value: Any, name: str = "part") -> tuple[int, int]:
    """Read "2/8": the second of eight parts of a batch; "slurm" is the task of a Slurm array.

    Raises
    ------
    BadArgument
        Not two numbers, a part that does not exist, or this is no task of an array.
    """
    if isinstance(value, str) and value == "slurm":
        return _slurm_part(name)
    try:
        number, count = (int(n) for n in (value.split("/") if isinstance(value, str) else value))
    except (ValueError, TypeError):
        number = count = 0
    if not 1 <= number <= count:
        raise BadArgument(
            f"{name}={value!r}: give i/n with i from 1 to n, such as 1/8, or 'slurm'."
        )
    return number, count


def _slurm_part(name: str) -> tuple[int, int]:
    """Return the part of this task among those of its array (sbatch, "Job array support").

    The ids of an array are ``SLURM_ARRAY_TASK_MIN``, then each ``SLURM_ARRAY_TASK_STEP`` further,
    ``SLURM_ARRAY_TASK_COUNT`` in all. Lists of other ids have no such step and are refused.
    """
    found = {}
    for key, default in (
        ("ID", None),
        ("COUNT", None),
        ("MIN", None),
        ("MAX", None),
        ("STEP", "1"),
    ):
        variable = f"SLURM_ARRAY_TASK_{key}"
        text = os.environ.get(variable, default)
        if text is None or not text.isdecimal():
            raise BadArgument(
                f"{name}='slurm': {variable} is {'not set' if text is None else repr(text)}, so "
                "this is not a task of a job array. Start it with sbatch --array=1-N, or give "
                "i/n such as 1/8."
            )
        found[key] = int(text)
    step = max(1, found["STEP"])
    number, rest = divmod(found["ID"] - found["MIN"], step)
    if (
        rest
        or not 0 <= number < found["COUNT"]
        or (found["MAX"] - found["MIN"]) // step + 1 != found["COUNT"]
    ):
        raise BadArgument(
            f"{name}='slurm': the ids of this job array are not a range, such as --array=1-8, so "
            "the number of this part is not known. Give i/n, such as 1/8."
        )
    return number + 1, found["COUNT"]


def parse_positions(value: Any, name: str) -> Any:
    """Read positions along an axis: text such as "3", "5:", "0:10:2,15" gives numbers and slices.

    Other values are returned unchanged.

    Raises
    ------
    BadArgument
        The text is not a number or a range.
    """
    if not isinstance(value, str):
        return value
    chosen: list[Any] = []
    for part in value.split(","):
        found = re.fullmatch(r"\s*(-?\d+)?(:(-?\d+)?(:(-?\d+)?)?)?\s*", part)
        if found is None or not part.strip():
            raise BadArgument(f"{name}={value!r}: give positions such as 3, 0:10, 0:10:2 or 0,4,7.")
        first, is_range, stop, _, step = found.groups()
        if not is_range:
            chosen.append(int(first))
            continue
        cut = slice(*(None if text is None else int(text) for text in (first, stop, step)))
        if cut.step == 0:
            raise BadArgument(f"{name}={value!r}: a step cannot be 0.")
        chosen.append(cut)
    return chosen


def _listed(value: Any, kinds: tuple[type, ...]) -> Sequence[Any] | None:
    """Return the items of a list, tuple or array; None for other values or items."""
    if isinstance(value, (str, bytes, Mapping, PathLike)):
        return None
    try:
        items = list(value)
    except TypeError:
        return None
    return items if all(isinstance(item, kinds) for item in items) else None
