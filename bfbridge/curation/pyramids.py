"""Lower levels for the images of an existing store."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from bfbridge.convert.execute.levels import Runner, in_threads, run_levels
from bfbridge.convert.execute.tasks import check_client, run_tasks
from bfbridge.convert.locations import anywhere
from bfbridge.engine.pyramid import METHODS, level_plan
from bfbridge.engine.workers import worker_count
from bfbridge.errors import BadArgument
from bfbridge.files.added_levels import levels_begun
from bfbridge.files.in_place import place_of

if TYPE_CHECKING:
    from bfbridge.engine.pyramid import Pyramid

__all__ = ["add_pyramid"]


def add_pyramid(
    store: str | os.PathLike[str],
    *,
    pyramid: Pyramid = True,
    downsample: str = "mean",
    downsample_z: Any = None,
    smallest: int | None = None,
    max_workers: int | None = None,
    client: Any = None,
    progress: Callable[[int, int], None] | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> int:
    """Add lower levels to the images of an existing OME-Zarr store that have none.

    Full-size pixels are read, and not copied or changed. All images of the store are searched,
    those of a plate and labels included. New levels have the chunks, the shards and, where bfbridge
    writes it, the compression of the full size. Readers see them when all are complete.

    Parameters
    ----------
    store
        The store: a folder on a disk, or a URL. On a cluster every worker must see it.
    pyramid, downsample, downsample_z, smallest
        The levels, as for `bfbridge.BioWriter`. Labels are never averaged: for them "mean" is
        "nearest".
    max_workers
        Threads. Default: the CPUs this process may use. Ignored with `client`.
    client
        A ``distributed.Client``: the levels are computed on the workers of its Dask cluster. The
        result has the same bytes.
    progress
        Called with (pixels of lower levels done, pixels in all).
    storage_options
        Options of the storage of a URL.

    Returns
    -------
    int
        The number of images that got lower levels.

    Raises
    ------
    FileMissing
        There is no store.
    TargetBusy
        Another writer is changing the store.
    BadArgument
        An argument is not valid.
    Unsupported
        The store is not OME-Zarr in version 0.4 or 0.5 with the axes in the order t, c, z, y, x.
    WriteFailed
        A level cannot be written, or the scheduler was lost. The images are as they were.
    """
    if downsample not in METHODS:
        raise BadArgument(f"downsample={downsample!r}: give one of {', '.join(METHODS)}.")
    workers = worker_count(max_workers)
    plan = level_plan(pyramid, downsample_z, smallest)
    runner: Runner = partial(in_threads, workers)
    if client is not None:
        check_client(client)
        runner = partial(run_tasks, client)
    storage = dict(storage_options or {})
    name = anywhere(store)
    with levels_begun(place_of(name, storage), plan, downsample) as count:
        if count:
            run_levels(name, storage, runner, progress)
    return count
