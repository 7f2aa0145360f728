"""Conversion: any image to OME-TIFF, OME-Zarr or another format, one file or a great many.

>>> import bfbridge
>>> bfbridge.convert("cells.czi", "cells.ome.zarr", verify=True)        # doctest: +SKIP
>>> bfbridge.convert("plates/", "out/", suffix=".ome.zarr", jobs=4)     # doctest: +SKIP
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from bfbridge.convert.copy.source import Progress, convert_file
from bfbridge.convert.copy.target_options import holds_levels, options_for
from bfbridge.convert.execute.batch import parse_part, plan_jobs, run_batch
from bfbridge.convert.execute.run import Watcher, note_warnings
from bfbridge.convert.locations import Place, Url, check_working_folder, identity, place_of
from bfbridge.convert.plan.checks import check_call, check_wanted
from bfbridge.convert.plan.naming import axes_of_pattern, is_name_pattern
from bfbridge.convert.plan.request import SPLITS, Request, parse_crop, parse_size, parse_split
from bfbridge.convert.plan.sources import Scan, Skipped, find_sources, is_one_image, name_targets
from bfbridge.convert.reports.history import read_history
from bfbridge.convert.reports.record import FileRecord, now, reason_of
from bfbridge.convert.reports.writer import Report, report_path
from bfbridge.errors import (
    BadArgument,
    BatchFailed,
    BfbridgeError,
    FileMissing,
    TargetExists,
    Unsupported,
)
from bfbridge.registry import writer_for

__all__ = [
    "BatchFailed",
    "Conversion",
    "Watcher",
    "convert",
    "convert_many",
    "is_batch",
    "make_request",
]


@dataclass(frozen=True)
class Conversion:
    """What a conversion did.

    Attributes
    ----------
    source, target
        Where from and where to; of a batch, the first source and the folder.
    images
        How many images were written; those of files that were kept do not count.
    pixel_bytes
        Bytes of decoded pixels written, lower levels and kept files not counted.
    seconds
        Wall time.
    files
        A record for each source.
    report
        Path of the JSON report, or None.
    skipped
        Files of searched folders that were not converted, with the reason.
    search_seconds
        Wall time of the search of a batch, which is part of `seconds`.
    """

    source: str
    target: str
    images: int
    pixel_bytes: int
    seconds: float
    files: tuple[FileRecord, ...] = ()
    report: Place | None = None
    skipped: dict[str, str] = field(default_factory=dict)
    search_seconds: float = 0.0

    @property
    def failed(self) -> list[FileRecord]:
        """Records of the sources that failed."""
        return [record for record in self.files if record.status == "failed"]


def make_request(**wanted: Any) -> Request:
    """Read the arguments of `convert` that say how, as text or as values.

    Raises
    ------
    BadArgument
        One of them makes no sense.
    """
    check_wanted(wanted)
    if isinstance(wanted.get("series"), np.integer):
        wanted["series"] = int(wanted["series"])
    for name, parse in (("crop", parse_crop), ("memory", parse_size), ("split", parse_split)):
        wanted[name] = parse(wanted.get(name))
    workers = wanted.get("max_workers")
    if workers is not None and (not isinstance(workers, int) or workers < 1):
        raise BadArgument(f"max_workers={workers!r}: give a number of threads, 1 or more.")
    level = wanted.get("level", 0)
    if isinstance(level, bool) or not isinstance(level, int) or level < 0:
        raise BadArgument(
            f"level={level!r}: the resolution of the source, 0 or more. The strength of a "
            "compression is compression_level, or part of it: compression='zstd:5'."
        )
    storage = dict(wanted.get("storage_options") or {})
    own = wanted.pop("target_storage_options", None)
    wanted["reader_options"] = dict(wanted.get("reader_options") or {})
    if storage:
        wanted["reader_options"].setdefault("storage_options", storage)
    wanted["storage_options"] = storage if own is None else dict(own)
    return Request(**wanted)


def convert(
    source: Any,
    target: str | os.PathLike[str],
    *,
    series: int | str | Sequence[int | str] | None = None,
    level: int = 0,
    channels: Any = None,
    z: Any = None,
    t: Any = None,
    crop: str | Sequence[int] | None = None,
    dtype: Any = None,
    scaling: Any = None,
    split: str | Sequence[str] | None = None,
    pyramid: bool | int | Sequence[int] | None = None,
    downsample: str = "mean",
    verify: bool = False,
    checksum: bool = True,
    original_metadata: bool = False,
    strict_metadata: bool = False,
    recompress: bool = False,
    max_workers: int | None = None,
    memory: int | str | None = None,
    durable: bool = False,
    backend: str | None = None,
    target_backend: str | None = None,
    reader_options: dict[str, Any] | None = None,
    storage_options: dict[str, Any] | None = None,
    target_storage_options: dict[str, Any] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    report: str | os.PathLike[str] | None = None,
    suffix: str = ".ome.tif",
    pattern: str | None = None,
    recursive: bool = True,
    group: bool = True,
    resume: bool = False,
    jobs: int = 1,
    part: str | tuple[int, int] | None = None,
    client: Any = None,
    watcher: Watcher | None = None,
    **options: Any,
) -> Conversion:
    """Convert one image, or many.

    Parameters
    ----------
    source
        Whatever `BioReader` takes; or a folder, a glob, a file pattern, or a list of these, for a
        batch. At a URL, a folder ends with a slash.
    target
        The new file, whose suffix chooses the format; for a batch, the folder of the new files.
        OME-Zarr is also written to URLs that fsspec understands.
        The name may be a pattern as bfconvert has them, which makes several files:
        "%n_%c.ome.tif"; see `bfbridge.convert.plan.naming`.
    series
        Number or name of one image, or several. Default: all, into one file.
    level
        Resolution of the source that is read; 0 is full size.
    channels, z, t
        Positions: numbers, slices, lists, or text such as "0:10:2,15". Channels also by name.
    crop
        x, y, width, height in pixels of `level`.
    dtype, scaling
        Type of the new pixels. Where values would be lost the rule must be stated: "clip", "full"
        (range to range), "minmax", or (low, high).
    split
        Some of "series", "c", "t", "z": each position becomes a file of its own, named
        ``<base>[_c0][_t0][_z0][_s0]<suffix>``, a part only where there is more than one.
    pyramid, downsample
        Lower levels, as `BioWriter` has them. Default: halving until both sides are at most 512, in
        formats that hold levels.
    verify
        Read source and target again, and compare every pixel.
    checksum
        Note a checksum of the pixels in the report.
    original_metadata
        Add the format's own metadata to the new file, as annotations.
    strict_metadata
        Refuse sources whose metadata break the OME schema. Default: what is optional and wrong is
        left out, with a warning in the log and in the report.
    recompress
        Decode and encode anew even where encoded tiles could be copied.
    max_workers
        Threads. Default: the CPUs this process may use.
    memory
        Bytes of pixels held at once ("512M"). Default: 128 MiB for each thread.
    durable
        Return only when the new files would survive a power loss.
    backend, target_backend
        Backend that reads, and backend that writes. Default: chosen by content and by suffix.
    reader_options
        More keyword arguments of `BioReader`.
    storage_options
        For URLs: what their fsspec filesystems are made with.
    target_storage_options
        The same for the target alone, where it differs.
    overwrite
        Whether files that exist may be replaced.
    progress
        Called with (bytes of pixels done, bytes in all) of a file, from any thread.
    report
        Where the JSON report goes. Default: into the folder of a batch; none for one file. What an
        earlier report there says of files that are complete is kept.
    suffix, pattern, recursive, group, resume, jobs, part, client, watcher
        For a batch: see `convert_many`.
    **options
        Of the target: compression ("zstd", "zstd:5"), compression_level, tile, chunks, shards,
        version, predictor, bigtiff, hcs (whether OME-Zarr becomes a plate; by default for images
        of several wells), ...

    Returns
    -------
    Conversion
        What was done.

    Raises
    ------
    BfbridgeError
        Reading or writing failed; the target's name holds what it held before.
    BatchFailed
        Some files of a batch failed. The others are done; ``error.conversion`` has them all.
    """
    functions = {
        "progress": (progress, "__call__"), "client": (client, "submit"),
        "watcher": (watcher, "begin"),
    }  # fmt: skip
    check_call(
        source, target, functions, overwrite=overwrite, recursive=recursive, group=group,
        resume=resume,
    )  # fmt: skip
    request = make_request(
        series=series, level=level, channels=channels, z=z, t=t, crop=crop, dtype=dtype,
        scaling=scaling, split=split, pyramid=pyramid, downsample=downsample, verify=verify,
        checksum=checksum, original_metadata=original_metadata, strict_metadata=strict_metadata,
        recompress=recompress, max_workers=max_workers, memory=memory, durable=durable,
        backend=backend, target_backend=target_backend, reader_options=reader_options,
        storage_options=storage_options, target_storage_options=target_storage_options,
        options=options,
    )  # fmt: skip
    _refuse_private(target, jobs, client)
    check_working_folder(target)
    if not is_batch(source, target):
        if isinstance(source, (str, os.PathLike)):
            check_working_folder(source)
        if watcher is not None and progress is None:
            progress = _watched(watcher, source)
        request = _with_names(request, os.fspath(target))
        work: Callable[..., FileRecord] = convert_file
        if client is not None:
            from bfbridge.convert.execute.regions import convert_on_cluster

            work = partial(convert_on_cluster, client=client)
        told = {"overwrite": overwrite, "resume": resume, "progress": progress}
        return _convert_one(source, target, request, partial(work, **told), report)
    if is_name_pattern(place_of(target).name):
        raise BadArgument(
            f"{target}: a pattern of names is for one source. Give a batch a folder; its files are "
            "named after their sources, and split= (--split) adds numbers."
        )
    if progress is not None and watcher is None:
        watcher = _ProgressOf(progress)
    done = convert_many(
        source, target, request, overwrite=overwrite, report=report, suffix=suffix,
        pattern=pattern, recursive=recursive, group=group, resume=resume, jobs=jobs, part=part,
        client=client, watcher=watcher,
    )  # fmt: skip
    if done.failed:
        raise BatchFailed(_failure(done), done)
    return done


def _watched(watcher: Watcher, source: Any) -> Progress:
    """Return what tells a watcher of the one file there is."""
    watcher.begin(1)
    watcher.started(0, Path(str(source)).name)
    return lambda done, total: watcher.moved(0, done, total)


def is_batch(source: Any, target: str | os.PathLike[str]) -> bool:
    """Tell whether new files go into a folder rather than under one name."""
    if isinstance(source, (list, tuple)):
        return True
    if not isinstance(source, (str, os.PathLike)):
        return False
    if not is_one_image(os.fspath(source)):
        return True
    name = os.fspath(target)
    if name.endswith(("/", os.sep)):
        return True
    place = place_of(name)
    if isinstance(place, Url):
        return "." not in place.name
    return not place.suffix or (place.is_dir() and place.suffix.lower() != ".zarr")


def _refuse_private(target: str | os.PathLike[str], jobs: int, client: Any) -> None:
    """Refuse a target in this process's memory that other processes would write."""
    if os.fspath(target).startswith("memory:") and (jobs > 1 or client is not None):
        raise BadArgument(
            f"{target}: this is the memory of one process, and other processes have their own. "
            "Convert with jobs=1, and without client=."
        )


def _convert_one(
    source: Any,
    target: str | os.PathLike[str],
    request: Request,
    work: Callable[..., FileRecord],
    report: str | os.PathLike[str] | None,
) -> Conversion:
    """Have one source converted, and report it whether that fails or not."""
    request = _with_options(request, os.fspath(target))
    kept = None
    if report is not None:
        place, storage = place_of(report), request.storage_options
        kept = Report(place, _told(request), storage, read_history(place, None, storage).own)
    try:
        record = work(source, target, request)
    except Exception as error:
        if kept is not None:
            name = str(getattr(source, "name", source))
            record = FileRecord(name, os.fspath(target), error=reason_of(error), ended=now())
            record.error_type = type(error).__name__
            kept.files.append(record)
            # What went wrong first is what is told.
            with suppress(BfbridgeError):
                kept.finish()
        raise
    note_warnings(record)
    if kept is not None:
        kept.files.append(record)
        kept.finish()
    return _summary(
        [record], os.fspath(target), record.seconds, None if kept is None else kept.path
    )


def _with_options(request: Request, target: str) -> Request:
    backend = request.target_backend
    options = options_for(target, backend, request.options)
    if request.pyramid is None and not holds_levels(target, backend):
        request = replace(request, pyramid=False)
    return replace(request, options=options)


def _with_names(request: Request, target: str) -> Request:
    """Read the target's name as a pattern, if it is one."""
    name = place_of(target).name
    if not is_name_pattern(name):
        return request
    axes = {*request.split, *axes_of_pattern(name)}
    return replace(request, names=name, split=tuple(axis for axis in SPLITS if axis in axes))


def _told(request: Request) -> dict[str, Any]:
    # Storage options hold credentials, and things that cannot be copied.
    told = asdict(replace(request, reader_options={}, storage_options={}))
    told["reader_options"] = sorted(request.reader_options)
    told["storage_options"] = sorted(request.storage_options)
    return told


def _summary(
    files: Sequence[FileRecord],
    target: str,
    seconds: float,
    report: Place | None,
    skipped: dict[str, str] | None = None,
) -> Conversion:
    new = [record for record in files if record.status == "done"]
    outputs = [output for record in new for output in record.outputs if not output.kept]
    return Conversion(
        source=files[0].source if files else "",
        target=target,
        images=sum(len(output.images) for output in outputs),
        pixel_bytes=sum(output.pixel_bytes for output in outputs),
        seconds=seconds,
        files=tuple(files),
        report=report,
        skipped=dict(skipped or {}),
    )


def convert_many(
    sources: Any,
    target: str | os.PathLike[str],
    request: Request,
    *,
    overwrite: bool = False,
    report: str | os.PathLike[str] | None = None,
    suffix: str = ".ome.tif",
    pattern: str | None = None,
    recursive: bool = True,
    group: bool = True,
    resume: bool = False,
    jobs: int = 1,
    part: str | tuple[int, int] | None = None,
    client: Any = None,
    watcher: Watcher | None = None,
) -> Conversion:
    """Convert many images into a folder; those that fail are in the result, not raised.

    Parameters
    ----------
    sources
        One or a list of: files, URLs, folders, globs, file patterns.
    target
        The folder, a path or URL; it is made if it does not exist. Folders inside searched folders
        are kept.
    request
        How, from `make_request`.
    overwrite
        Whether files that exist may be replaced.
    report
        Where the JSON report goes. Default: ``bfbridge-report.json`` in the folder.
    suffix
        Of the new files; it chooses the format.
    pattern
        File pattern that names in searched folders must match.
    recursive
        Whether folders inside folders are searched.
    group
        Whether files that belong together are found out and converted once.
    resume
        Whether to continue earlier runs: what their reports in the folder, those of parts among
        them, have as complete and unchanged is kept.
    jobs
        Processes, started where one leaves CPUs idle; the memory is shared out among them. Files
        converted until they are ready are converted in this process.
    part
        "i/n": only every n-th source from the i-th on, for schedulers that run n such commands.
    client
        A Dask client on whose workers the files are converted; their paths are the same there.
    watcher
        Is told how it goes.

    Raises
    ------
    BadArgument
        An option makes no sense, or no backend writes `suffix`.
    TargetExists
        The target is a file.
    Unsupported
        The target is a URL, and what writes `suffix` writes to disks only.
    FileMissing
        A source does not exist, or matches nothing.
    """
    begun = time.perf_counter()
    folder = place_of(target)
    chosen = parse_part(part)
    _check_folder(folder, suffix, request)
    request = _with_options(request, f"x{suffix}")
    if jobs < 1:
        raise BadArgument(f"jobs={jobs}: give a number of processes, 1 or more.")
    listed = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
    watcher = watcher or Watcher()
    place = place_of(report) if report else report_path(folder, chosen)
    history = read_history(place, folder, request.storage_options)
    made = {identity(target) for target in history.targets if target.endswith(suffix)}
    kept = Report(place, _told(request), request.storage_options, history.own)
    skipped = Skipped()
    scan = Scan(request, history.scans)
    found = find_sources(
        [os.fspath(source) for source in listed], request, pattern=pattern, recursive=recursive,
        group=group, skipped=skipped, made={identity(folder), *made}, scan=scan,
        looked=watcher.looked,
    )  # fmt: skip
    if not found:
        raise FileMissing(_nothing_found(listed, skipped))
    targets = name_targets(found, folder, suffix, request.split)
    planned = plan_jobs(found, targets, overwrite=overwrite, resume=resume, part=chosen)
    kept.skipped = skipped.reasons
    # One part that keeps what the search found is enough for all.
    kept.scan = scan.as_dict() if scan.is_new or chosen is None else None
    searched = time.perf_counter() - begun
    run_batch(
        planned, request, kept, processes=jobs, client=client, watcher=watcher,
        earlier=history.records if resume else {},
    )  # fmt: skip
    seconds = time.perf_counter() - begun
    done = _summary(kept.files, str(folder), seconds, kept.path, skipped.reasons)
    return replace(done, search_seconds=searched)


def _nothing_found(sources: Sequence[Any], skipped: Skipped) -> str:
    path, reason = next(iter(skipped.reasons.items()), ("", ""))
    more = f" {len(skipped.reasons)} files are none; the first: {path} ({reason})" if path else ""
    return f"{', '.join(map(str, sources))}: there is no image.{more}"


def _check_folder(folder: Place, suffix: str, request: Request) -> None:
    """Refuse a place where no new files of this kind can go."""
    if isinstance(folder, Path) and folder.exists() and not folder.is_dir():
        raise TargetExists(
            f"{folder}: this is a file, and a batch makes a folder. Choose another name, or one "
            "with the suffix of an image for a single source."
        )
    if not suffix.startswith("."):
        raise BadArgument(f"suffix={suffix!r}: give a suffix such as .ome.tif or .ome.zarr.")
    writer = writer_for(f"{folder / '*'}{suffix}", request.target_backend)
    if isinstance(folder, Url) and not writer.at_urls:
        raise Unsupported(
            f"{folder}: suffix={suffix!r} is written to disks only. Give suffix='.ome.zarr' "
            "(--suffix), which is written to URLs as well, or a folder of this machine."
        )


def _failure(done: Conversion) -> str:
    first = done.failed[0]
    return (
        f"{len(done.failed)} of {len(done.files)} files failed; the others are done. The first: "
        f"{first.error} All are in {done.report}."
    )


class _ProgressOf(Watcher):
    """Passes the progress of each file on to a plain function."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def moved(self, number: int, done: int, total: int) -> None:
        self._progress(done, total)


class _Callable(ModuleType):
    """The module, called as the function it is named after.

    ``bfbridge.convert`` is the function until something imports this module by its name; then
    Python puts the module there. Both must work as ``bfbridge.convert(...)``.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Conversion:
        return convert(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
