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

from bfbridge.backend import Level
from bfbridge.convert.conversion import check_places, document, is_batch, refuse_private
from bfbridge.convert.copy.encoded_chunks import copied_options, keeps_chunks, level_of
from bfbridge.convert.copy.source import (
    check_metadata,
    document_of,
    notes_of,
    open_source,
    refuse_own_source,
    source_grid,
)
from bfbridge.convert.execute.processes import share_of
from bfbridge.convert.execute.search import find_batch, find_job
from bfbridge.convert.locations import exists, files_of, identity, place_of
from bfbridge.convert.options import read_options
from bfbridge.convert.plan.blocks import BlockGrid
from bfbridge.convert.plan.pieces import grouped_by_well, plan_outputs
from bfbridge.convert.plan.scaling import plan_scaling
from bfbridge.convert.reports.history import is_unchanged, outputs_match
from bfbridge.convert.reports.record import reason_of, stamp
from bfbridge.convert.verification.selection import check_selection
from bfbridge.engine.pyramid import plan_levels
from bfbridge.files.writing.image_plans import check_fill_value, deep_chunk
from bfbridge.ome import metadata
from bfbridge.ome.documents.repair import collected_faults
from bfbridge.runtime.cached_property import cached_property

if TYPE_CHECKING:
    from ome_types import model

    from bfbridge.backend import Image, Shape5, WriterBackend
    from bfbridge.convert.execute.jobs import Job
    from bfbridge.convert.options import ConvertOptions
    from bfbridge.convert.plan.kept_readers import KeptReaders
    from bfbridge.convert.plan.pieces import Output, Piece
    from bfbridge.convert.plan.scaling import Scaling
    from bfbridge.convert.reports.record import FileRecord
    from bfbridge.reader import BioReader
    from bfbridge.views import ImageView

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
    """The result that a conversion would have. Made by `plan_conversion`.

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
    readers: KeptReaders | None = None
    if is_batch(source, target):
        batch = find_batch(source, target, parsed, run)
        jobs, parsed, skipped = batch.jobs, batch.options, batch.report.skipped
        earlier = batch.history.records if run.resume else {}
        collisions, readers = batch.collisions, batch.readers
    else:
        job, parsed = find_job(source, target, parsed, run)
        jobs, skipped, earlier = [job], {}, {}
    count = 1 if run.client is not None else max(1, min(run.jobs, len(jobs)))
    shared = parsed if count == 1 else share_of(parsed, count)
    try:
        files = [_planned(job, job.options(shared), earlier, readers) for job in jobs]
    finally:
        if readers is not None:
            readers.close()
    files = _checked_names(files, collisions)
    return ConversionPlan(
        os.fspath(target), tuple(files), dict(skipped), collisions, count, _free(target)
    )


document(plan_conversion)


def _planned(
    job: Job,
    options: ConvertOptions,
    earlier: Mapping[str, FileRecord],
    readers: KeptReaders | None,
) -> PlannedFile:
    """Plan one job; what it would raise is in the record."""
    planned = PlannedFile(str(getattr(job.source, "name", job.source)), job.target)
    if job.error is not None:
        return replace(planned, error=job.error, error_type=job.error_type)
    before = earlier.get(f"{job.source}\0{job.target}")
    if before is not None and is_unchanged(before, job, options):
        if not options.verify or all(output.verified for output in before.outputs):
            return _kept(planned, before)
        # As in `Run.pending`: what was not verified is compared, not replaced.
        before = None
    try:
        return _opened(job, options, before, readers)
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


def _opened(
    job: Job, options: ConvertOptions, before: FileRecord | None, readers: KeptReaders | None
) -> PlannedFile:
    with open_source(job.source, options, readers) as br, collected_faults() as faults:
        check_metadata(br, faults, options)
        outputs = grouped_by_well(plan_outputs(br, job.target, options), br)
        refuse_own_source(outputs, br, options)
        if options.verify:
            check_selection(br, outputs, options)
        storage = options.source_storage
        sizes = [entry["bytes"] for entry in stamp(files_of(br, storage), storage)]
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
        """Plan one new file; raise what its conversion would raise before it starts."""
        options, name = self._options, str(output.target)
        sampled = [number < SAMPLED_IMAGES for number in range(len(output.pieces))]
        scalings = [
            self._scaling(piece, sampled=few)
            for piece, few in zip(output.pieces, sampled, strict=True)
        ]
        document = document_of(self._br, output, scalings, options)
        first = output.pieces[0].view(self._br)
        given = self._writer.normalize_options(copied_options(first, options, self._writer))
        images: list[dict[str, Any]] = []
        pixel_bytes, expected = 0, 0.0
        known = True
        ratios: dict[str, list[float]] = {}
        for piece, scaling, few, element in zip(
            output.pieces, scalings, sampled, document.images, strict=True
        ):
            check_fill_value(options.fill_value, scaling.after, name)
            image = _new_image(element, piece, scaling)
            copied = self._is_copied(piece, scaling, image, given)
            levels = self._levels(piece.view(self._br), image, given, name, copied=copied)
            size = piece.size * scaling.after.itemsize
            pixel_bytes += size
            images.append(
                {"series": piece.series, "level": piece.level, "name": piece.view(self._br).name,
                 "shape": list(piece.shape), "dtype": scaling.after.name}
            )  # fmt: skip
            self._need(piece, scaling, levels[0].chunk)
            if copied and self._stored is not None:
                source_size = piece.size * scaling.before.itemsize * _pixels(levels)
                expected += self._stored * source_size / max(1, self._decoded)
                continue
            found = ratios.setdefault(scaling.after.name, [])
            ratio = self._ratio(self._samples(piece), scaling, image, given) if few else None
            if ratio is not None:
                found.append(ratio)
            known = known and bool(found)
            mean = sum(found) / len(found) if found else 1.0
            expected += size * mean * _pixels(levels)
        there = exists(output.target, options.target_storage)
        return PlannedOutput(name, there, images, pixel_bytes, round(expected) if known else None)

    def _samples(self, piece: Piece) -> list[Array]:
        """Read a few blocks, evenly spaced over a piece; axes T, C, Z, Y, X."""
        height, width, _, channels, _ = piece.shape
        step = (min(SIDE, height), min(SIDE, width), 1, min(piece.samples, channels), 1)
        grid = list(_spread(BlockGrid(piece.shape, step), SAMPLES))
        view = piece.view(self._br)
        return [piece.read(view, key).transpose(4, 3, 2, 0, 1) for key in grid]

    def _scaling(self, piece: Piece, *, sampled: bool) -> Scaling:
        options, view = self._options, piece.view(self._br)
        bits = None
        if options.scaling:
            bits = self._br.ome.images[piece.series].pixels.significant_bits

        def extremes() -> tuple[float, float]:
            blocks = self._samples(piece) if sampled else []
            finite = [block[np.isfinite(block)] for block in blocks]
            found = [values for values in finite if values.size]
            low = min((float(values.min()) for values in found), default=0.0)
            return low, max((float(values.max()) for values in found), default=1.0)

        return plan_scaling(view.dtype, options.dtype, options.scaling, bits, extremes)

    def _ratio(
        self, samples: Sequence[Array], scaling: Scaling, image: Image, given: Mapping[str, Any]
    ) -> float | None:
        """Return stored bytes for each byte of new pixels."""
        before = after = 0
        for block in samples:
            new = scaling(block)
            size = self._writer.encoded_bytes(image, new, given)
            if size is None:
                return None
            before, after = before + new.nbytes, after + size
        return after / before if before else None

    def _is_copied(
        self, piece: Piece, scaling: Scaling, image: Image, given: Mapping[str, Any]
    ) -> bool:
        """Whether the chunks of the source would be copied unchanged."""
        if not keeps_chunks(self._options) or not piece.whole or scaling.changes:
            return False
        stored = piece.view(self._br).stored_as
        return stored is not None and self._writer.can_store(stored, image, given)

    def _levels(
        self, view: ImageView, image: Image, given: Mapping[str, Any], name: str, *, copied: bool
    ) -> Sequence[Level]:
        """Return the levels that the new image would have."""
        plan, shape = self._options.levels, image.levels[0].shape
        whole = copied and all(level.stored_as is not None for level in view.levels)
        if whole and plan.is_default and len(view.levels) > 1:
            return [level_of(level) for level in view.levels]
        steps = plan.steps(shape[2:], image.pixel_size)
        chunk = level_of(view).chunk if copied else self._writer.default_chunk(image, given)
        chunk = deep_chunk(chunk, shape, steps, self._writer, given, name)
        return plan_levels(shape, chunk, steps)

    @cached_property
    def _decoded(self) -> int:
        """Bytes of the pixels of all levels of the source."""
        return sum(
            prod(level.shape) * level.dtype.itemsize
            for view in self._br.series
            for level in view.levels
        )

    def _need(self, piece: Piece, scaling: Scaling, chunk: Shape5) -> None:
        """Count the memory of a piece: a block for each thread, and incomplete chunks."""
        options = self._options
        times, channels, depth, height, width = chunk
        grid = source_grid(self._br, piece, (height, width, depth, channels, times), options)
        threads = min(options.workers, len(grid))
        block = prod(grid.step) * (scaling.before.itemsize + scaling.after.itemsize)
        unfinished = min(options.memory_bytes // 2, piece.size * scaling.after.itemsize)
        self.memory = max(self.memory, threads * block + unfinished)


def _new_image(element: model.Image, piece: Piece, scaling: Scaling) -> Image:
    """Return the record of a new image from its element in the new document."""
    height, width, depth, channels, times = piece.shape
    shape = (times, channels, depth, height, width)
    record = metadata.record(element, scaling.after, (Level(shape, shape),))
    return replace(record, samples=piece.samples, interleaved=piece.samples > 1)


def _pixels(levels: Sequence[Level]) -> float:
    """Return the pixels of all levels for each pixel of full size."""
    return sum(prod(level.shape) for level in levels) / prod(levels[0].shape)


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
