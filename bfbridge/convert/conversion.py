"""The public functions: `convert` for one source or a batch, `convert_many` for a batch."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bfbridge import registry
from bfbridge.convert.execute.batch import run_batch
from bfbridge.convert.execute.choose import choose_executor
from bfbridge.convert.execute.run import Watcher, note_warnings
from bfbridge.convert.execute.search import find_batch, find_job
from bfbridge.convert.locations import Place, Url, check_working_folder, place_of
from bfbridge.convert.omero import check_mapping, write_mapping
from bfbridge.convert.options import (
    ConvertOptions,
    RunOptions,
    describe_parameters,
    read_options,
    signature_of,
)
from bfbridge.convert.plan.naming import is_name_pattern
from bfbridge.convert.plan.sources import is_one_image
from bfbridge.convert.reports.history import read_history
from bfbridge.convert.reports.record import FileRecord, now, reason_of
from bfbridge.convert.reports.writer import Report
from bfbridge.errors import BadArgument, BatchFailed, BfbridgeError
from bfbridge.runtime.entry_points import held_search_path
from bfbridge.storage.private_folder import reused_folders
from bfbridge.storage.source import path_or_url

__all__ = [
    "Conversion",
    "check_places",
    "convert",
    "convert_many",
    "document",
    "is_batch",
    "refuse_private",
]


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
    check_places(source, target)
    refuse_private(target, run)
    check_mapping(target, run)
    if not is_batch(source, target):
        if isinstance(source, (str, os.PathLike)):
            check_working_folder(source)
        done = _convert_one(source, target, parsed, run)
        write_mapping(run.omero_csv, done.files, place_of(target), is_folder=False)
        return done
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
    check_mapping(target, run)
    return _convert_batch(sources, target, parsed, run)


def document(function: Callable[..., Any]) -> None:
    """Put the options into a function's signature and docstring."""
    function.__signature__ = signature_of(function)  # type: ignore[attr-defined]
    if function.__doc__:  # absent with python -OO
        # Python 3.13 and later remove the indentation of docstrings.
        function.__doc__ = inspect.cleandoc(function.__doc__).replace(
            "\n**options\n", f"\n{describe_parameters()}\n**options\n"
        )


document(convert)


def is_batch(source: Any, target: str | os.PathLike[str]) -> bool:
    """Return whether new files go into a folder rather than under one name."""
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


def check_places(source: Any, target: Any) -> None:
    """Refuse sources and targets that are neither paths nor URLs."""
    path_or_url(target)
    if isinstance(source, (list, tuple)):
        for one in source:
            path_or_url(one)
    check_working_folder(target)


def refuse_private(target: str | os.PathLike[str], run: RunOptions) -> None:
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
    job, options = find_job(source, target, options, run)
    report = _report_of_one(options, run)
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
    with held_search_path(), reused_folders():
        batch = find_batch(sources, target, options, run)
        report, history = batch.report, batch.history
        searched = time.perf_counter() - begun
        earlier = history.records if run.resume else {}
        run_batch(batch.jobs, batch.options, run, report, earlier, batch.readers)
    seconds = time.perf_counter() - begun
    done = _summary(report.files, str(place_of(target)), seconds, report.path, report.skipped)
    write_mapping(run.omero_csv, done.files, place_of(target), is_folder=True)
    return replace(done, search_seconds=searched)


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
