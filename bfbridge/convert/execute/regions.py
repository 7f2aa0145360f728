"""One large image on a Dask cluster: each task writes whole chunks or shards of one store.

A task that is repeated, because its worker was lost, writes the same chunks again; each chunk is
written atomically. The store gets its name when all tasks have ended and it was finished; until
then a previous store of that name is unchanged.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bfbridge.chunked_store import ChunkedStoreBackend
from bfbridge.convert.copy.source import (
    check_metadata,
    document_of,
    kept_output,
    lost_metadata,
    notes_of,
    open_source,
    output_scalings,
    refuse_own_source,
)
from bfbridge.convert.execute.levels import run_levels
from bfbridge.convert.execute.tasks import options_on_worker, raised, run_tasks
from bfbridge.convert.locations import Place, Storage, Url, anywhere, place_of, stored_bytes
from bfbridge.convert.options import MEMORY_PER_WORKER, ConvertOptions
from bfbridge.convert.plan.blocks import BlockGrid, plan_grid
from bfbridge.convert.plan.pieces import Output, Piece, grouped_by_well, plan_outputs
from bfbridge.convert.plan.scaling import Scaling
from bfbridge.convert.reports.record import FileRecord, OutputRecord, now, stamp
from bfbridge.convert.verification.certificate import certify, check_certifiable
from bfbridge.convert.verification.pixels import Checked, verify_output, verify_share
from bfbridge.convert.verification.selection import check_selection
from bfbridge.errors import BadArgument
from bfbridge.files.in_place import finish, level_units
from bfbridge.files.in_place import place_of as place_of_store
from bfbridge.files.writing.aside import aside
from bfbridge.ome.documents.repair import collected_faults
from bfbridge.reader import BioReader
from bfbridge.storage.remote.object_store import Objects
from bfbridge.storage.source import Source, as_source
from bfbridge.writer import BioWriter

if TYPE_CHECKING:
    from bfbridge.backend import WriterBackend

__all__ = ["convert_on_cluster"]

REGION_BYTES = 128 << 20


def convert_on_cluster(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    options: ConvertOptions,
    writer: type[WriterBackend],
    client: Any,
    *,
    overwrite: bool = False,
    resume: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> FileRecord:
    """Convert one source into one store, whose regions are distributed to a cluster's workers.

    Parameters
    ----------
    source, target
        Paths that every worker sees.
    options
        The conversion options; the target cannot be split.
    writer
        The backend that writes the target.
    client
        A ``distributed.Client``.
    overwrite
        Whether an existing store may be replaced, when the new one is finished. Stores at URLs are
        never replaced.
    resume
        Whether a store that exists is kept if its pixels are the source's, not an error.
    progress
        Takes (bytes of pixels done, bytes in all).

    Raises
    ------
    BadArgument
        The format does not support it, or ``split`` was given.
    TargetExists
        The target exists, and must not be replaced.
    BfbridgeError
        Reading or writing failed; the unfinished store was removed.
    """
    begun = time.perf_counter()
    place = place_of(target)
    if options.split or not issubclass(writer, ChunkedStoreBackend):
        raise BadArgument(
            f"{place}: a cluster writes one new file only in a format of separate chunks "
            "(OME-Zarr), and without split=. Leave client= out, or give a folder to convert many "
            "files."
        )
    record = FileRecord(str(source), str(place), request=options.fingerprint)
    with open_source(source, options) as br, collected_faults() as faults:
        check_metadata(br, faults, options)
        record.source, record.backend, record.backend_reason = (
            br.source_name, br.backend, br.backend_reason,
        )  # fmt: skip
        record.inputs = stamp(br.used_files, options.source_storage)
        (output,) = grouped_by_well(plan_outputs(br, place, options), br)
        check_certifiable(br, [output], options, overwrite=overwrite, resume=resume)
        if options.verify:
            check_selection(br, [output], options)
        refuse_own_source([output], br)
        kept = None
        if resume and not overwrite:
            shares = partial(_verify_shares, client, _pixel_bytes(br, output))
            kept = kept_output(source, br, output, options, lambda count: None, shares)
        record.outputs = [
            kept or _make(source, br, output, options, writer, client, overwrite, progress)
        ]
        record.warnings = notes_of(br, [output], faults)
    certify(record, options)
    record.status = "done" if any(not output.kept for output in record.outputs) else "kept"
    record.seconds = time.perf_counter() - begun
    record.ended = now()
    return record


def _make(
    source: Any,
    br: BioReader,
    output: Output,
    options: ConvertOptions,
    writer: type[WriterBackend],
    client: Any,
    overwrite: bool,
    progress: Callable[[int, int], None] | None,
) -> OutputRecord:
    """Write one store on the cluster, in a private folder that every worker sees."""
    begun = time.perf_counter()
    scalings = output_scalings(br, output, options)
    document = document_of(br, output, scalings, options)
    storage = dict(options.target_storage)
    create = partial(
        BioWriter.create, metadata=document, series="all", pyramid=options.lower_levels,
        downsample_z=options.downsample_z, smallest=options.smallest,
        downsample=options.downsample, fill_value=options.fill_value, storage_options=storage,
        **options.target_options,
    )  # fmt: skip
    with _begun(output.target, create, options, overwrite) as place:
        tasks = list(_tasks(place, output.pieces, scalings, storage))
        _run(tasks, anywhere(br.source_name), place, options, client, progress)
        run_levels(str(place), storage, partial(run_tasks, client))
        finish(_local(place, storage), options.workers, options.memory_bytes // 2, levels=False)
    made = OutputRecord(
        str(output.target), writer.name, file_bytes=stored_bytes(output.target, storage)
    )
    made.pixel_bytes = _pixel_bytes(br, output)
    made.images = [
        {"series": piece.series, "level": piece.level, "shape": list(piece.shape),
         "dtype": scaling.after.name, "checksum": None}
        for piece, scaling in zip(output.pieces, scalings, strict=True)
    ]  # fmt: skip
    made.plate = bool(document.plates)
    if options.verify:
        shares = partial(_verify_shares, client, made.pixel_bytes)
        verify_output(source, output, scalings, options, made, lambda count: None, shares)
    if options.compare_metadata:
        made.lost = lost_metadata(document, output.target, options)
    made.seconds = time.perf_counter() - begun
    return made


@contextmanager
def _begun(
    target: Place, create: Callable[[Place], None], options: ConvertOptions, overwrite: bool
) -> Iterator[Place]:
    """Create a store, yield its temporary location, then rename it; remove it after an error."""
    if isinstance(target, Url):
        # Written at its final location, where it cannot be opened before it is finished.
        create(target)
        try:
            yield target
        except BaseException:
            there = Objects(as_source(target, options.target_storage))
            there.remove(there.keys())
            raise
        return
    with aside(target, overwrite=overwrite, durable=options.durable) as place:
        create(place)
        yield place


def _pixel_bytes(br: BioReader, output: Output) -> int:
    return sum(piece.size * piece.view(br).dtype.itemsize for piece in output.pieces)


def _tasks(
    place: Place,
    pieces: Sequence[Piece],
    scalings: Sequence[Scaling],
    storage: dict[str, Any],
) -> Iterator[tuple[int, Piece, Scaling, tuple[slice, ...]]]:
    """Yield the regions of every image, aligned to its shards or chunks."""
    units = [levels[0][1] for levels in level_units(_local(place, storage))]
    for number, (piece, scaling, unit) in enumerate(zip(pieces, scalings, units, strict=True)):
        t, c, z, y, x = unit
        step = [min(u, n) for u, n in zip((y, x, z, c, t), piece.shape, strict=True)]
        for axis in (1, 0):
            # Whole rows of blocks first: most sources are stored by rows.
            room = REGION_BYTES // max(1, prod(step) * scaling.before.itemsize)
            step[axis] = min(piece.shape[axis], step[axis] * max(1, room))
        for key in BlockGrid(piece.shape, tuple(step)):
            yield number, piece, scaling, key


def _run(
    tasks: Sequence[tuple[int, Piece, Scaling, tuple[slice, ...]]],
    source: str,
    place: Place,
    options: ConvertOptions,
    client: Any,
    progress: Callable[[int, int], None] | None,
) -> None:
    total = sum(piece.size * scaling.before.itemsize for piece, scaling in _images(tasks))
    done = 0
    arguments = ((source, str(place), options, *task) for task in tasks)
    for _, count in run_tasks(client, _copy_region, arguments):
        done += raised(count)
        if progress is not None:
            progress(done, total)


def _verify_shares(
    client: Any,
    pixel_bytes: int,
    source: Any,
    output: Output,
    scalings: Sequence[Scaling],
    options: ConvertOptions,
    copied: Sequence[dict[str, Any] | None],
) -> Iterator[Checked]:
    """Verify a store on the workers; see `verify_output`."""
    count = max(1, -(-pixel_bytes // REGION_BYTES))
    # The blocks depend on the memory. They must be the same on all workers, whose CPUs and threads
    # may differ, because each worker compares every `count`-th block.
    memory = MEMORY_PER_WORKER
    if options.memory is not None:
        memory = max(16 << 20, options.memory // max([1, *client.nthreads().values()]))
    same = replace(options, max_workers=1, memory=memory)
    calls = (
        (anywhere(source), output, scalings, same, copied, (number, count))
        for number in range(count)
    )
    for _, checked in run_tasks(client, _verify_share, calls):
        yield raised(checked)


def _verify_share(
    source: Any,
    output: Output,
    scalings: Sequence[Scaling],
    options: ConvertOptions,
    copied: Sequence[dict[str, Any] | None],
    share: tuple[int, int],
    again: bool = False,
) -> Checked:
    """Verify a share of the blocks of a store; runs on a worker."""
    del again
    return verify_share(source, output, scalings, options, copied, share)


def _local(place: Place | str, storage: Storage) -> Path | Source:
    return place_of_store(str(place), storage)


def _images(
    tasks: Sequence[tuple[int, Piece, Scaling, tuple[slice, ...]]],
) -> list[tuple[Piece, Scaling]]:
    return list({number: (piece, scaling) for number, piece, scaling, _ in tasks}.values())


def _copy_region(
    source: str,
    place: str,
    options: ConvertOptions,
    number: int,
    piece: Piece,
    scaling: Scaling,
    key: tuple[slice, ...],
    again: bool = False,
) -> int:
    """Copy one region; runs on a worker."""
    del again
    # One thread for each task: Dask runs as many tasks as a worker has threads.
    own = replace(options_on_worker(options), max_workers=1)
    y, x, z, c, t = (axis[cut] for axis, cut in zip(piece.axes, key, strict=True))
    part = replace(piece, y=y, x=x, z=z, c=c, t=t, whole=False)
    with (
        open_source(source, own) as br,
        BioWriter.open(
            place, 1, memory=own.memory_bytes // 2, storage_options=own.target_storage
        ) as bw,
    ):
        image = bw.series[number]
        view = part.view(br)
        grid = plan_grid(
            part.shape, view.chunks, image.chunks, view.dtype.itemsize, part.samples,
            own.memory_bytes // 2,
        )  # fmt: skip
        for inner in grid:
            where = tuple(
                slice(a.start + b.start, a.start + b.stop) for a, b in zip(key, inner, strict=True)
            )
            image[where] = scaling(part.read(view, inner))
    return part.size * scaling.before.itemsize
