"""The plan of a conversion: what it would read, write and need, before anything is written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bfbridge import registry
from bfbridge.backend import Image, Level
from bfbridge.convert.conversion import (
    check_places,
    document,
    is_batch,
    refuse_private,
    with_names,
)
from bfbridge.convert.copy.source import (
    check_metadata,
    notes_of,
    open_source,
    refuse_own_source,
    source_grid,
)
from bfbridge.convert.execute.jobs import Job
from bfbridge.convert.execute.processes import share_of
from bfbridge.convert.execute.search import find_batch
from bfbridge.convert.locations import exists, identity, place_of
from bfbridge.convert.options import read_options
from bfbridge.convert.plan.blocks import BlockGrid
from bfbridge.convert.plan.pieces import grouped_by_well, plan_outputs
from bfbridge.convert.plan.scaling import plan_scaling
from bfbridge.convert.reports.history import is_unchanged, outputs_match
from bfbridge.convert.reports.record import reason_of, stamp
from bfbridge.convert.verification.selection import check_selection
from bfbridge.engine.pyramid import factors_of, plan_levels
from bfbridge.ome.repair import collected_faults

if TYPE_CHECKING:
    from bfbridge.backend import Shape5, WriterBackend
    from bfbridge.convert.options import ConvertOptions
    from bfbridge.convert.plan.pieces import Output, Piece
    from bfbridge.convert.plan.scaling import Scaling
    from bfbridge.convert.reports.record import FileRecord
    from bfbridge.reader import BioReader

__all__ = ["ConversionPlan", "PlannedFile", "PlannedOutput", "plan_conversion"]

ACTIONS = ("convert", "replace", "compare", "keep", "fail")
SAMPLES = 4
"""Blocks of each new image that are encoded to estimate its size."""
SAMPLED_IMAGES = 4
"""Images of each new file of which blocks are encoded."""
SIDE = 1024

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class PlannedOutput:
    """One file that would be written.

    Attributes
    ----------
    target
        Its path or URL.
    exists
        Whether there is a file or store of this name.
    images
        For each image: series, level, name, shape (Y, X, Z, C, T) and dtype.
    pixel_bytes
        Bytes of its decoded pixels at full size, in the new dtype.
    expected_bytes
        Expected bytes on disk with lower levels, estimated from a few encoded blocks. None if the
        writer backend cannot encode single blocks.
    """

    target: str
    exists: bool
    images: list[dict[str, Any]]
    pixel_bytes: int
    expected_bytes: int | None


@dataclass(frozen=True)
class PlannedFile:
    """One source, and what would happen to it.

    Attributes
    ----------
    source, target
        What would be opened, and the new file.
    action
        "convert"; "replace" (the new file exists and would be replaced), "compare" (it exists, and
        ``resume`` would compare its pixels with the source), "keep" (it is complete), or "fail".
    outputs
        The files that would be written; several if the source is split.
    input_bytes
        Bytes of all files of the data set; None if a server does not report them.
    memory_bytes
        Most bytes of pixels in memory at the same time.
    backend, backend_reason
        The backend that reads the source, and why.
    error, error_type
        Why the conversion would fail.
    warnings
        Warnings that the conversion would give.
    """

    source: str
    target: str
    action: str = "fail"
    outputs: list[PlannedOutput] = field(default_factory=list)
    input_bytes: int | None = None
    memory_bytes: int = 0
    backend: str = ""
    backend_reason: str = ""
    error: str | None = None
    error_type: str | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def failure(self) -> str:
        """The source and the reason of the failure; most reasons begin with the name already."""
        reason = self.error or ""
        return reason if reason.startswith(self.source) else f"{self.source}: {reason}"


@dataclass(frozen=True)
class ConversionPlan:
    """What a conversion would do. Made by `plan_conversion`.

    Attributes
    ----------
    target
        The new file or the folder of new files.
    files
        A record for each source.
    skipped
        Files of searched folders that would not be converted, with the reason.
    collisions
        Names that several new files would have, with the sources. The sources of a batch get
        different names, which are in `files`; files into which they are split would fail.
    jobs
        Processes that would convert at the same time; 1 on a Dask cluster, whose number of workers
        is not known to the plan.
    free_bytes
        Free space on the disk of the target; None at a URL.
    """

    target: str
    files: tuple[PlannedFile, ...]
    skipped: dict[str, str]
    collisions: dict[str, list[str]]
    jobs: int
    free_bytes: int | None

    @property
    def failed(self) -> list[PlannedFile]:
        """Records of sources whose conversion would fail."""
        return [planned for planned in self.files if planned.action == "fail"]

    @property
    def written(self) -> list[PlannedFile]:
        """Records of sources of which files would be written."""
        return [planned for planned in self.files if planned.action in ("convert", "replace")]

    @property
    def counts(self) -> dict[str, int]:
        """Number of sources for each action."""
        return {a: sum(planned.action == a for planned in self.files) for a in ACTIONS}

    @property
    def pixel_bytes(self) -> int:
        """Bytes of decoded pixels that would be written, without lower levels."""
        return sum(output.pixel_bytes for file in self.written for output in file.outputs)

    @property
    def expected_bytes(self) -> int | None:
        """Expected bytes on disk of all files that would be written; None if not known."""
        sizes = [output.expected_bytes for file in self.written for output in file.outputs]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @property
    def memory_bytes(self) -> int:
        """Most bytes of pixels in memory at the same time, in all processes."""
        largest = sorted((file.memory_bytes for file in self.files), reverse=True)
        return sum(largest[: self.jobs])

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain data, with its totals."""
        return {
            **asdict(self),
            "counts": self.counts,
            "pixel_bytes": self.pixel_bytes,
            "expected_bytes": self.expected_bytes,
            "memory_bytes": self.memory_bytes,
        }


def plan_conversion(source: Any, target: str | os.PathLike[str], **options: Any) -> ConversionPlan:
    """Return what `convert` would do with the same arguments. Nothing is written.

    Every source is opened, and a few blocks of pixels are encoded in memory to estimate the sizes
    of the new files. The minimum and maximum of ``scaling="minmax"`` are those of these blocks.

    Parameters
    ----------
    source, target
        As for `convert`.
    **options
        Further options of the writer backend.

    Raises
    ------
    BadArgument
        An option does not exist or has an invalid value.
    BfbridgeError
        The sources cannot be searched. A source that cannot be converted is in the plan, with
        the action "fail".
    """
    parsed, run = read_options(options)
    check_places(source, target)
    refuse_private(target, run)
    collisions: dict[str, list[str]] = {}
    if is_batch(source, target):
        batch = find_batch(source, target, parsed, run)
        jobs, parsed, skipped = batch.jobs, batch.options, batch.report.skipped
        earlier = batch.history.records if run.resume else {}
        collisions = batch.collisions
    else:
        name = os.fspath(target)
        parsed = with_names(parsed, name)
        writer = registry.writer_for(name, parsed.target_backend)
        parsed = parsed.for_writer(writer, name)
        jobs, skipped, earlier = [Job(source, name, writer, run.overwrite, run.resume)], {}, {}
    count = 1 if run.client is not None else max(1, min(run.jobs, len(jobs)))
    shared = parsed if count == 1 else share_of(parsed, count)
    files = [_planned(job, shared, earlier) for job in jobs]
    files = _checked_names(files, collisions)
    return ConversionPlan(
        os.fspath(target), tuple(files), dict(skipped), collisions, count, _free(target)
    )


document(plan_conversion)


def _planned(job: Job, options: ConvertOptions, earlier: Mapping[str, FileRecord]) -> PlannedFile:
    """Plan one job; what it would raise is in the record."""
    planned = PlannedFile(str(getattr(job.source, "name", job.source)), job.target)
    if job.error is not None:
        return replace(planned, error=job.error, error_type=job.error_type)
    before = earlier.get(f"{job.source}\0{job.target}")
    if before is not None and is_unchanged(before, job, options):
        return _kept(planned, before)
    try:
        return _opened(job, options, before)
    except Exception as error:  # noqa: BLE001 - as in a batch, the other jobs are planned
        return replace(planned, error=reason_of(error), error_type=type(error).__name__)


def _kept(planned: PlannedFile, before: FileRecord) -> PlannedFile:
    """Plan a source whose new files an earlier run completed, from its record."""
    outputs = [
        PlannedOutput(made.target, True, made.images, made.pixel_bytes, made.file_bytes)
        for made in before.outputs
    ]
    sizes = [entry.get("bytes") for entry in before.inputs]
    return replace(
        planned, action="keep", outputs=outputs, backend=before.backend,
        backend_reason=before.backend_reason,
        input_bytes=None if None in sizes else sum(size for size in sizes if size is not None),
    )  # fmt: skip


def _opened(job: Job, options: ConvertOptions, before: FileRecord | None) -> PlannedFile:
    with open_source(job.source, options) as br, collected_faults() as faults:
        check_metadata(br, faults, options)
        outputs = grouped_by_well(plan_outputs(br, job.target, options), br)
        refuse_own_source(outputs, br)
        if options.verify:
            check_selection(br, outputs, options)
        sizes = [entry["bytes"] for entry in stamp(br.used_files, options.source_storage)]
        stored = sum(sizes) if sizes and None not in sizes else None
        estimate = _Estimate(br, job.writer, options, stored)
        planned = [estimate.output(output) for output in outputs]
        return PlannedFile(
            br.source_name, job.target, **_action(job, options, before, planned),
            outputs=planned, input_bytes=stored, memory_bytes=estimate.memory,
            backend=br.backend, backend_reason=br.backend_reason,
            warnings=notes_of(br, outputs, faults),
        )  # fmt: skip


def _action(
    job: Job,
    options: ConvertOptions,
    before: FileRecord | None,
    outputs: Sequence[PlannedOutput],
) -> dict[str, Any]:
    """Return the action of a job, and the error if it would fail."""
    present = [output.target for output in outputs if output.exists]
    if not present:
        return {"action": "convert"}
    if job.overwrite or (before is not None and outputs_match(before, job, options)):
        return {"action": "replace"}
    if job.resume:
        return {"action": "compare"}
    error = f"{present[0]} exists already. Replace it with overwrite=True (--overwrite)."
    return {"action": "fail", "error": error, "error_type": "TargetExists"}


class _Estimate:
    """Sizes of the new files of one source.

    Parameters
    ----------
    br
        The open source.
    writer
        The backend that would write.
    options
        The conversion options.
    stored
        Bytes of the source's files; None if not known.
    """

    def __init__(
        self,
        br: BioReader,
        writer: type[WriterBackend],
        options: ConvertOptions,
        stored: int | None,
    ) -> None:
        self._br = br
        self._writer = writer
        self._options = options
        self._stored = stored
        self.memory = 0

    def output(self, output: Output) -> PlannedOutput:
        """Plan one new file."""
        images: list[dict[str, Any]] = []
        pixel_bytes, expected = 0, 0.0
        known = True
        ratios: dict[str, list[float]] = {}
        for number, piece in enumerate(output.pieces):
            view = piece.view(self._br)
            samples = self._samples(piece) if number < SAMPLED_IMAGES else []
            scaling = self._scaling(piece, samples)
            image = _new_image(view.name, piece, scaling)
            chunk = self._writer.default_chunk(image, self._options.target_options)
            size = piece.size * scaling.after.itemsize
            pixel_bytes += size
            images.append(
                {"series": piece.series, "level": piece.level, "name": view.name,
                 "shape": list(piece.shape), "dtype": scaling.after.name}
            )  # fmt: skip
            self._need(piece, scaling, chunk)
            copied = self._copied(piece, scaling, image)
            if copied is not None:
                stored_levels = len(view.levels) > 1
                expected += copied * (1 if stored_levels else self._levels(piece, chunk))
                continue
            found = ratios.setdefault(scaling.after.name, [])
            ratio = self._ratio(samples, scaling, image)
            if ratio is not None:
                found.append(ratio)
            known = known and bool(found)
            mean = sum(found) / len(found) if found else 1.0
            expected += size * mean * self._levels(piece, chunk)
        there = exists(output.target, self._options.target_storage)
        return PlannedOutput(
            str(output.target), there, images, pixel_bytes, round(expected) if known else None
        )

    def _samples(self, piece: Piece) -> list[Array]:
        """Read a few blocks, evenly spaced over a piece; axes T, C, Z, Y, X."""
        height, width, _, channels, _ = piece.shape
        step = (min(SIDE, height), min(SIDE, width), 1, min(piece.samples, channels), 1)
        grid = list(_spread(BlockGrid(piece.shape, step), SAMPLES))
        view = piece.view(self._br)
        return [piece.read(view, key).transpose(4, 3, 2, 0, 1) for key in grid]

    def _scaling(self, piece: Piece, samples: Sequence[Array]) -> Scaling:
        options, view = self._options, piece.view(self._br)
        bits = None
        if options.scaling:
            bits = self._br.ome.images[piece.series].pixels.significant_bits

        def extremes() -> tuple[float, float]:
            finite = [block[np.isfinite(block)] for block in samples]
            found = [values for values in finite if values.size]
            low = min((float(values.min()) for values in found), default=0.0)
            return low, max((float(values.max()) for values in found), default=1.0)

        return plan_scaling(view.dtype, options.dtype, options.scaling, bits, extremes)

    def _ratio(self, samples: Sequence[Array], scaling: Scaling, image: Image) -> float | None:
        """Return stored bytes for each byte of new pixels."""
        before = after = 0
        for block in samples:
            new = scaling(block)
            size = self._writer.encoded_bytes(image, new, self._options.target_options)
            if size is None:
                return None
            before, after = before + new.nbytes, after + size
        return after / before if before else None

    def _copied(self, piece: Piece, scaling: Scaling, image: Image) -> float | None:
        """Return the bytes of chunks that would be copied unchanged; None if they are not."""
        options = self._options
        if options.recompress or not piece.whole or scaling.changes or self._stored is None:
            return None
        stored = piece.view(self._br).stored_as
        if stored is None or not self._writer.can_store(stored, image, options.target_options):
            return None
        whole = sum(prod(view.shape) * view.dtype.itemsize for view in self._br.series)
        return self._stored * piece.size * scaling.before.itemsize / max(1, whole)

    def _levels(self, piece: Piece, chunk: Shape5) -> float:
        """Return the pixels of all levels for each pixel of full size."""
        height, width, depth, channels, times = piece.shape
        shape = (times, channels, depth, height, width)
        steps = factors_of(self._options.lower_levels, height, width)
        levels = plan_levels(shape, chunk, steps)
        return sum(prod(level.shape) for level in levels) / prod(shape)

    def _need(self, piece: Piece, scaling: Scaling, chunk: Shape5) -> None:
        """Count the memory of a piece: a block for each thread, and incomplete chunks."""
        options = self._options
        times, channels, depth, height, width = chunk
        grid = source_grid(self._br, piece, (height, width, depth, channels, times), options)
        threads = min(options.workers, len(grid))
        block = prod(grid.step) * (scaling.before.itemsize + scaling.after.itemsize)
        unfinished = min(options.memory_bytes // 2, piece.size * scaling.after.itemsize)
        self.memory = max(self.memory, threads * block + unfinished)


def _new_image(name: str | None, piece: Piece, scaling: Scaling) -> Image:
    height, width, depth, channels, times = piece.shape
    shape = (times, channels, depth, height, width)
    return Image(name, (Level(shape, shape),), scaling.after, samples=piece.samples)


def _spread(grid: BlockGrid, count: int) -> Iterator[tuple[slice, ...]]:
    """Yield a few keys of a grid, evenly spaced, without making the others."""
    counts = [-(-n // s) for n, s in zip(grid.shape, grid.step, strict=True)]
    total = len(grid)
    for number in sorted({(2 * i + 1) * total // (2 * count) for i in range(count)}):
        place = np.unravel_index(number, counts)
        yield tuple(
            slice(int(i) * s, min((int(i) + 1) * s, n))
            for i, s, n in zip(place, grid.step, grid.shape, strict=True)
        )


def _checked_names(
    files: Sequence[PlannedFile], collisions: dict[str, list[str]]
) -> list[PlannedFile]:
    """Let files fail whose new names are those of files before them, and add these names.

    The sources of a batch get different names, but the files into which they are split may still
    have the same name.
    """
    names: dict[str, list[str]] = {}
    checked = []
    for given in files:
        planned = given
        for output in given.outputs:
            owners = names.setdefault(identity(output.target), [])
            if owners:
                error = f"{output.target}: {owners[0]} is converted to a file of this name."
                planned = replace(given, action="fail", error=error, error_type="TargetExists")
            owners.append(given.source)
        checked.append(planned)
    collisions |= {name: sources for name, sources in names.items() if len(sources) > 1}
    return checked


def _free(target: str | os.PathLike[str]) -> int | None:
    place = place_of(target)
    if not isinstance(place, Path):
        return None
    for folder in (place, *place.absolute().parents):
        with suppress(OSError):
            return shutil.disk_usage(folder).free
    return None
