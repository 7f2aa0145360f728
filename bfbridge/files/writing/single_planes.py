"""New images of which one channel and one time point only was written.

bfio's documented converter passes the metadata of the whole source to each of its files, and writes
``bw[..., 0, 0]``. Its files have C=1, T=1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from bfbridge.backend import ImageSpec
    from bfbridge.engine.assembler import LevelAssembler
    from bfbridge.files.writing.image_plans import ImagePlans

__all__ = ["find_single_stacks", "trimmed_specs", "untrimmed"]

Array = np.ndarray[Any, Any]


def find_single_stacks(
    assemblers: Sequence[Sequence[LevelAssembler]],
    specs: Sequence[ImageSpec],
    indices: Iterable[int],
) -> tuple[list[int], list[str]]:
    """Return which images have exactly C=0, T=0, and a sentence for each other one with gaps.

    Parameters
    ----------
    assemblers, specs
        Of all images.
    indices
        The images that are examined: those whose C and T come from ``metadata=`` alone.
    """
    found, remarks = [], []
    for index in indices:
        touched, complete = assemblers[index][0].written_planes()
        if _is_single(touched, complete, specs[index].image.samples):
            found.append(index)
        elif not touched.all():
            remarks.append(_unwritten(index, touched))
    return found, remarks


def _is_single(touched: Array, complete: Array, samples: int) -> bool:
    """Whether of the planes (T, C, Z) exactly those of the first channel at T=0 were written."""
    others = touched.copy()
    others[:1, :samples] = False
    return bool(complete[:1, :samples].all()) and not others.any()


def _unwritten(index: int, touched: Array) -> str:
    missing = int(touched.size - np.count_nonzero(touched))
    t, c, z = (int(positions[0]) for positions in np.nonzero(~touched))
    return (
        f"image {index}: {missing} of {touched.size} planes were never written, the first at "
        f"Z={z}, C={c}, T={t}. They have the fill value. The sizes C and T are those of metadata=; "
        "set bw.C and bw.T before the first write if the file has fewer planes."
    )


def trimmed_specs(
    plans: ImagePlans, specs: Sequence[ImageSpec], single: Sequence[int]
) -> list[ImageSpec]:
    """Reduce images to C=0, T=0, in their plans; return the new description of all images.

    Chunks stay as they are, so they may extend beyond the image.
    """
    for index in single:
        plans.trim(index)
    plans.settle()
    found = list(specs)
    for index in single:
        image = specs[index].image
        levels = tuple(
            replace(level, shape=(1, image.samples, *level.shape[2:])) for level in image.levels
        )
        found[index] = replace(specs[index], image=plans.record(index, levels))
    return found


def untrimmed(backend: str) -> str:
    """Return the message for a format whose files cannot be reduced."""
    return (
        f"only C=0, T=0 was written, and the {backend} backend cannot reduce a file afterwards. "
        "Set bw.C = 1 and bw.T = 1 before the first write."
    )
