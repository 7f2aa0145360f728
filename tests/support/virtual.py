"""What tests of virtual stores share."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bfbridge import BioReader
from bfbridge.engine.pyramid import reduce_block
from bfbridge.views import ImageView

__all__ = ["assert_store_holds", "check_valid", "expected_levels", "materialize"]

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
    """Compare every chunk of every array with the reader's pixels, by the sync path and by zarr."""
    hierarchy, root = store.hierarchy, store.root
    for number, group in enumerate(hierarchy.places.groups):
        view = br.series[number]
        image = hierarchy.image(number)
        full = np.ascontiguousarray(view.read(keepdims=True).transpose(4, 3, 2, 0, 1))
        for level, record in enumerate(image.levels):
            array = root[f"{group}/{level}" if group else str(level)]
            assert array.shape == record.shape
            assert array.dtype == view.dtype
            pixels = array[:]
            if level == 0:
                assert same(pixels, full), (group, level)
            elif record.stored is None:
                below = root[f"{group}/{level - 1}" if group else str(level - 1)][:]
                assert same(pixels, reduce_block(below, 2, image.method)), (group, level)
            else:
                stored = view.levels[record.stored].read(keepdims=True).transpose(4, 3, 2, 0, 1)
                rows, columns = record.held
                assert same(pixels[..., :rows, :columns], stored), (group, level)


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
