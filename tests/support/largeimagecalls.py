"""Calls of large_image's API that large_image and `bfbridge.large_image` both answer.

``python -m tests.support.largeimagecalls OUT.json PYTHON`` asks the large_image of that Python (an
environment with large-image and its sources tifffile, tiff and zarr) and stores
what `tests/integrations/test_large_image.py` compares with.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from bfbridge import BioWriter

__all__ = ["CALLS", "CODE", "make_images"]

Array = np.ndarray[Any, Any]


def _noise(*shape: int, most: int, dtype: Any) -> Array:
    """Return values without order, the same every time."""
    count = int(np.prod(shape))
    mixed = (np.arange(count, dtype=np.uint64) * 2654435761 >> 7) % most
    return mixed.astype(dtype).reshape(shape)


def make_images(folder: Path) -> None:
    """Write a pyramid of RGB with 0.5 µm pixels, and 12 frames of uint16, as TIFF and Zarr."""
    sizes = [(500, 700), (250, 350), (125, 175)]
    with tifffile.TiffWriter(folder / "slide.tif") as tiff:
        for number, size in enumerate(sizes):
            tiff.write(
                _noise(*size, 3, most=251, dtype=np.uint8),
                tile=(128, 128), photometric="rgb", resolution=(20_000, 20_000),
                resolutionunit="CENTIMETER", subfiletype=int(number > 0), metadata=None,
            )  # fmt: skip
    frames = _noise(2, 3, 2, 140, 200, most=4001, dtype=np.uint16)
    with BioWriter(
        folder / "frames.ome.zarr", X=200, Y=140, Z=3, C=2, T=2, dtype="uint16", version="0.4"
    ) as bw:
        bw.ps_x = bw.ps_y = (0.5, "µm")
        bw.channel_names = ["DAPI", "GFP"]
        bw[:] = frames.transpose(3, 4, 1, 2, 0)
    tifffile.imwrite(
        folder / "frames.ome.tif",
        frames,
        metadata={
            "axes": "TZCYX", "Channel": {"Name": ["DAPI", "GFP"]}, "PhysicalSizeX": 0.5,
            "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "µm",
        },
        photometric="minisblack", tile=(128, 128),
    )  # fmt: skip


SLIDE, FRAMES, ZARR = "slide.tif", "frames.ome.tif", "frames.ome.zarr"
MM = {"left": 0.05, "top": 0.03, "width": 0.1, "height": 0.09, "units": "mm"}
CALLS: list[tuple[str, str, dict[str, Any]]] = [
    (SLIDE, "metadata", {}),
    (FRAMES, "metadata", {}),
    (SLIDE, "region", {}),
    (SLIDE, "region", {"region": {"left": 10, "top": 20, "width": 33, "height": 21}}),
    (SLIDE, "region", {"region": {"left": 10, "top": 20, "right": 40, "bottom": 41}}),
    (SLIDE, "region", {"region": {"left": -33, "top": -21}}),
    (SLIDE, "region", {"region": {"right": 50, "bottom": 60, "width": 20, "height": 30}}),
    (SLIDE, "region", {"region": {"left": 680, "top": 480, "width": 100, "height": 100}}),
    (SLIDE, "region", {"region": {"left": 900, "top": 20, "width": 10, "height": 10}}),
    (SLIDE, "region", {"region": MM}),
    (SLIDE, "region", {"region": {**MM, "unitsWH": "base_pixels", "width": 7, "height": 9}}),
    (SLIDE, "region", {"region": {"left": 50, "top": 30, "width": 60, "height": 40,
                                  "units": "um"}}),
    (SLIDE, "region", {"region": {"left": 0.1, "top": 0.2, "right": 0.4, "bottom": 0.3,
                                  "units": "fraction"}}),
    (SLIDE, "region", {"region": {"left": 10, "top": 10, "width": 40, "height": 30,
                                  "units": "mag_pixels"}, "scale": {"magnification": 5}}),
    (SLIDE, "region", {"scale": {"magnification": 10}}),
    (SLIDE, "region", {"scale": {"mm_x": 0.002}}),
    (SLIDE, "region", {"scale": {"mm_x": 0.002, "mm_y": 0.002}, "region": MM}),
    (SLIDE, "region", {"scale": {"magnification": 7}}),
    (SLIDE, "region", {"output": {"maxWidth": 350, "maxHeight": 350}}),
    (SLIDE, "region", {"output": {"maxWidth": 100}}),
    (SLIDE, "region", {"output": {"maxHeight": 77}}),
    (SLIDE, "region", {"region": {"left": 100, "top": 100, "width": 10, "height": 300},
                       "output": {"maxWidth": 64, "maxHeight": 64}}),
    (FRAMES, "region", {"frame": 7, "region": {"left": 3, "top": 4, "width": 20, "height": 10}}),
    *((SLIDE, "tiles", options) for options in (
        {}, {"tile_size": {"width": 200}}, {"tile_size": {"width": 300, "height": 200}},
        {"tile_size": {"width": 200}, "tile_overlap": {"x": 20, "y": 11}},
        {"tile_size": {"width": 200}, "tile_overlap": {"x": 21, "y": 12, "edges": True}},
        {"tile_size": {"width": 64}, "tile_overlap": {"x": 60, "y": 60},
         "region": {"left": 100, "top": 100, "width": 80, "height": 70}},
        {"region": {"left": 130, "top": 60, "width": 150, "height": 100}},
        {"region": {"left": 130, "top": 60, "width": 300, "height": 200},
         "tile_offset": {"auto": True}, "tile_size": {"width": 90}},
        {"tile_offset": {"left": 30, "top": 50}, "tile_size": {"width": 170}},
        {"region": MM, "tile_size": {"width": 100}},
        {"scale": {"magnification": 10}},
        {"scale": {"magnification": 10, "exact": True}},
        {"scale": {"magnification": 7, "exact": True}},
        {"scale": {"magnification": 7}, "resample": False},
        {"scale": {"magnification": 7}, "tile_size": {"width": 100}},
        {"output": {"maxWidth": 200}, "tile_size": {"width": 90}},
        {"tile_position": 4}, {"tile_position": 100},
        {"tile_position": {"region_x": 1, "region_y": 2}},
        {"tile_position": {"level_x": 2, "level_y": 1},
         "region": {"left": 130, "top": 60, "width": 300, "height": 200}},
    )),
    *((SLIDE, "tile", {"x": x, "y": y, "z": z})
      for x, y, z in ((0, 0, 3), (4, 2, 3), (2, 1, 2), (0, 0, 1), (0, 0, 0))),
    *((SLIDE, "tile_error", {"x": x, "y": y, "z": z}) for x, y, z in ((6, 0, 3), (0, 0, 9))),
    (FRAMES, "tile", {"x": 1, "y": 0, "z": 1, "frame": 5}),
    *((SLIDE, "thumbnail", options)
      for options in ({}, {"width": 100}, {"height": 50}, {"width": 40, "height": 100})),
    (SLIDE, "pixel", {"region": {"left": 12, "top": 34}}),
    (SLIDE, "pixel", {"region": {"left": 0.1, "top": 0.1, "units": "mm"}}),
    (SLIDE, "pixel", {"region": {"left": 7000, "top": 34}}),
    (FRAMES, "pixel", {"region": {"left": 12, "top": 34}, "frame": 11}),
    (SLIDE, "histogram", {"bins": 8}),
    (SLIDE, "histogram", {"bins": 5, "density": True,
                          "region": {"left": 10, "top": 20, "width": 40, "height": 60}}),
    (FRAMES, "histogram", {"bins": 7, "frame": 3}),
    (FRAMES, "histogram", {"bins": 700, "frame": 3, "range": "round"}),
    (FRAMES, "histogram", {"bins": 6, "frame": 3, "range": [0, 3000]}),
    (FRAMES, "histogram", {"onlyMinMax": True, "frame": 2}),
    (SLIDE, "bands", {"statistics": False}),
    (FRAMES, "bands", {"statistics": True}),
    *((SLIDE, "level", {"magnification": n, **extra})
      for n in (None, 20, 10, 7, 3, 80, 0.1)
      for extra in ({}, {"rounding": None}, {"rounding": "ceil"}, {"exact": True})),
    *((SLIDE, "magnification", {"level": n}) for n in (None, 0, 1, 3)),
    *((FRAMES, "axes", {"frame": n}) for n in (0, 5, 11)),
    (FRAMES, "frame", {"c": 1, "t": 1}),
    (FRAMES, "frame", {"z": 2}),
    (SLIDE, "convert", {"sourceRegion": MM, "targetUnits": "base_pixels"}),
    (SLIDE, "convert", {"sourceRegion": {"left": 5, "top": 6, "width": 40, "height": 50,
                                         "units": "mag_pixels"},
                        "sourceScale": {"magnification": 5}, "targetScale": {"magnification": 10},
                        "targetUnits": "mag_pixels"}),
    (FRAMES, "count", {"tile_size": {"width": 50}}),
    (ZARR, "metadata", {}),
    (ZARR, "region", {}),
    (ZARR, "region", {"frame": 7}),
    (ZARR, "region", {"frame": 3, "region": {"left": 0.02, "top": 0.03, "width": 0.03,
                                             "height": 0.02, "units": "mm"}}),
    (ZARR, "region", {"frame": 2, "output": {"maxWidth": 50}}),
    (ZARR, "pixel", {"region": {"left": 12, "top": 34}, "frame": 11}),
    (ZARR, "histogram", {"bins": 7, "frame": 3}),
    (ZARR, "tiles", {"tile_size": {"width": 100}, "frame": 1}),
]  # fmt: skip
"""Image, call and its arguments."""

CODE = r"""
import hashlib
import json
import numpy as np

KEYS = ("x", "y", "width", "height", "level", "level_x", "level_y", "magnification", "mm_x", "mm_y",
        "gx", "gy", "gwidth", "gheight", "tile_overlap", "tile_position", "iterator_range",
        "tile_width", "tile_height", "scaled")
META = ("levels", "sizeX", "sizeY", "tileWidth", "tileHeight", "magnification", "mm_x", "mm_y",
        "dtype", "bandCount", "IndexRange", "IndexStride", "frames")


def plain(value):
    # Numbers rounded, arrays as lists.
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim):
        return [plain(v) for v in value]
    if isinstance(value, (float, np.floating)):
        short = float(f"{float(value):.9g}")
        return int(short) if short.is_integer() else short
    return value.item() if isinstance(value, (np.generic, np.ndarray)) else value


def pixels(array, exact):
    # What two arrays must share: of resampled ones the size only.
    if not array.size:
        return {"shape": list(array.shape)}
    found = {"shape": list(array.shape), "dtype": str(array.dtype)}
    if exact:
        found["sha"] = hashlib.sha1(np.ascontiguousarray(array).tobytes()).hexdigest()[:12]
    return found


def answer(source, call, given):
    exact = not {"output", "scale"} & set(given)
    if call == "metadata":
        found = source.getMetadata()
        for frame in found.get("frames", []):
            frame.pop("Channel", None)
        return plain({k: found[k] for k in META if k in found})
    if call == "region":
        try:
            return pixels(source.getRegion(format="numpy", **given)[0], exact)
        except ValueError:
            return {"shape": [0, 0]}
    if call == "thumbnail":
        return pixels(source.getThumbnail(format="numpy", **given)[0], False)
    if call == "tiles":
        iterator = source.tileIterator(format="numpy", **given)
        told = []
        for tile in iterator:
            array = tile["tile"]
            told.append([[tile.get(k) for k in KEYS], pixels(array, exact)])
        return {"count": 0 if iterator.info is None else iterator.info["tile_count"],
                "sha": hashlib.sha1(json.dumps(plain(told), sort_keys=True).encode()).hexdigest(),
                "first": plain(told[:1] + told[-1:])}
    if call == "tile":
        array = source.getTile(**given, numpyAllowed="always")
        z = given["z"]
        steps = source.levels - 1 - z
        rows = (source.sizeY >> steps) - given["y"] * source.tileHeight
        columns = (source.sizeX >> steps) - given["x"] * source.tileWidth
        return [list(array.shape), pixels(array[:rows, :columns], not steps)]
    if call == "tile_error":
        try:
            source.getTile(**given)
        except Exception as error:
            return "error"
    if call == "pixel":
        return plain(dict(source.getPixel(**given)))
    if call == "histogram":
        found = source.histogram(**given)
        for entry in found.get("histogram", []):
            entry.pop("samples", None) if not exact else None
        return plain(found)
    if call == "bands":
        return plain(dict(sorted(source.getBandInformation(**given).items())))
    if call == "level":
        return plain(source.getLevelForMagnification(**given))
    if call == "magnification":
        return plain(source.getMagnificationForLevel(**given))
    if call == "axes":
        return plain(source.frameToAxes(**given))
    if call == "frame":
        return plain(source.axesToFrame(**given))
    if call == "convert":
        return plain(source.convertRegionScale(**given))
    if call == "count":
        return source.getTileCount(**given)
    raise AssertionError(call)
"""
"""How an answer becomes JSON; it runs in both environments."""

_SCRIPT = (
    CODE
    + r"""
import json, logging, sys, warnings
warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
import large_image
from large_image_source_tifffile import TifffileFileTileSource
from large_image_source_tiff import TiffFileTileSource
from large_image_source_zarr import ZarrFileTileSource
told = []
for path, call, given in json.load(open(sys.argv[1])):
    reader = TiffFileTileSource if path.endswith("slide.tif") else TifffileFileTileSource
    if path.endswith(".zarr"):
        reader, path = ZarrFileTileSource, path + "/.zattrs"
    source = reader(path, style=None, noCache=True)
    told.append(answer(source, call, given))
json.dump(told, open(sys.argv[2], "w"))
"""
)


def ask_large_image(python: str, folder: Path) -> list[Any]:
    """Return large_image's answers about the images of a folder."""
    asked, told = folder / "asked.json", folder / "told.json"
    asked.write_text(json.dumps([(str(folder / name), *rest) for name, *rest in CALLS]))
    subprocess.run([python, "-c", _SCRIPT, str(asked), str(told)], check=True, timeout=600)
    found: list[Any] = json.loads(told.read_text())
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        make_images(Path(name))
        answers = ask_large_image(sys.argv[2], Path(name))
    lines = ",\n".join(json.dumps(entry, sort_keys=True) for entry in answers)
    Path(sys.argv[1]).write_text(f"[\n{lines}\n]\n")
