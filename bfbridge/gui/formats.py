"""The formats and options that the window offers, and what they are in `bfbridge.convert`.

Names, defaults and descriptions are those of `bfbridge.convert.options` and of the writers.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final

from bfbridge import registry
from bfbridge.convert.locations import is_url
from bfbridge.convert.options import (
    TARGET_OPTIONS,
    ConvertOptions,
    Option,
    RunOptions,
    option_of,
)
from bfbridge.convert.plan.naming import base_name
from bfbridge.convert.plan.sources import is_one_image
from bfbridge.errors import BadArgument
from bfbridge.ngff.compression import COMPRESSION_NAMES
from bfbridge.tiff.tags import COMPRESSIONS

if TYPE_CHECKING:
    from bfbridge.views import ImageView

__all__ = ["Order", "describe_formats", "fits_picture"]


@dataclass(frozen=True, slots=True)
class Format:
    """A format of new files.

    Attributes
    ----------
    label
        Its name in the list.
    suffix
        Suffix of the new files, which selects the writer.
    compressions
        Compressions to choose from. Without a choice, the writer's own default applies.
    fixed
        Options that the choice of the format sets.
    """

    label: str
    suffix: str
    compressions: tuple[dict[str, Any], ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)


def _of_tiff() -> tuple[dict[str, Any], ...]:
    """Return the compressions that the TIFF writer has."""
    return tuple(
        {
            "name": method.name,
            # A byte stream keeps every bit; an image codec does so at level 0, if it has one.
            "lossy": not method.byte_stream and method.level > 0,
            "dtypes": [_dtype_name(code) for code in method.dtypes],
            "quality": [method.levels[0], method.levels[-1], method.level]
            if not method.byte_stream and method.level > 0
            else None,
        }
        for method in COMPRESSIONS.values()
        if method.levels
    )


def _dtype_name(code: str) -> str:
    kind, bits = code[0], code[1:]
    return {"u": "uint", "i": "int", "f": "float", "c": "complex"}[kind] + bits


_TIFF: Final = _of_tiff()
_ZARR: Final[tuple[dict[str, Any], ...]] = tuple(
    {"name": name, "lossy": False, "dtypes": [], "quality": None} for name in COMPRESSION_NAMES
)
FORMATS: Final[Mapping[str, Format]] = {
    "ome-tiff": Format("OME-TIFF", ".ome.tif", _TIFF),
    "ome-zarr": Format("OME-Zarr 0.5 (folder)", ".ome.zarr", _ZARR),
    "ome-zarr-0.4": Format("OME-Zarr 0.4 (folder)", ".ome.zarr", _ZARR, {"version": "0.4"}),
    "ozx": Format("OME-Zarr 0.5 in one file (.ozx)", ".ozx", _ZARR),
    "png": Format("PNG picture", ".png"),
}
"""By the name that the page sends."""
_CHECKED: Final = frozenset({"verify"})
"""Switches that are on in the window: people without a script would not look for them."""
_SWITCHES: Final = ("pyramid", "verify", "overwrite")
_OFFERED: Final[Mapping[str, type]] = {
    "compression": str, "level": int, "series": int, **dict.fromkeys(_SWITCHES, bool),
}  # fmt: skip
"""Options that the page may send, in the order of the command line, with their types."""


def describe_formats() -> dict[str, Any]:
    """Return the formats and options as plain data, for the page."""
    return {
        "formats": [
            {
                "name": name,
                "label": known.label,
                "suffix": known.suffix,
                "compressions": known.compressions,
                "levels": registry.writer_for(f"x{known.suffix}").supports_levels(known.suffix),
            }
            for name, known in FORMATS.items()
        ],
        "switches": {
            # The lower levels are written by default, in formats that have them: None.
            name: {"help": _option(name).help, "on": name in _CHECKED or _default(name) is None}
            for name in _SWITCHES
        },
    }


def fits_picture(view: ImageView) -> bool:
    """Whether an image is one plane of pixels that a PNG holds."""
    sizes = view.sizes
    plane = sizes["Z"] == sizes["T"] == 1 and sizes["C"] == view.samples_per_pixel
    return plane and registry.writer_for("x.png").supports_dtype(view.dtype)


def _option(name: str) -> Option:
    """Return the definition of an option."""
    for kind in (ConvertOptions, RunOptions):
        for declared in fields(kind):
            if declared.name == name:
                return option_of(declared)
    return TARGET_OPTIONS[name]


def _default(name: str) -> Any:
    """Return the default of an option; None for those of writers."""
    for kind in (ConvertOptions, RunOptions):
        for declared in fields(kind):
            if declared.name == name:
                return None if declared.default is MISSING else declared.default
    return None


@dataclass(frozen=True, slots=True)
class Order:
    """What the page asks for: sources, a folder for the new files, and options.

    Attributes
    ----------
    sources
        Absolute paths and URLs.
    folder
        The folder of the new files.
    options
        Keyword arguments of `bfbridge.convert.convert` that differ from its defaults.
    suffix
        Suffix of the new files.
    is_single
        Whether it is a single image, whose new file has a name of its own.
    """

    sources: tuple[str, ...]
    folder: str
    options: Mapping[str, Any]
    suffix: str
    is_single: bool

    @classmethod
    def of(cls, sources: Sequence[str], folder: str, chosen: Mapping[str, Any]) -> Order:
        """Make an order from what the page sends.

        Parameters
        ----------
        sources, folder
            As the attributes.
        chosen
            ``format``, and any of ``compression``, ``level``, ``series`` (a number), ``pyramid``,
            ``verify`` and ``overwrite``.

        Raises
        ------
        BadArgument
            A source is missing, or an option does not exist.
        """
        if not sources:
            raise BadArgument("Choose a file or a folder first.")
        given = dict(chosen)
        name = given.pop("format", None)
        if name not in FORMATS:
            raise BadArgument(f"format={name!r:.80}: choose one of {', '.join(FORMATS)}.")
        known = FORMATS[name]
        for key, value in given.items():
            if key not in _OFFERED or type(value) is not _OFFERED[key]:
                raise BadArgument(f"{key!r:.80}: the window has no such option or value.")
        options = {**known.fixed, **{key: given[key] for key in _OFFERED if key in given}}
        if "series" in options:
            options["series"] = [options["series"]]
        if options.get("pyramid"):
            # The default depends on the format.
            del options["pyramid"]
        left = {k: v for k, v in options.items() if v != _default(k)}
        single = len(sources) == 1 and is_one_image(sources[0])
        return cls(tuple(sources), folder, left, known.suffix, single)

    @property
    def source(self) -> Any:
        """The first argument of `convert`."""
        return self.sources[0] if len(self.sources) == 1 else list(self.sources)

    @property
    def target(self) -> str:
        """The second argument of `convert`: the new file, or the folder of a batch."""
        name = base_name(self.sources[0]) + self.suffix if self.is_single else ""
        if is_url(self.folder):
            return f"{self.folder.rstrip('/')}/{name}"
        return os.path.join(self.folder, name)

    @property
    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of `convert`."""
        more = (
            {} if self.is_single or self.suffix == _default("suffix") else {"suffix": self.suffix}
        )
        return {**self.options, **more}

    @property
    def command(self) -> str:
        """The command line that does the same."""
        words = ["bfbridge", "convert", *self.sources, self.target]
        for name, value in self.arguments.items():
            flag = next(flag for flag in _option(name).flags if flag.startswith("--"))
            on, _, off = flag.partition("/")
            if isinstance(value, bool):
                words.append(on if value else off)
            else:
                values = value if isinstance(value, list) else [value]
                words += [on, ",".join(map(str, values))]
        return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)
