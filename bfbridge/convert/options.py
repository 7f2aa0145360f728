"""Conversion options, each defined once.

`ConvertOptions` has the options that all files of a batch share; it is sent to worker processes.
`RunOptions` selects the files and the processes. The metadata of a field
(`Option`) is the source of its command-line option, its documentation, its check, and its part in
fingerprints and reports. `TARGET_OPTIONS` describes the options of new files that have a
command-line option; writer backends define and check them.
"""

# `_option` returns a `dataclasses.field`.
# ruff: noqa: RUF009

from __future__ import annotations

import hashlib
import inspect
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any

from bfbridge.convert import option_values as values
from bfbridge.errors import BadArgument
from bfbridge.runtime.writer_options import refuse_unknown

if TYPE_CHECKING:
    from bfbridge.backend import WriterBackend
    from bfbridge.engine.pyramid import Pyramid

__all__ = [
    "TARGET_OPTIONS",
    "ConvertOptions",
    "Option",
    "RunOptions",
    "describe_parameters",
    "option_of",
    "read_options",
    "signature_of",
]

MEMORY_PER_WORKER = 128 << 20


@dataclass(frozen=True, slots=True)
class Option:
    """One option: how it is documented, given on the command line, checked and recorded.

    Attributes
    ----------
    help
        One or two sentences, for the command line and the documentation.
    more
        Sentences for the documentation only.
    flags
        Names on the command line; none if there is no command-line option.
    panel
        Heading under which ``bfbridge convert --help`` lists it.
    kind
        Type of the command line's value.
    metavar, least
        Placeholder shown for the value, and smallest number allowed there.
    parse
        Takes (value, name of the option); returns the checked value. Not called for None.
    affects_file
        Whether other values make other files, so that ``resume`` converts again.
    secret
        Whether values may be credentials, of which reports contain only the names.
    """

    help: str
    more: str = ""
    flags: tuple[str, ...] = ()
    panel: str = ""
    kind: Any = str | None
    metavar: str | None = None
    least: int | None = None
    parse: Callable[[Any, str], Any] | None = None
    affects_file: bool = True
    secret: bool = False


def _option(default: Any, help: str, *flags: str, **more: Any) -> Any:  # noqa: A002 - typer's word
    metadata = {"option": Option(help, flags=flags, **more)}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def option_of(declared: Field[Any]) -> Option:
    """Return the description of a dataclass field."""
    found: Option = declared.metadata["option"]
    return found


class _Checked:
    """Parses the values of a dataclass's fields as their options say."""

    def __post_init__(self) -> None:
        for declared in fields(self):  # type: ignore[arg-type] # subclasses are dataclasses
            parse, value = option_of(declared).parse, getattr(self, declared.name)
            if value is None and declared.default_factory is not MISSING:
                object.__setattr__(self, declared.name, declared.default_factory())
            elif parse is not None and (value is not None or declared.default is not None):
                object.__setattr__(self, declared.name, parse(value, declared.name))


SOURCES = "What to convert"
OUTPUT = "Output"
SELECTION = "Selection"
PIXELS = "Pixel values and metadata"
RUN = "Run"
REMOTE = "Remote storage"
ADVANCED = "Advanced"
PANELS = (SOURCES, OUTPUT, SELECTION, PIXELS, RUN, REMOTE, ADVANCED)
"""Headings of ``bfbridge convert --help``, in their order."""


@dataclass(frozen=True, kw_only=True)
class ConvertOptions(_Checked):
    """How files are converted; the same for every file of a batch."""

    series: int | str | Sequence[int | str] | None = _option(
        None, "Images: numbers (0,2) or a name; default: all, in one file.",
        "--series", "-s", panel=SELECTION, metavar="NAME", kind=list[str] | None,
        parse=values.parse_series, more="Also a list of numbers and names.",
    )  # fmt: skip
    source_level: int = _option(
        0, "Resolution level of the source that is read; 0 is full size.",
        "--source-level", panel=SELECTION, metavar="N", kind=int, least=0,
        parse=values.number_from(0),
    )  # fmt: skip
    channels: Any = _option(
        None, "Channels: numbers (0,2 or 0:3) or names.",
        "--channels", "--channel", panel=SELECTION, metavar="LIST",
        more="Also a slice or a list.",
    )  # fmt: skip
    z: Any = _option(
        None, "Z positions: 3, 0:10, 0:10:2.", "--z", panel=SELECTION, metavar="RANGE",
        more="Also a number, a slice or a list.",
    )  # fmt: skip
    t: Any = _option(
        None, "Time points: 3, 0:10, 0:10:2.", "--t", "--timepoint", panel=SELECTION,
        metavar="RANGE", more="Also a number, a slice or a list.",
    )  # fmt: skip
    crop: tuple[int, int, int, int] | None = _option(
        None, "X,Y,WIDTH,HEIGHT in pixels of the level that is read.", "--crop", panel=SELECTION,
        metavar="BOX", parse=values.parse_crop,
    )  # fmt: skip
    split: tuple[str, ...] = _option(
        tuple, "Write a file for each position: some of series,c,t,z with commas.",
        "--split", panel=SELECTION, metavar="AXES", parse=values.parse_split,
        more="The files are named ``<base>[_c0][_t0][_z0][_s0]<suffix>``; axes of length 1 are "
        "omitted from the name.",
    )  # fmt: skip
    names: str | None = _option(None, "Pattern of the names of new files; read from the target.")
    dtype: Any = _option(
        None, "Type of the new pixels, such as uint8.", "--dtype", panel=PIXELS, metavar="DTYPE",
    )  # fmt: skip
    scaling: Any = _option(
        None, "Rule for values that a new dtype would change: full, minmax, clip or LOW:HIGH.",
        "--scaling", panel=PIXELS, metavar="RULE", parse=values.parse_scaling,
        more='"full" maps range to range, "minmax" the smallest and largest value of the image, '
        '"clip" only limits values. A pair (low, high) is the same as "LOW:HIGH".',
    )  # fmt: skip
    original_metadata: bool = _option(
        False, "Add the format's own metadata to the new file, as annotations.",
        "--original-metadata", panel=PIXELS, kind=bool, parse=values.switch,
    )  # fmt: skip
    strict_metadata: bool = _option(
        False, "Refuse sources whose metadata violate the OME schema.",
        "--strict-metadata", panel=PIXELS, kind=bool, parse=values.switch,
        more="Default: invalid optional elements are omitted, with a warning in the log and in "
        "the report.",
    )  # fmt: skip
    pyramid: Pyramid | None = _option(
        None, "Write lower resolution levels; default: until both sides are at most 512 pixels.",
        "--pyramid/--no-pyramid", panel=OUTPUT, kind=bool | None,
        more="Also their number or their factors, as for `BioWriter`. Formats without levels get "
        "none by default.",
    )  # fmt: skip
    downsample: str = _option(
        "mean", "Method for lower levels: mean, nearest or mode (for label images).",
        "--downsample", "--downsample-type", panel=OUTPUT, metavar="METHOD", kind=str,
    )  # fmt: skip
    recompress: bool = _option(
        False, "Decode and encode all tiles, also those that could be copied unchanged.",
        "--recompress", panel=ADVANCED, kind=bool, parse=values.switch,
    )  # fmt: skip
    target_options: Mapping[str, Any] = _option(
        dict, "Options of the writer backend.", parse=values.mapping,
    )  # fmt: skip
    verify: bool = _option(
        False, "Compare all pixels of source and target.",
        "--verify", panel=RUN, kind=bool, parse=values.switch, affects_file=False,
        more="Both are opened and read again.",
    )  # fmt: skip
    checksum: bool = _option(
        True, "Record a checksum of the pixels; default: yes.",
        "--checksum/--no-checksum", panel=RUN, kind=bool, parse=values.switch,
        affects_file=False,
    )  # fmt: skip
    max_workers: int | None = _option(
        None, "Threads; default: the CPUs this process may use.",
        "--max-workers", panel=RUN, metavar="N", kind=int | None, least=1,
        parse=values.number_from(1), affects_file=False,
    )  # fmt: skip
    memory: int | None = _option(
        None, "Memory for pixels, in bytes or as 512M, 2G; default: 128M for each thread.",
        "--memory", panel=RUN, metavar="SIZE", parse=values.parse_size, affects_file=False,
    )  # fmt: skip
    durable: bool = _option(
        False, "Return only when the new files are safe from a power failure.",
        "--durable", panel=RUN, kind=bool, parse=values.switch, affects_file=False,
    )  # fmt: skip
    backend: str | None = _option(
        None, "Backend that reads; default: chosen by content.", "--backend",
        panel=ADVANCED, metavar="NAME",
    )  # fmt: skip
    target_backend: str | None = _option(
        None, "Backend that writes; default: chosen by suffix.",
        "--target-backend", panel=ADVANCED, metavar="NAME",
    )  # fmt: skip
    reader_options: Mapping[str, Any] = _option(
        dict, "Further keyword arguments of `BioReader`.",
        parse=values.reader_arguments, secret=True,
    )  # fmt: skip
    storage_options: Mapping[str, Any] = _option(
        dict, "For URLs: an option of their fsspec filesystem, such as anon=true or "
        "endpoint_url=https://...",
        "--storage-option", panel=REMOTE, metavar="NAME=VALUE", kind=list[str] | None,
        parse=values.mapping, affects_file=False, secret=True,
        more="Configure keys and passwords where the filesystem's package looks for them rather "
        "than here.",
    )  # fmt: skip
    target_storage_options: Mapping[str, Any] | None = _option(
        None, "The same for the target; default: as for the source.",
        "--target-storage-option", panel=REMOTE, metavar="NAME=VALUE", kind=list[str] | None,
        parse=values.mapping, affects_file=False, secret=True,
    )  # fmt: skip

    @property
    def workers(self) -> int:
        """Threads for each file."""
        from bfbridge.engine.workers import available_cpus

        return available_cpus() if self.max_workers is None else self.max_workers

    @property
    def lower_levels(self) -> Pyramid:
        """Lower levels, of a format that has them."""
        return True if self.pyramid is None else self.pyramid

    @property
    def memory_bytes(self) -> int:
        """Bytes of pixels held at once for each file."""
        return self.workers * MEMORY_PER_WORKER if self.memory is None else self.memory

    @property
    def source_storage(self) -> Mapping[str, Any]:
        """Storage options of sources at URLs."""
        return self.reader_options.get("storage_options") or self.storage_options

    @property
    def target_storage(self) -> Mapping[str, Any]:
        """Storage options of a target at a URL."""
        own = self.target_storage_options
        return self.storage_options if own is None else own

    @property
    def reader_arguments(self) -> dict[str, Any]:
        """Keyword arguments of `BioReader` beside its backend and workers."""
        storage = self.source_storage
        return {**self.reader_options, **({"storage_options": storage} if storage else {})}

    @property
    def fingerprint(self) -> str:
        """A digest of the options that change the new files."""
        used = {f.name: getattr(self, f.name) for f in fields(self) if option_of(f).affects_file}
        # Credentials expire, and are kept out of reports.
        used["reader_options"] = {
            name: value for name, value in self.reader_options.items() if name != "storage_options"
        }
        text = json.dumps(used, sort_keys=True, default=_plain)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def describe(self) -> dict[str, Any]:
        """Return the options as plain data for a report; of credentials only the names."""
        return {
            f.name: sorted(getattr(self, f.name) or ())
            if option_of(f).secret
            else getattr(self, f.name)
            for f in fields(self)
        }

    def for_writer(self, writer: type[WriterBackend], target: str) -> ConvertOptions:
        """Return the options with `target_options` in the form that a writer backend takes.

        Raises
        ------
        BadArgument
            The writer does not have the option, or does not accept its value.
        """
        if writer.option_names:
            mine = [f.name for kind in (ConvertOptions, RunOptions) for f in fields(kind)]
            # The writer itself explains what it does not support of the common options.
            known = [*writer.option_names, *TARGET_OPTIONS]
            refuse_unknown(self.target_options, known, writer.name, mine)
        given = {name: v for name, v in self.target_options.items() if v is not None}
        pyramid = self.pyramid
        if pyramid is None and not writer.supports_levels(target):
            pyramid = False
        return replace(self, target_options=writer.normalize_options(given), pyramid=pyramid)


@dataclass(frozen=True, kw_only=True)
class RunOptions(_Checked):
    """Which files are converted, where the results go, and in which processes."""

    overwrite: bool = _option(
        False, "Replace files that exist.", "--overwrite", panel=OUTPUT, kind=bool,
        parse=values.switch,
    )  # fmt: skip
    resume: bool = _option(
        False, "Continue an earlier run: keep files that are complete and unchanged.",
        "--resume", panel=RUN, kind=bool, parse=values.switch,
        more="The reports in the target folder say which files these are; those of ``part`` are "
        "included.",
    )  # fmt: skip
    suffix: str = _option(
        ".ome.tif", "Suffix of new files in a folder, which selects the format.",
        "--suffix", panel=OUTPUT, metavar="SUFFIX", kind=str, parse=values.parse_suffix,
        more="Such as .ome.tif or .ome.zarr.",
    )  # fmt: skip
    pattern: str | None = _option(
        None, "File pattern that names in searched folders must match.", "--pattern",
        panel=SOURCES, metavar="PATTERN",
    )  # fmt: skip
    recursive: bool = _option(
        True, "Search folders inside folders; default: yes.", "--recursive/--no-recursive",
        panel=SOURCES, kind=bool, parse=values.switch,
    )  # fmt: skip
    group: bool = _option(
        True, "Convert files that belong to one data set once; default: yes.", "--group/--nogroup",
        panel=SOURCES, kind=bool, parse=values.switch,
    )  # fmt: skip
    jobs: int = _option(
        1, "Processes; they are started if one process leaves CPUs idle.", "--jobs", "-j",
        panel=RUN, metavar="N", kind=int, least=1, parse=values.number_from(1),
        more="They share the memory and the threads.",
    )  # fmt: skip
    part: tuple[int, int] | None = _option(
        None, "Convert part I of N; slurm: that of this task.", "--part",
        "--slurm-array", panel=RUN, metavar="I/N", parse=values.parse_part,
        more="For schedulers that run N such commands. In a task of a Slurm job array, ``slurm`` "
        "is the part of its ``SLURM_ARRAY_TASK_ID``. `bfbridge.convert.merge_reports` (``bfbridge "
        "report``) makes one report of those of all parts.",
    )  # fmt: skip
    report: Any = _option(
        None, "Path of the JSON report; default: in the folder of a batch, none for one file.",
        "--report", panel=OUTPUT, metavar="PATH",
        more="Records of complete files in an earlier report of that name are kept.",
    )  # fmt: skip
    client: Any = _option(
        None, "A ``distributed.Client``: files, or the regions of one large file, are converted "
        "on its workers, which must see the same paths.", parse=values.object_with("submit"),
    )  # fmt: skip
    progress: Any = _option(
        None, "Called with (bytes of pixels done, bytes in all) of a file, from any thread.",
        parse=values.object_with("__call__"),
    )  # fmt: skip
    watcher: Any = _option(
        None, "A `bfbridge.convert.Watcher`, which is notified of the progress of a batch.",
        parse=values.object_with("begin"),
    )  # fmt: skip


TARGET_OPTIONS: Mapping[str, Option] = {
    "compression": Option(
        "Compression such as zstd, deflate, none; zstd:5 includes the level.",
        flags=("--compression", "-c"), panel=OUTPUT, metavar="CODEC",
    ),
    "level": Option(
        "Level of the compression.", flags=("--level",), panel=OUTPUT, metavar="N", kind=int | None,
    ),
    "chunks": Option(
        "Chunk size: a number for Y and X, or one number for each of the last axes of T, C, Z, Y, "
        "X.", panel=OUTPUT,
    ),
    "tile": Option(
        "Side of the stored tiles or chunks, in pixels.", flags=("--tile",), panel=OUTPUT,
        metavar="N", kind=int | None, least=1, more="Also (height, width).",
    ),
    "shards": Option(
        "Side of the shards, in formats that have them.", flags=("--shards",), panel=OUTPUT,
        metavar="N", kind=int | None, least=1,
        more="Also one number for each axis, as for ``chunks``.",
    ),
    "version": Option(
        "Version of the NGFF specification: 0.4 or 0.5.", flags=("--ngff-version",),
        panel=OUTPUT, metavar="VERSION",
    ),
    "hcs": Option(
        "Write images of wells as a plate; default: if they are of several wells.",
        flags=("--hcs/--no-hcs",), panel=OUTPUT, kind=bool | None,
    ),
}  # fmt: skip


def read_options(given: Mapping[str, Any]) -> tuple[ConvertOptions, RunOptions]:
    """Return the checked keyword arguments of `convert`.

    Names that are not fields go to `ConvertOptions.target_options`; the writer backend checks
    them, see `ConvertOptions.for_writer`.

    Raises
    ------
    BadArgument
        A value is invalid.
    """
    given = _renamed(given)
    mine = {f.name: given.pop(f.name) for f in fields(ConvertOptions) if f.name in given}
    run = {f.name: given.pop(f.name) for f in fields(RunOptions) if f.name in given}
    more = values.mapping(mine.pop("target_options", None) or {}, "target_options")
    return ConvertOptions(**mine, target_options={**more, **given}), RunOptions(**run)


def _renamed(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return options by their present names, with a warning for old ones."""
    new = dict(given)
    compressed = new.get("compression") is not None
    strength = new.pop("compression_level", None)
    if strength is not None:
        _warn("compression_level= is an old name of level=.")
        compressed = False
    if new.get("level") is not None and not compressed:
        level = new.pop("level")
        if new.get("source_level") or not isinstance(level, Integral):
            raise BadArgument(
                f"level={level!r} is the level of a compression: give compression= too. The "
                "resolution level of the source is source_level=."
            )
        _warn("level= without compression= is an old name of source_level=.")
        new["source_level"] = level
    if strength is not None:
        new["level"] = strength
    return new


def _warn(message: str) -> None:
    """Warn of an old name in the code that called the library."""
    frame, depth = sys._getframe(), 1
    while frame.f_back is not None and frame.f_globals["__name__"].startswith("bfbridge."):
        frame, depth = frame.f_back, depth + 1
    warnings.warn(message, DeprecationWarning, stacklevel=depth)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _declared() -> Iterator[tuple[str, Any, Option]]:
    """Yield the name, default and description of every option that `convert` documents."""
    for kind in (ConvertOptions, RunOptions):
        for declared in fields(kind):
            if declared.name not in ("names", "target_options"):
                made = declared.default is MISSING
                yield declared.name, None if made else declared.default, option_of(declared)
    for name, option in TARGET_OPTIONS.items():
        yield name, None, option


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """Return a function's signature with the options in place of its ``**options``."""
    plain = inspect.signature(function)
    own = [p for p in plain.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
        for name, default, _ in _declared()
    ]
    rest = inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD)
    return plain.replace(parameters=[*own, *options, rest])


def describe_parameters() -> str:
    """Return the options as a section of a numpy docstring, indented by four spaces."""
    lines = []
    for name, _, option in _declared():
        text = f"{option.help} {option.more}".strip()
        lines.append(f"    {name}\n        {text}")
    return "\n".join(lines)
