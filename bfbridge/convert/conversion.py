"""The public functions: `convert` for one source or a batch, `convert_many` for a batch."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bfbridge import registry
from bfbridge.convert.execute.batch import plan_jobs, run_batch
from bfbridge.convert.execute.choose import choose_executor
from bfbridge.convert.execute.jobs import Job
from bfbridge.convert.execute.run import Watcher, note_warnings
from bfbridge.convert.locations import Place, Url, check_working_folder, identity, place_of
from bfbridge.convert.option_values import SPLITS
from bfbridge.convert.options import (
    ConvertOptions,
    RunOptions,
    describe_parameters,
    read_options,
    signature_of,
)
from bfbridge.convert.plan.naming import axes_of_pattern, is_name_pattern
from bfbridge.convert.plan.sources import Scan, Skipped, find_sources, is_one_image, name_targets
from bfbridge.convert.plan.table import read_table
from bfbridge.convert.reports.history import read_history
from bfbridge.convert.reports.record import FileRecord, now, reason_of
from bfbridge.convert.reports.writer import Report, report_path
from bfbridge.errors import (
    BadArgument,
    BatchFailed,
    BfbridgeError,
    FileMissing,
    TargetExists,
)
from bfbridge.storage.source import path_or_url

if TYPE_CHECKING:
    from bfbridge.backend import WriterBackend

__all__ = ["Conversion", "convert", "convert_many", "is_batch"]


@dataclass(frozen=True)
class Conversion:
    """The result of a conversion.

    Attributes
    ----------
    source, target
        The source and the new file; for a batch, the first source and the folder.
    images
        Number of images written, without those of files that were kept.
    pixel_bytes
        Bytes of decoded pixels written, without lower levels and kept files.
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


def convert(source: Any, target: str | os.PathLike[str], **options: Any) -> Conversion:
    """Convert one image, or many.

    Parameters
    ----------
    source
        Any source that `BioReader` takes; or a folder, a glob, a file pattern, or a list of these,
        for a batch. At a URL, a folder ends with a slash.
    target
        The new file, whose suffix chooses the format; for a batch, the folder of the new files.
        OME-Zarr is also written to URLs that fsspec supports. The name may be a pattern in the
        form of bfconvert, such as "%n_%c.ome.tif", which makes several files; see
        `bfbridge.convert.plan.naming`.
    **options
        Further options of the writer backend.

    Returns
    -------
    Conversion
        What was converted.

    Raises
    ------
    BadArgument
        An option does not exist or has an invalid value.
    BfbridgeError
        Reading or writing failed. A file that existed under the target's name is unchanged.
    BatchFailed
        Some files of a batch failed. The others are complete; ``error.conversion`` has them all.
    """
    parsed, run = read_options(options)
    _check_places(source, target)
    _refuse_private(target, run)
    if not is_batch(source, target):
        if isinstance(source, (str, os.PathLike)):
            check_working_folder(source)
        return _convert_one(source, target, parsed, run)
    if is_name_pattern(place_of(target).name):
        raise BadArgument(
            f"{target}: a pattern of names is for one source. Give a batch a folder; its files are "
            "named after their sources, and split= (--split) adds numbers."
        )
    if run.progress is not None and run.watcher is None:
        run = replace(run, watcher=_ProgressOf(run.progress))
    done = _convert_batch(source, target, parsed, run)
    if done.failed:
        raise BatchFailed(_failure(done), done)
    return done


def convert_many(sources: Any, target: str | os.PathLike[str], **options: Any) -> Conversion:
    """Convert many images into a folder; those that fail are in the result, not raised.

    Parameters
    ----------
    sources
        One or a list of: files, URLs, folders, globs, file patterns.
    target
        The folder, a path or URL; it is created if it does not exist. The folders inside searched
        folders are created in it.
    **options
        As for `convert`.

    Raises
    ------
    BadArgument
        An option is invalid, or no backend writes files with ``suffix``.
    TargetExists
        The target is a file.
    Unsupported
        The target is a URL, and the format of ``suffix`` is written to disks only.
    FileMissing
        A source does not exist, or matches nothing.
    """
    parsed, run = read_options(options)
    check_working_folder(target)
    return _convert_batch(sources, target, parsed, run)


def _document(function: Callable[..., Any]) -> None:
    """Put the options into a function's signature and docstring."""
    function.__signature__ = signature_of(function)  # type: ignore[attr-defined]
    if function.__doc__:  # absent with python -OO
        # Python 3.13 and later remove the indentation of docstrings.
        function.__doc__ = inspect.cleandoc(function.__doc__).replace(
            "\n**options\n", f"\n{describe_parameters()}\n**options\n"
        )


_document(convert)


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
    return not place.suffix or (place.is_dir() and not registry.is_folder_format(place.name))


def _check_places(source: Any, target: Any) -> None:
    """Refuse sources and targets that are neither paths nor URLs."""
    path_or_url(target)
    if isinstance(source, (list, tuple)):
        for one in source:
            path_or_url(one)
    check_working_folder(target)


def _refuse_private(target: str | os.PathLike[str], run: RunOptions) -> None:
    """Refuse a target in this process's memory that other processes would write."""
    if os.fspath(target).startswith("memory:") and (run.jobs > 1 or run.client is not None):
        raise BadArgument(
            f"{target}: this is the memory of one process, which other processes cannot write. "
            "Convert with jobs=1, and without client=."
        )


def _convert_one(
    source: Any, target: str | os.PathLike[str], options: ConvertOptions, run: RunOptions
) -> Conversion:
    """Convert one source, and report it whether that fails or not."""
    name = os.fspath(target)
    progress = run.progress
    if run.watcher is not None and progress is None:
        progress = _watched(run.watcher, source)
    options = _with_names(options, name)
    writer = registry.writer_for(name, options.target_backend)
    options = _for_run(options.for_writer(writer, name), run, reported=run.report is not None)
    if run.table is not None:
        (own,) = read_table(run.table).changes([str(source)], options, writer)
        options = replace(options, **own)
    report = _report_of_one(options, run)
    job = Job(source, name, writer, run.overwrite, run.resume)
    try:
        record = choose_executor(run, 1).convert(job, options, progress)
    except Exception as error:
        if report is not None:
            record = FileRecord(
                str(getattr(source, "name", source)), name, error=reason_of(error), ended=now()
            )
            record.error_type = type(error).__name__
            report.files.append(record)
            # The first error is the one that is raised.
            with suppress(BfbridgeError):
                report.finish()
        raise
    note_warnings(record)
    if report is not None:
        report.files.append(record)
        report.finish()
    return _summary([record], name, record.seconds, None if report is None else report.path)


def _for_run(options: ConvertOptions, run: RunOptions, *, reported: bool) -> ConvertOptions:
    """Return options of files with the defaults that depend on those of the run."""
    if options.compare_metadata is None:
        options = replace(options, compare_metadata=reported)
    if not run.group:
        # Files of a set that are converted one by one must also be read one by one.
        options = replace(options, reader_options={"group_files": False, **options.reader_options})
    return options


def _report_of_one(options: ConvertOptions, run: RunOptions) -> Report | None:
    if run.report is None:
        return None
    place, storage = place_of(run.report), options.target_storage
    return Report(place, options.describe(), storage, read_history(place, None, storage).own)


def _watched(watcher: Watcher, source: Any) -> Callable[[int, int], None]:
    """Return a progress function that notifies a watcher of the only file."""
    watcher.begin(1)
    watcher.started(0, Path(str(source)).name)
    return lambda done, total: watcher.moved(0, done, total)


def _with_names(options: ConvertOptions, target: str) -> ConvertOptions:
    """Read the target's name as a pattern, if it is one."""
    name = place_of(target).name
    if not is_name_pattern(name):
        return options
    axes = {*options.split, *axes_of_pattern(name)}
    return replace(options, names=name, split=tuple(axis for axis in SPLITS if axis in axes))


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


def _convert_batch(
    sources: Any, target: str | os.PathLike[str], options: ConvertOptions, run: RunOptions
) -> Conversion:
    begun = time.perf_counter()
    folder = place_of(target)
    writer = _writer_into(folder, run.suffix, options)
    options = _for_run(options.for_writer(writer, f"x{run.suffix}"), run, reported=True)
    table = read_table(run.table or ())
    listed: list[Any] = (
        [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
    ) or table.sources
    watcher = run.watcher or Watcher()
    place = place_of(run.report) if run.report else report_path(folder, run.part)
    history = read_history(place, folder, options.target_storage)
    made = {identity(target) for target in history.targets if target.endswith(run.suffix)}
    report = Report(place, options.describe(), options.target_storage, history.own)
    skipped = Skipped()
    scan = Scan(options, history.scans)
    found = find_sources(
        [os.fspath(source) for source in listed], options, pattern=run.pattern,
        recursive=run.recursive, group=run.group, skipped=skipped,
        made={identity(folder), *made}, scan=scan, looked=watcher.looked,
    )  # fmt: skip
    if not found:
        raise FileMissing(_nothing_found(listed, skipped))
    targets = name_targets(found, folder, run.suffix, options.split)
    own = None if run.table is None else table.changes([f.path for f in found], options, writer)
    jobs = plan_jobs(found, targets, writer, run, own)
    report.skipped = skipped.reasons
    # One part that records the results of the search is enough for all.
    report.scan = scan.as_dict() if scan.is_new or run.part is None else None
    searched = time.perf_counter() - begun
    run_batch(jobs, options, run, report, history.records if run.resume else {})
    seconds = time.perf_counter() - begun
    done = _summary(report.files, str(folder), seconds, report.path, skipped.reasons)
    return replace(done, search_seconds=searched)


def _nothing_found(sources: Sequence[Any], skipped: Skipped) -> str:
    path, reason = next(iter(skipped.reasons.items()), ("", ""))
    more = ""
    if path:
        more = f" {len(skipped.reasons)} files are not images; the first: {path} ({reason})"
    return f"{', '.join(map(str, sources))}: there is no image.{more}"


def _writer_into(folder: Place, suffix: str, options: ConvertOptions) -> type[WriterBackend]:
    """Return the backend that writes new files with a suffix into a folder.

    Raises
    ------
    TargetExists
        The folder is a file.
    Unsupported
        The folder is at a URL, and the backend writes to disks only.
    """
    if isinstance(folder, Path) and folder.exists() and not folder.is_dir():
        raise TargetExists(
            f"{folder}: this is a file, and a batch needs a folder. Choose another name, or a name "
            "with the suffix of an image format for a single source."
        )
    return registry.writer_for(f"{folder / '*'}{suffix}", options.target_backend)


def _failure(done: Conversion) -> str:
    first = done.failed[0]
    return (
        f"{len(done.failed)} of {len(done.files)} files failed; the others are done. The "
        f"first: {first.error} All are in {done.report}."
    )


class _ProgressOf(Watcher):
    """Passes the progress of each file to a function."""

    def __init__(self, progress: Callable[[int, int], None]) -> None:
        self._progress = progress

    def moved(self, number: int, done: int, total: int) -> None:
        self._progress(done, total)
