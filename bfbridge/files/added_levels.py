"""Lower levels that are added to images of a finished file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bfbridge.backend import ImageSpec, Level
from bfbridge.errors import FileMissing
from bfbridge.files.in_place import InPlaceTarget, chunked, is_there, settle, writer_for
from bfbridge.storage.remote.object_store import ExtendedTarget

if TYPE_CHECKING:
    from bfbridge.backend import Image
    from bfbridge.engine.pyramid import LevelPlan
    from bfbridge.storage.source import Source

__all__ = ["levels_begun"]


@contextmanager
def levels_begun(place: Path | Source, plan: LevelPlan, downsample: str) -> Iterator[int]:
    """Add lower levels to the images of a file that have none; yield the number of these images.

    The levels are computed in the ``with`` block, by any process; see
    `bfbridge.files.in_place.compute_level`. At its end they become part of the images; after an
    error what was written is removed. No other writer of bfbridge can change the file meanwhile.

    Parameters
    ----------
    place
        The file.
    plan
        Which levels the images get.
    downsample
        "mean", "nearest" or "mode". For label images "mean" is "nearest".

    Raises
    ------
    FileMissing
        There is no file.
    TargetBusy
        Another writer is changing the file.
    Unsupported
        The file cannot have further levels.
    """
    backend = writer_for(place)
    name = place if isinstance(place, Path) else place.name
    if not is_there(place, backend):
        raise FileMissing(f"{name}: no such file.")
    chunks = chunked(backend, place, "given lower levels")

    def wanted(image: Image) -> ImageSpec | None:
        return _with_levels(image, plan, downsample)

    target = InPlaceTarget(place) if isinstance(place, Path) else ExtendedTarget(place)
    try:
        if isinstance(place, Path):
            settle(place)
        try:
            count = chunks.create_levels(place, wanted)
            yield count
            if count:
                chunks.open_existing(place).finish()
        except BaseException:
            chunks.discard_levels(place)
            raise
    finally:
        target.discard()


def _with_levels(image: Image, plan: LevelPlan, downsample: str) -> ImageSpec | None:
    """Return an image with its lower levels; None if it has some, or is small enough."""
    if len(image.levels) > 1:
        return None
    levels = [Level(image.levels[0].shape, image.levels[0].chunk)]
    steps = plan.steps(levels[0].shape[2:], image.pixel_size)
    for step in steps:
        t, c, *sizes = levels[-1].shape
        z, y, x = (-(-n // f) for n, f in zip(sizes, step, strict=True))
        levels.append(Level((t, c, z, y, x), levels[0].chunk))
    method = "nearest" if image.is_mask and downsample == "mean" else downsample
    spec = ImageSpec(replace(image, levels=tuple(levels)), 0, method, steps=tuple(steps))
    return spec if steps else None
