"""A dask array of an image that `compute` reads in one call.

The only module that relies on how dask's Array class works inside: its constructor and slots,
``_meta``, ``__dask_postcompute__``, and how `compute` chooses a scheduler.
tests/private_apis/test_dask_class.py tests it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache, partial
from importlib import import_module
from itertools import accumulate, product
from typing import TYPE_CHECKING, Any

import numpy as np

from bfbridge.engine.tiles import available_cpus, run

if TYPE_CHECKING:
    import dask.array

__all__ = ["image_array"]

Array = np.ndarray[Any, Any]


def image_array(plain: dask.array.Array, lazy: Any) -> dask.array.Array:
    """Return a dask array like `plain` whose `compute` is ``lazy[...]``.

    Parameters
    ----------
    plain
        What `dask.array.from_array` made of `lazy`.
    lazy
        An array-like; indexing it reads pixels.
    """
    array: dask.array.Array = _image_array_class()(
        plain.dask, plain.name, plain.chunks, meta=plain._meta
    )
    array._whole = (plain.name, lazy)  # type: ignore[attr-defined]
    return array


@cache
def _image_array_class() -> Any:
    """Return a dask array class that reads a whole image without a copy of each chunk.

    `compute` of the image as it is, by threads, is one read of the engine, where nobody asked dask
    for anything else. Other schedulers' chunks are joined by all workers: dask joins with one
    thread, which for an image costs as much as reading it uncompressed.
    """
    base: Any = import_module("dask.array").Array

    class ImageArray(base):  # type: ignore[misc]
        __slots__ = ("_whole",)

        def compute(self, **options: Any) -> Any:
            name, lazy = self._whole
            # An assignment to a part of the array gives it another name.
            if options or name != self.name or not _by_plain_threads(self):
                return super().compute(**options)
            return lazy[...]

        def __dask_postcompute__(self) -> Any:
            if self.npartitions == 1:
                return super().__dask_postcompute__()
            return _join, (self.chunks, self.dtype)

    ImageArray.__name__ = ImageArray.__qualname__ = "Array"
    return ImageArray


def _by_plain_threads(array: Any) -> bool:
    """Whether dask would compute with as many threads as it likes, unwatched."""
    config: Any = import_module("dask.config")
    scheduler = import_module("dask.base").get_scheduler(collections=[array])
    return (
        scheduler is import_module("dask.threaded").get
        and not import_module("dask.callbacks").Callback.active
        and config.get("num_workers", None) is None
        and config.get("pool", None) is None
    )


def _flatten(nested: Any, depth: int) -> Iterator[Array]:
    if depth == 0:
        yield nested
        return
    for part in nested:
        yield from _flatten(part, depth - 1)


def _join(results: Any, chunks: Sequence[Sequence[int]], dtype: np.dtype[Any]) -> Array:
    """Put computed chunks, nested by axis, into one array."""
    out = np.empty(tuple(sum(axis) for axis in chunks), dtype)
    places = product(
        *(
            [slice(stop - n, stop) for n, stop in zip(axis, accumulate(axis), strict=True)]
            for axis in chunks
        )
    )
    blocks = zip(places, _flatten(results, len(chunks)), strict=True)
    run((partial(out.__setitem__, place, block) for place, block in blocks), available_cpus())
    return out
