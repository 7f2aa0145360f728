"""Arguments of `convert` of the wrong kind, told before any work begins."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from bfbridge.errors import BadArgument
from bfbridge.reader import BioReader
from bfbridge.runtime.arguments import flag
from bfbridge.storage.source import path_or_url

__all__ = ["check_call", "check_wanted"]

_FLAGS = ("verify", "checksum", "original_metadata", "recompress", "durable")
_MAPPINGS = ("reader_options", "storage_options", "target_storage_options")


def check_wanted(wanted: Mapping[str, Any]) -> None:
    """Refuse values of the wrong kind among those that say how to convert.

    Raises
    ------
    BadArgument
        The message names the argument.
    """
    for name in _FLAGS:
        if name in wanted:
            flag(wanted[name], name)
    for name in _MAPPINGS:
        value = wanted.get(name)
        if value is not None and not isinstance(value, Mapping):
            raise BadArgument(f"{name}={value!r}: give a mapping of names to values.")
    known = inspect.signature(BioReader).parameters
    for name in wanted.get("reader_options") or {}:
        if name not in known:
            raise BadArgument(f"reader_options has {name!r}: BioReader has no such argument.")
    for name, kind in (("crop", int), ("split", str)):
        value = wanted.get(name)
        if value is not None and not isinstance(value, str) and not _is_list(value, kind):
            raise BadArgument(f"{name}={value!r}: give a list or a text.")
    series = wanted.get("series")
    single = series is None or isinstance(series, (int, np.integer, str))
    if not single and not _is_list(series, (int, str)):
        raise BadArgument(f"series={series!r}: give a number, a name, or a list of such.")
    scaling = wanted.get("scaling")
    if scaling is not None and not isinstance(scaling, (str, tuple, list)):
        raise BadArgument(f"scaling={scaling!r}: give 'clip', 'full', 'minmax', or (low, high).")


def check_call(source: Any, target: Any, functions: Mapping[str, Any], **flags: Any) -> None:
    """Refuse a source, a target, functions and flags of the wrong kind.

    Parameters
    ----------
    source, target
        As `convert` has them.
    functions
        By name of the argument, (value, the attribute that such an object has).
    **flags
        Arguments that are True or False.

    Raises
    ------
    BadArgument
        The message names the argument.
    """
    path_or_url(target)
    if isinstance(source, (list, tuple)):
        for one in source:
            path_or_url(one)
    for name, value in flags.items():
        flag(value, name)
    for name, (value, attribute) in functions.items():
        if value is not None and (isinstance(value, type) or not hasattr(value, attribute)):
            raise BadArgument(f"{name}={value!r}: this is no {name}; it has no {attribute}().")


def _is_list(value: Any, kind: Any) -> bool:
    """Whether something lists values of a kind, numpy's integers among the integers."""
    if isinstance(value, (bytes, Mapping, os.PathLike)) or not np.iterable(value):
        return False
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if int in kinds:
        kinds = (*kinds, np.integer)
    return all(isinstance(one, kinds) for one in value)
