"""Parsers of option values: each takes the value and the option's name, and checks it.

Values come from Python or, as text, from the command line. A parser accepts its own results, so
that options can be copied with changes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from os import PathLike
from typing import Any

from bfbridge.errors import BadArgument

__all__ = [
    "SPLITS",
    "mapping",
    "number_from",
    "object_with",
    "parse_crop",
    "parse_part",
    "parse_positions",
    "parse_scaling",
    "parse_series",
    "parse_size",
    "parse_split",
    "parse_suffix",
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
    if value == "slurm":
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
