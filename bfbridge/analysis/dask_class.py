"""A dask array of an image whose `compute` is a single read.

The only module that depends on internals of dask's Array class: its constructor and slots,
``_meta``, ``__dask_postcompute__``, and the way `compute` chooses a scheduler.
tests/private_apis/test_dask_class.py tests it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache, partial
from importlib import import_module
from itertools import accumulate, product
from typing import TYPE_CHECKING, Any

import numpy as np

from bfbridge.engine.workers import available_cpus, run

if TYPE_CHECKING:
    import dask.array

__all__ = ["image_array"]

Array = np.ndarray[Any, Any]


def image_array(plain: dask.array.Array, lazy: Any) -> dask.array.Array:
    """Return a dask array like `plain` whose `compute` is ``lazy[...]``.

    Parameters
    ----------
    plain
        The result of `dask.array.from_array` for `lazy`.
    lazy
        An array-like object; indexing it reads pixels.
    """
    array: dask.array.Array = _image_array_class()(
        plain.dask, plain.name, plain.chunks, meta=plain._meta
    )
    array._whole = (plain.name, lazy)  # type: ignore[attr-defined]
    return array


@cache
def _image_array_class() -> Any:
    """Return a dask array class that reads a whole image without a copy of each chunk.

    `compute` of the unchanged image, with threads and default settings of dask, is one read of the
    engine. For other schedulers all workers join the chunks: dask joins them with one thread, which
    for an image takes as long as reading it uncompressed.
    """
    base: Any = import_module("dask.array").Array

    class ImageArray(base):  # type: ignore[misc]
        __slots__ = ("_whole",)

        def compute(self, **options: Any) -> Any:
            name, lazy = self._whole
            # An assignment to a part of the array changes its name.
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
    """Return whether dask would compute with its default threads, without callbacks."""
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
    """Join computed chunks, nested by axis, to one array."""
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
