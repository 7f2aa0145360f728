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
from dataclasses import MISSING, dataclass, fields, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any

from bfbridge.convert import option_values as values
from bfbridge.convert.option_kinds import (
    ADVANCED,
    OUTPUT,
    PANELS,
    PIXELS,
    REMOTE,
    RUN,
    SELECTION,
    SOURCES,
    TARGET_OPTIONS,
    Option,
    option_of,
)
from bfbridge.convert.option_kinds import declare as _option
from bfbridge.errors import BadArgument, Unsupported
from bfbridge.runtime.cached_property import cached_property
from bfbridge.runtime.writer_options import refuse_unknown

if TYPE_CHECKING:
    from bfbridge.backend import Quantity, WriterBackend
    from bfbridge.engine.pyramid import LevelPlan, Pyramid
    from bfbridge.files.rearranged import Changes

__all__ = [
    "ADVANCED",
    "MEMORY_PER_WORKER",
    "OUTPUT",
    "PANELS",
    "RUN",
    "SOURCES",
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


class _Checked:
    """Parses the values of a dataclass's fields with the functions of their options."""

    def __post_init__(self) -> None:
        for declared in fields(self):  # type: ignore[arg-type] # subclasses are dataclasses
            parse, value = option_of(declared).parse, getattr(self, declared.name)
            if value is None and declared.default_factory is not MISSING:
                object.__setattr__(self, declared.name, declared.default_factory())
            elif parse is not None and (value is not None or declared.default is not None):
                object.__setattr__(self, declared.name, parse(value, declared.name))


@dataclass(frozen=True, kw_only=True)
class ConvertOptions(_Checked):
    """Options of a conversion, the same for every file of a batch."""

    series: int | str | Sequence[int | str] | None = _option(
        None, "Images: numbers (0,2) or a name; default: all, in one file.",
        "--series", "-s", panel=SELECTION, metavar="NAME", kind=list[str] | None,
        parse=values.parse_series, more="Also a list of numbers and names.",
    )  # fmt: skip
    source_level: int = _option(
        0, "Resolution level; 0 is full size.",
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
    swap: tuple[str, ...] = _option(
        tuple, "Exchange the meanings of two axes of Z, C, T: zt; or of several pairs: zt,zc.",
        "--swap", panel=SELECTION, metavar="AXES", parse=values.parse_swap,
        more="Other options use the new axes. The spacing of an exchanged axis is dropped, and so "
        "are channel names if C is exchanged.",
    )  # fmt: skip
    stitch: str | None = _option(
        None, "Fuse the fields of each well or the tiles of each scene; where fields overlap: "
        "last, mean or max.", "--stitch", panel=SELECTION, metavar="OVERLAP",
        parse=values.parse_stitch,
        more="They are placed at their stage positions. True is the same as \"last\". Without a "
        "plate or scenes, all images of the same size and type are fields of one image.",
    )  # fmt: skip
    position_unit: str | None = _option(
        None, "Unit of stage positions whose unit the file does not know (reference frame): um.",
        "--position-unit", panel=PIXELS, metavar="UNIT", parse=values.parse_length,
    )  # fmt: skip
    flip_stage: str = _option(
        "", "Axes along which the stage runs against the pixels, for --stitch: y, x or xy.",
        "--flip-stage", panel=SELECTION, metavar="AXES", kind=str, parse=values.parse_flip,
        more="OME does not define the directions of the stage; where rows of fields are in reverse "
        "order, give y.",
    )  # fmt: skip
    autostitch: bool | None = _option(
        None, "Whether the tiles of a CZI mosaic are one image; default: as in the file.",
        "--autostitch/--no-autostitch", panel=SELECTION, kind=bool | None, parse=values.switch,
        more="Bio-Formats' option zeissczi.autostitch.",
    )  # fmt: skip
    split_rgb: bool = _option(
        False, "Write the samples of RGB images as separate channels.", "--split-rgb",
        panel=SELECTION, kind=bool, parse=values.switch,
    )  # fmt: skip
    merge_channels: bool = _option(
        False, "Write each three channels as red, green and blue of one RGB channel.",
        "--merge-channels", "--rgb", panel=SELECTION, kind=bool, parse=values.switch,
    )  # fmt: skip
    project: tuple[str, str] | None = _option(
        None, "Project along an axis: max, min or mean; z, c or t.", "--project",
        panel=SELECTION, metavar="METHOD AXIS", kind=tuple[str, str] | None,
        parse=values.parse_project, more='A pair such as ("max", "z").',
    )  # fmt: skip
    split: tuple[str, ...] = _option(
        tuple, "Write a file for each position: some of series,c,t,z.",
        "--split", panel=SELECTION, metavar="AXES", parse=values.parse_split,
        more="The files are named ``<base>[_c0][_t0][_z0][_s0]<suffix>``; axes of length 1 are "
        "omitted from the name.",
    )  # fmt: skip
    padded: bool = _option(
        False, "Fill the numbers in names of new files with zeros: _t007.", "--padded",
        panel=OUTPUT, kind=bool, parse=values.switch,
        more="To the digits of the largest number of the axis.",
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
    pixel_size: tuple[Quantity | None, Quantity | None, Quantity | None] | None = _option(
        None, "Pixel size of the new images along X, Y, Z: 0.325,0.325,1um; without unit, µm.",
        "--pixel-size", panel=PIXELS, metavar="X,Y[,Z]", parse=values.parse_pixel_size,
        more="Also a tuple of numbers, of (number, unit), or of None for axes that are kept.",
    )  # fmt: skip
    time_step: Quantity | None = _option(
        None, "Time between two time points: 5min, 250ms; without unit, seconds.",
        "--time-step", panel=PIXELS, metavar="TIME", parse=values.parse_time_step,
        more="Also a number or (number, unit).",
    )  # fmt: skip
    name: tuple[str, ...] | None = _option(
        None, "Name of the new image; once for each image.", "--name", panel=PIXELS,
        metavar="NAME", kind=list[str] | None, parse=values.parse_names,
        more="A text, or a list with one for each image.",
    )  # fmt: skip
    channel_names: tuple[str, ...] | None = _option(
        None, "Channel names: DAPI,GFP; or once for each channel.", "--channel-name",
        panel=PIXELS, metavar="NAMES", kind=list[str] | None, parse=values.parse_channel_names,
        more="A list with one for each channel that is converted.",
    )  # fmt: skip
    channel_colors: tuple[tuple[int, int, int], ...] | None = _option(
        None, "Colours of the channels: 0000FF,lime; or once for each channel.",
        "--channel-color", panel=PIXELS, metavar="COLORS", kind=list[str] | None,
        parse=values.parse_colors,
        more="A list with a hexadecimal number, a CSS name, or (red, green, blue) from 0 to 255 "
        "for each channel that is converted.",
    )  # fmt: skip
    fill_value: float = _option(
        0, "Value of pixels that no file has, such as gaps between stitched fields; default: 0.",
        "--fill-value", panel=PIXELS, metavar="VALUE", kind=float, parse=values.parse_number,
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
    factors: tuple[Any, ...] | None = _option(
        None, "Factors of the lower levels against full size: 2,4,8 or, along Z, Y, X, "
        "1x2x2,2x4x4.", "--factors", panel=OUTPUT, metavar="LIST", parse=values.parse_factors,
        more="Also a list of numbers and (z, y, x); the same as a list for ``pyramid``.",
    )  # fmt: skip
    downsample_z: str | None = _option(
        None, "Reduce lower levels along Z too: none, 2, or auto (nearly isotropic first).",
        "--downsample-z", panel=OUTPUT, metavar="RULE", parse=values.parse_downsample_z,
        more='For OME-Zarr. "auto" halves the axes with the finest spacing, until the spacings are '
        "nearly equal, and then all; it needs pixel sizes along X and Z.",
    )  # fmt: skip
    smallest: int | None = _option(
        None, "Halve until both sides are at most this many pixels; default: 512.",
        "--smallest", "--target-min-size", panel=OUTPUT, metavar="N", kind=int | None, least=1,
        parse=values.number_from(1),
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
    compare_metadata: bool | None = _option(
        None, "List in the report which metadata the new file could not keep; default: if there is "
        "a report.", "--compare-metadata/--no-compare-metadata", panel=RUN, kind=bool | None,
        parse=values.switch, affects_file=False,
        more="The new file is opened again, and its OME metadata are compared with the source's.",
    )  # fmt: skip
    certify: bool = _option(
        False, "Write an RO-Crate beside the new file: hashes, pixel checksums, versions.",
        "--certify", panel=RUN, kind=bool, parse=values.switch, affects_file=False,
        more="The folder ``<target>.crate``; `bfbridge.curation.verify_crate` (``bfbridge "
        "verify``) compares it with the files. Source and target are files or folders on a disk.",
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
        None, "Memory for pixels: 512M, 2G; default: 128M for each thread.",
        "--memory", panel=RUN, metavar="SIZE", parse=values.parse_size, affects_file=False,
        more="A number is in bytes.",
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
        if self.factors is not None:
            return self.factors
        return True if self.pyramid is None else self.pyramid

    @property
    def levels(self) -> LevelPlan:
        """Which lower levels the images get."""
        from bfbridge.engine.pyramid import level_plan

        return level_plan(self.lower_levels, self.downsample_z, self.smallest)

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

    # Cached, because every file of a batch asks for these.
    @cached_property
    def reader_arguments(self) -> dict[str, Any]:
        """Keyword arguments of `BioReader` beside its backend and workers."""
        storage = self.source_storage
        found = {**self.reader_options, **({"storage_options": storage} if storage else {})}
        if self.autostitch is not None:
            own = dict(found.get("options") or {})
            found["options"] = {**own, "zeissczi.autostitch": self.autostitch}
        return found

    @cached_property
    def changes(self) -> Changes:
        """How the images of a source are rearranged before the other options apply."""
        from bfbridge.files.rearranged import Changes

        return Changes(
            position_unit=self.position_unit, flip_stage=self.flip_stage,
            stitch=self.stitch, fill_value=self.fill_value, swap=self.swap,
            split_rgb=self.split_rgb, merge_channels=self.merge_channels, project=self.project,
        )  # fmt: skip

    def rearranged(self, source: Any) -> Any:
        """Return a source with the changes of its images, for `BioReader`."""
        from bfbridge.files.rearranged import Rearranged

        changes = self.changes
        return Rearranged(source, changes) if changes else source

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the options that change the new files."""
        used = {f.name: getattr(self, f.name) for f in fields(self) if option_of(f).affects_file}
        # Credentials expire, and are kept out of reports. The index changes no pixels.
        used["reader_options"] = {
            name: value
            for name, value in self.reader_options.items()
            if name not in ("storage_options", "index")
        }
        text = json.dumps(_plain(used), sort_keys=True)
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
        _ = self.changes
        pyramid = self.pyramid
        if self.factors is not None and pyramid is not None:
            raise BadArgument("factors= and pyramid= both describe the levels: leave out one.")
        asked = (self.factors, self.downsample_z, self.smallest)
        if pyramid is None and not writer.supports_levels(target):
            if asked != (None, None, None):
                raise Unsupported(
                    f"{target}: this format has no lower levels, so factors=, downsample_z= and "
                    "smallest= cannot apply. Write .ome.zarr or .ome.tif."
                )
            pyramid = False
        if pyramid is not False:
            _ = self.levels
        return replace(self, target_options=writer.normalize_options(given), pyramid=pyramid)


@dataclass(frozen=True, kw_only=True)
class RunOptions(_Checked):
    """Which files are converted, where the results go, and in which processes."""

    overwrite: bool = _option(
        False, "Replace files that exist.", "--overwrite", panel=OUTPUT, kind=bool,
        parse=values.switch,
    )  # fmt: skip
    resume: bool = _option(
        False, "Continue an earlier run: keep complete, unchanged files.",
        "--resume", panel=RUN, kind=bool, parse=values.switch,
        more="The reports in the target folder say which files these are; those of ``part`` are "
        "included.",
    )  # fmt: skip
    suffix: str = _option(
        ".ome.tif", "Suffix of new files in a folder, which selects the format.",
        "--suffix", panel=OUTPUT, metavar="SUFFIX", kind=str, parse=values.parse_suffix,
        more="Such as .ome.tif or .ome.zarr.",
    )  # fmt: skip
    table: Any = _option(
        None, "CSV or JSON file with options for single files: a column 'source', and others named "
        "as options.", "--table", panel=SOURCES, metavar="PATH",
        more="Also a list of mappings. An empty cell is an option that is not given. Names are "
        "those of the parameters or of the command line; options of the whole run, ``split`` and "
        "``target_backend`` are excluded.",
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
    omero_csv: Any = _option(
        None, "Write target, name and path of each new file for `omero import --bulk`.",
        "--omero-csv", panel=OUTPUT, metavar="FILE", parse=values.parse_csv_path,
        more="The settings for ``--bulk`` are written beside it, in a file of that name with the "
        "suffix .yml. Files that are complete from earlier runs are listed too.",
    )  # fmt: skip
    client: Any = _option(
        None, "A ``distributed.Client``: files, or the regions of one large file, are converted "
        "on its workers, which must see the same paths.", parse=values.object_with("submit"),
    )  # fmt: skip
    progress: Any = _option(
        None, "Called with (bytes of pixels done, bytes in all) of a file, from any thread.",
        more="If it raises `KeyboardInterrupt`, the conversion ends, and unfinished files are "
        "removed.",
        parse=values.object_with("__call__"),
    )  # fmt: skip
    watcher: Any = _option(
        None, "A `bfbridge.convert.Watcher`, which is notified of the progress of a batch.",
        more="If one of its methods raises `KeyboardInterrupt`, the run ends like by Ctrl-C: "
        "complete files are kept, unfinished ones are removed.",
        parse=values.object_with("begin"),
    )  # fmt: skip


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
    """Return a value as JSON data; keys and objects that JSON does not have become text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return _plain(value.tolist()) if hasattr(value, "tolist") else str(value)


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
    """Return the options as lines of a section of a numpy docstring."""
    lines = []
    for name, _, option in _declared():
        text = f"{option.help} {option.more}".strip()
        lines.append(f"{name}\n    {text}")
    return "\n".join(lines)
