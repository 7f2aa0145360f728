"""Calls of AICSImageIO's API that AICSImageIO and `bfbridge.aics` both answer.

The cases are those of AICSImageIO's own tests of arrays and of its OME-TIFF writer, in short form.
``python -m tests.support.aicscalls OUT.json PYTHON`` asks the aicsimageio of that Python (4.14.0)
and stores what `tests/api/test_aics_calls.py` compares with.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["CASES", "CODE"]

KINDS = ("numpy", "dask", "xarray", "xarray of dask")
ARRAYS: list[dict[str, Any]] = [
    *({"shapes": [shape], **more} for shape, more in (
        ((4, 5), {}), ((3, 4, 5), {}), ((2, 3, 4, 5), {}), ((6, 2, 3, 4, 5), {}),
        ((1, 2, 1, 4, 5, 3), {}),
        ((2, 4, 5), {"dim_order": "CYX"}), ((4, 5, 2), {"dim_order": "YXC"}),
        ((4, 5, 3), {"dim_order": "YXS"}), ((2, 4, 5), {"dim_order": "TYX"}),
        ((2, 3, 4, 5), {"channel_names": ["A", "B"]}),
        ((2, 4, 5), {"dim_order": "CYX", "channel_names": ["A", "B"]}),
        ((3, 2, 4, 5), {"physical_pixel_sizes": [1.5, 0.25, 0.5]}),
        ((3, 4, 5), {"dim_order": "YX"}), ((3, 4, 5), {"dim_order": "CZYX"}),
    )),
    {"shapes": [(2, 4, 5), (3, 6, 7)], "dim_order": "CYX"},
    {"shapes": [(2, 4, 5), (3, 6, 7)], "dim_order": "CYX", "scene": "Image:1"},
    {"shapes": [(2, 4, 5), (3, 6, 7)], "dim_order": "CYX", "scene": 1},
    {"shapes": [(2, 4, 5), (3, 6, 7)], "dim_order": [None, "CYX"], "scene": 1},
    {"shapes": [(2, 3, 4, 5), (2, 3, 6, 7)], "channel_names": ["A", "B"], "scene": 1},
    {"shapes": [(2, 3, 4, 5), (3, 3, 6, 7)], "channel_names": [["A", "B"], ["C", "D", "E"]],
     "scene": 1},
    {"shapes": [(2, 4, 5), (3, 6, 7)], "dim_order": ["CYX", "CYX", "CYX"]},
    {"shapes": [(2, 3, 4, 5)], "scene": "Image:7"},
]  # fmt: skip
READS: list[dict[str, Any]] = [
    {"order": order, **chosen}
    for order, chosen in (
        ("ZYX", {}), ("CYX", {"Z": 1}), ("TCZYX", {"C": [0, 1]}), ("XYZ", {"C": 1}),
        ("CZYX", {"C": [1, 0]}), ("YX", {"Z": -1}), ("CYX", {"C": (0, 1)}), ("SYX", {"Q": 1}),
    )
]  # fmt: skip
WRITES: list[dict[str, Any]] = [
    *({"shapes": [shape], **more} for shape, more in (
        ((5, 16, 16), {}), ((5, 16, 20), {"dim_order": "ZYX"}), ((5, 16, 16), {"dim_order": "CYX"}),
        ((10, 5, 16, 20), {"dim_order": "ZCYX"}), ((5, 10, 16, 20), {"dim_order": "CZYX"}),
        ((16, 20), {}), ((15, 16), {"dim_order": "YX"}),
        ((2, 3, 3, 16, 20), {"dim_order": "TCZYX"}),
        ((1, 2, 3, 4, 16, 20), {"dim_order": "TCZYXS"}), ((16, 20, 3), {"dim_order": "YXS"}),
        ((1, 2, 3, 16, 20, 3), {}), ((2, 16, 20, 4), {"dim_order": "ZYXS"}),
        ((2, 3, 3, 16, 20, 16, 3), {}), ((5, 16, 16), {"dim_order": "AYX"}),
        ((5, 16, 16), {"dim_order": "CZYX"}), ((5,), {}),
        ((2, 16, 20), {"dim_order": "CYX", "channel_names": ["A", "B"], "image_name": "cells"}),
        ((2, 16, 20), {"dim_order": "CYX", "channel_colors": [[255, 0, 0], [0, 255, 0]]}),
        ((2, 16, 20), {"dim_order": "CYX", "channel_names": ["A"]}),
    )),
    {"shapes": [(5, 16, 16), (5, 16, 12)], "dim_order": "ZYX"},
    {"shapes": [(5, 16, 16), (2, 16, 12)], "dim_order": ["ZYX", "CYX"],
     "image_name": ["one", "two"]},
    {"shapes": [(5, 16, 16), (2, 16, 12)], "dim_order": ["ZYX"]},
]  # fmt: skip
CASES: list[tuple[str, str, dict[str, Any]]] = [
    *(("array", kind, given) for kind in KINDS for given in ARRAYS),
    *(("read", kind, given) for kind in KINDS[:2] for given in READS),
    *(("write", kind, given) for kind in KINDS[:2] for given in WRITES),
]
"""Call, kind of array, and arguments."""

CODE = r"""
import numpy as np


def made(shape, kind, number=0):
    array = (np.arange(int(np.prod(shape)), dtype=np.uint16) * 7 + number).reshape(shape)
    if "dask" in kind:
        import dask.array
        array = dask.array.from_array(array)
    if "xarray" in kind:
        import xarray
        array = xarray.DataArray(array)
    return array


def arrays(given, kind):
    found = [made(tuple(shape), kind, n) for n, shape in enumerate(given["shapes"])]
    return found[0] if len(found) == 1 else found


def answer(A, W, call, kind, given, folder):
    try:
        return {"array": ask_array, "read": ask_read, "write": ask_write}[call](
            A, W, kind, dict(given), folder)
    except Exception:
        return "error"


def ask_array(A, W, kind, given, folder):
    values = arrays(given, kind)
    scene = given.pop("scene", None)
    given.pop("shapes")
    image = A(values, **given)
    if scene is not None:
        image.set_scene(scene)
    reader = image.reader
    return {
        "scenes": list(image.scenes), "current": image.current_scene,
        "order": image.dims.order, "shape": list(image.shape), "names": image.channel_names,
        "data": [image.data.shape == image.shape, int(np.asarray(image.data).astype(int).sum())],
        "dask": list(image.dask_data.shape), "xarray": list(image.xarray_data.dims),
        "reader order": reader.dims.order, "reader shape": list(reader.shape),
        "reader data": int(np.asarray(reader.data).ravel()[-1]),
        "sizes": list(image.physical_pixel_sizes),
    }


def ask_read(A, W, kind, given, folder):
    image = A(made((2, 3, 4, 5), kind))
    order = given.pop("order")
    now = np.asarray(image.get_image_data(order, **given))
    later = np.asarray(image.get_image_dask_data(order, **given))
    return [list(now.shape), now.ravel()[:7].tolist(), later.ravel()[-7:].tolist()]


def ask_write(A, W, kind, given, folder):
    values = arrays(given, kind)
    given.pop("shapes")
    path = folder + "/a.ome.tiff"
    W.save(values, path, **given)
    image = A(path)
    told = []
    for scene in range(len(image.scenes)):
        image.set_scene(scene)
        channels = image.ome_metadata.images[scene].pixels.channels
        told.append({
            "order": image.dims.order, "shape": list(image.shape), "names": image.channel_names,
            "first": np.asarray(image.data).ravel()[:9].tolist(),
            "last": np.asarray(image.data).ravel()[-9:].tolist(),
            "name": image.ome_metadata.images[scene].name,
            "colors": [str(c.color) for c in channels] if "channel_colors" in given else None,
        })
    return told
"""
"""How an answer becomes JSON; it runs in both environments."""

_SCRIPT = (
    CODE
    + r"""
import json, logging, sys, tempfile, warnings
warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
from aicsimageio import AICSImage
from aicsimageio.writers import OmeTiffWriter
told = []
for call, kind, given in json.load(sys.stdin):
    with tempfile.TemporaryDirectory() as folder:
        told.append(answer(AICSImage, OmeTiffWriter, call, kind, given, folder))
print(json.dumps(told))
"""
)


if __name__ == "__main__":
    done = subprocess.run(
        [sys.argv[2], "-c", _SCRIPT], input=json.dumps(CASES), check=True, timeout=600,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    lines = ",\n".join(json.dumps(entry, sort_keys=True) for entry in json.loads(done.stdout))
    Path(sys.argv[1]).write_text(f"[\n{lines}\n]\n")
