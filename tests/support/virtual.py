"""What tests of virtual stores share."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import islice, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bfbridge import BioReader
from bfbridge.backend import Shape5
from bfbridge.engine.pyramid import reduce_block
from bfbridge.views import ImageView
from bfbridge.virtual.pyramid import VirtualImage

__all__ = [
    "assert_arrays_hold",
    "assert_store_holds",
    "check_some_chunks",
    "check_valid",
    "expected_levels",
    "materialize",
]

Array = np.ndarray[Any, Any]


def expected_levels(view: ImageView) -> list[Array]:
    """T, C, Z, Y, X of full size and its halves down to 512, by numpy."""
    full = np.ascontiguousarray(view.levels[0].read(keepdims=True).transpose(4, 3, 2, 0, 1))
    method = "nearest" if view.is_mask or view.dtype == np.bool_ else "mean"
    levels = [full]
    while max(levels[-1].shape[3:]) > 512:
        levels.append(np.ascontiguousarray(reduce_block(levels[-1], 2, method)))
    return levels


def same(a: Array, b: Array) -> bool:
    return a.dtype == b.dtype and a.tobytes() == np.ascontiguousarray(b).tobytes()


def assert_store_holds(store: Any, br: BioReader) -> None:
    """Compare every chunk of every array, as zarr reads it, with the reader's pixels."""
    assert_arrays_hold(store.hierarchy, br, lambda path: store.root[path])


def assert_arrays_hold(hierarchy: Any, br: BioReader, array_at: Callable[[str], Any]) -> None:
    """Compare every chunk of every array with the reader's pixels.

    `array_at` returns the array of a path: with a shape, a dtype and values by numpy's indexing.
    """
    for number, group in enumerate(hierarchy.places.groups):
        view = br.series[number]
        image = hierarchy.image(number)
        full = np.ascontiguousarray(view.read(keepdims=True).transpose(4, 3, 2, 0, 1))
        pixels = full
        for level, record in enumerate(image.levels):
            array = array_at(f"{group}/{level}" if group else str(level))
            assert array.shape == record.shape
            assert array.dtype == view.dtype
            below = pixels
            pixels = array[:]
            if level == 0:
                assert same(pixels, full), (group, level)
            elif record.stored is None:
                assert same(pixels, reduce_block(below, 2, image.method)), (group, level)
            else:
                stored = view.levels[record.stored].read(keepdims=True).transpose(4, 3, 2, 0, 1)
                rows, columns = record.held
                assert same(pixels[..., :rows, :columns], stored), (group, level)


def check_some_chunks(
    image: VirtualImage,
    view: ImageView,
    read: Callable[[int, Shape5, Shape5], Array] | None = None,
    most: int = 40,
) -> None:
    """Compare about `most` chunks spread over each level with the reader's pixels.

    `read` returns the pixels of a box of a level; default: those of the image itself.
    """
    read = image.read if read is None else read
    for number, level in enumerate(image.levels):
        total = math.prod(level.counts)
        indices = islice(product(*map(range, level.counts)), 0, None, max(1, total // most))
        for index in indices:
            (start, stop), source = level.box(index), number  # type: ignore[arg-type]
            pixels = read(number, start, stop)
            while image.levels[source].stored is None:
                source -= 1
            factor = 2 ** (number - source)
            shape = image.levels[source].shape
            first = [a * (factor if i > 2 else 1) for i, a in enumerate(start)]
            last = [
                min(b * (factor if i > 2 else 1), n)
                for i, (b, n) in enumerate(zip(stop, shape, strict=True))
            ]
            t, c, z, y, x = map(slice, first, last)
            stored = view.levels[image.levels[source].stored]
            wanted = stored.read(x, y, z, c, t, keepdims=True).transpose(4, 3, 2, 0, 1)
            for _ in range(number - source):
                wanted = reduce_block(wanted, 2, image.method)
            rows, columns = wanted.shape[3:]
            assert pixels.dtype == wanted.dtype
            np.testing.assert_array_equal(pixels[..., :rows, :columns], wanted)


def materialize(store: Any, folder: Path) -> None:
    """Write all of a store but its chunks into a folder."""
    hierarchy = store.hierarchy
    stack = [""]
    while stack:
        here = stack.pop()
        for name in hierarchy.list_dir(here):
            key = f"{here}/{name}" if here else name
            document = hierarchy.document(key)
            if document is not None:
                path = folder / key
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(document)
            elif hierarchy.chunk_name(key) is None and not _is_grid(hierarchy, key):
                stack.append(key)


def _is_grid(hierarchy: Any, key: str) -> bool:
    parts = key.split("/")
    return any("/".join(parts[:n]) in hierarchy._arrays for n in range(1, len(parts)))


def check_valid(store: Any, version: str) -> None:
    """Have yaozarrs judge the documents, where it is installed, and compare consolidated ones."""
    with TemporaryDirectory() as name:
        folder = Path(name) / "store.ome.zarr"
        folder.mkdir()
        materialize(store, folder)
        root = json.loads(
            (folder / ("zarr.json" if version == "0.5" else ".zmetadata")).read_text()
        )
        if version == "0.5":
            copies = root["consolidated_metadata"]["metadata"]
            found = {
                path.parent.relative_to(folder).as_posix(): json.loads(path.read_text())
                for path in folder.rglob("zarr.json")
                if path.parent != folder
            }
        else:
            copies = root["metadata"]
            found = {
                path.relative_to(folder).as_posix(): json.loads(path.read_text())
                for kind in (".zgroup", ".zattrs", ".zarray")
                for path in folder.rglob(kind)
            }
        assert copies == found
        try:
            import yaozarrs
        except ImportError:
            return
        yaozarrs.validate_zarr_store(str(folder))


def chunk_keys(hierarchy: Any, array: str) -> list[str]:
    """Names of all chunks of an array."""
    node = hierarchy._arrays[array]
    counts = hierarchy.image(node.image).levels[node.level].counts
    mark = "/c" if hierarchy.version == "0.5" else ""
    return [f"{array}{mark}/" + "/".join(map(str, index)) for index in product(*map(range, counts))]
