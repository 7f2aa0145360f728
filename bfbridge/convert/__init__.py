"""Conversion: any image to OME-TIFF, OME-Zarr or another format, one file or many.

>>> import bfbridge
>>> bfbridge.convert("cells.czi", "cells.ome.zarr", verify=True)        # doctest: +SKIP
>>> bfbridge.convert("plates/", "out/", suffix=".ome.zarr", jobs=4)     # doctest: +SKIP

The parts, each of which imports only those after it:

`preview`
    What a conversion would do, before anything is written.
`conversion`
    The public functions: one source or a batch.
`omero`
    A mapping of new files for the importer of OMERO.
`execute`
    Where conversions run: this process, several processes, or a Dask cluster.
`copy`
    One source to its new files: blocks of pixels, or encoded chunks.
`verification`
    Comparison of new files with their sources, independent of `copy`.
`plan`
    Which sources, which pixels, which files, which values.
`reports`
    Records of what was done, written and read again.
`options`
    All options, defined once.

Imported by `bfbridge.cli` and `bfbridge.wipp`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from inspect import Signature, signature
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bfbridge.convert.conversion import Conversion, convert, convert_many, is_batch
    from bfbridge.convert.execute.run import Watcher
    from bfbridge.convert.preview import ConversionPlan, plan_conversion
    from bfbridge.convert.reports.merge import MergedReport, merge_reports
    from bfbridge.errors import BatchFailed

# Imported on use: the command line needs only `options` to show its help.
_WHERE = {
    "BatchFailed": "bfbridge.errors",
    "Conversion": "bfbridge.convert.conversion",
    "ConversionPlan": "bfbridge.convert.preview",
    "MergedReport": "bfbridge.convert.reports.merge",
    "Watcher": "bfbridge.convert.execute.run",
    "convert": "bfbridge.convert.conversion",
    "convert_many": "bfbridge.convert.conversion",
    "is_batch": "bfbridge.convert.conversion",
    "merge_reports": "bfbridge.convert.reports.merge",
    "plan_conversion": "bfbridge.convert.preview",
}

__all__ = [
    "BatchFailed",
    "Conversion",
    "ConversionPlan",
    "MergedReport",
    "Watcher",
    "convert",
    "convert_many",
    "is_batch",
    "merge_reports",
    "plan_conversion",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _Callable(ModuleType):
    """The module, callable as the function of the same name.

    ``bfbridge.convert`` is the function until something imports this module by its name; then
    Python binds the module to that name. ``bfbridge.convert(...)`` works in both cases.
    """

    @property
    def __signature__(self) -> Signature:
        return signature(__getattr__("convert"))

    def __call__(self, *args: Any, **kwargs: Any) -> Conversion:
        found: Conversion = __getattr__("convert")(*args, **kwargs)
        return found


sys.modules[__name__].__class__ = _Callable
