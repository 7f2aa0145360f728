"""Calls that large_image's rasterio source and `bfbridge.large_image` both answer.

``python -m tests.support.largeimagemaps OUT.json PYTHON`` asks the large_image of that Python (an
environment with large-image and large-image-source-rasterio, without pyproj) and stores what
`tests/geotiff/test_large_image_maps.py` compares with.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["CODE", "make_raster"]


def make_raster(path: Path) -> None:
    """Write a raster of red, green and blue in UTM."""
    import numpy as np
    import rasterio

    y, x = np.mgrid[0:700, 0:900]
    bands = [(y * 3 + x * 5) % 251, (y * 7 + x) % 241, (x * y) % 239]
    with rasterio.open(
        path, "w", driver="GTiff", count=3, dtype="uint8", height=700, width=900,
        crs="EPSG:32633", transform=rasterio.Affine(10, 0, 5e5, 0, -20, 5.2e6), tiled=True,
        blockxsize=128, blockysize=256, photometric="RGB",
    ) as made:  # fmt: skip
        made.write(np.stack(bands).astype(np.uint8))


CODE = r"""
import hashlib
import numpy as np

META = ("levels", "sizeX", "sizeY", "tileWidth", "tileHeight", "mm_x", "mm_y", "dtype", "bandCount",
        "geospatial", "sourceLevels", "sourceSizeX", "sourceSizeY", "bounds", "sourceBounds")
BOX = {"left": 15.02, "top": 46.9, "right": 15.04, "bottom": 46.89}
REGIONS = {
    "projection": {"left": 1671000, "top": 5932000, "width": 2000, "height": -1000,
                   "units": "projection"},
    "degrees": {**BOX, "units": "EPSG:4326"},
    "wgs84": {**BOX, "units": "wgs84"},
    "proj4": {**BOX, "units": "proj4:EPSG:4326"},
    "size": {"left": 15.02, "top": 46.9, "width": 0.02, "height": -0.01, "units": "EPSG:4326"},
    "pixels": {"left": 2272000, "top": 1477000, "width": 130, "height": 90},
}


def plain(value):
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if isinstance(value, (float, np.floating)):
        return float(f"{float(value):.8g}")
    return value.item() if isinstance(value, np.generic) else value


def pixels(array):
    # large_image returns bytes as float32.
    array = np.ascontiguousarray(array.astype(np.uint8))
    return [list(array.shape), hashlib.sha1(array.tobytes()).hexdigest()[:12]]


def answers(world, native):
    # `world` is open in EPSG:3857, `native` without a projection.
    told = {"metadata": {key: plain(world.getMetadata()[key]) for key in META}}
    for z, x, y in ((14, 8876, 5768), (14, 8875, 5765), (11, 1109, 721), (8, 138, 90)):
        told[f"tile {z} {x} {y}"] = pixels(world.getTile(x, y, z, numpyAllowed="always"))
    told["corners"] = plain(world.getTileCorners(14, 8876, 5768))
    told["projected"] = plain([world.pixelToProjection(1000, 2000),
                               world.pixelToProjection(10, 20, 3)])
    told["native"] = plain([world.toNativePixelCoordinates(1700000, 5900000),
                            world.toNativePixelCoordinates(15.03, 46.9, "EPSG:4326", False),
                            native.toNativePixelCoordinates(500100, 5199000, "EPSG:32633"),
                            native.pixelToProjection(10, 20)])
    told["scale"] = plain([world.getPixelSizeInMeters(), world.getNativeMagnification(),
                           native.getPixelSizeInMeters()])
    told["geospatial"] = [world.geospatial, native.geospatial, str(world.getCrs()),
                          str(native.getCrs())]
    told["bounds"] = plain([native.getBounds(), native.getBounds("EPSG:4326"), world.getBounds()])
    told["center"] = plain([world.getCenter(), native.getCenter()])
    for name, region in REGIONS.items():
        told[f"region {name}"] = pixels(world.getRegion(region=region, format="numpy")[0][..., :3])
        small = world.getRegion(region=region, format="numpy", output={"maxWidth": 50})[0]
        told[f"small {name}"] = list(small.shape)
        if name in ("degrees", "size"):
            array = native.getRegion(region=region, format="numpy")[0]
            told[f"native {name}"] = pixels(array[..., :3])
    told["thumbnail"] = list(world.getThumbnail(format="numpy")[0].shape)
    pixel = world.getPixel(region={"left": 15.03, "top": 46.95, "units": "EPSG:4326"})
    told["pixel"] = plain({key: pixel[key] for key in ("value", "r", "g", "b", "a", "bands")})
    tiles = world.tileIterator(region=REGIONS["degrees"], format="numpy")
    told["tiles"] = [[tile["x"], tile["y"], tile["width"], tile["height"],
                      pixels(tile["tile"][..., :3])] for tile in tiles]
    told["point"] = plain(world.getPointAtAnotherScale((3, 4)))
    told["interpretation"] = [band["interpretation"]
                              for _, band in sorted(world.getBandInformation().items())]
    return told
"""
"""How both answer; it runs in both environments."""

_SCRIPT = (
    CODE
    + r"""
import json, sys, warnings
warnings.simplefilter("ignore")
import large_image_source_rasterio as source
world = source.open(sys.argv[1], projection="EPSG:3857", noCache=True)
native = source.open(sys.argv[1], projection=None, noCache=True)
json.dump(answers(world, native), open(sys.argv[2], "w"))
"""
)


def ask_large_image(python: str, folder: Path) -> dict[str, Any]:
    """Return large_image's answers about the raster."""
    raster, told = folder / "raster.tif", folder / "told.json"
    make_raster(raster)
    subprocess.run([python, "-c", _SCRIPT, str(raster), str(told)], check=True, timeout=600)
    found: dict[str, Any] = json.loads(told.read_text())
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        found = ask_large_image(sys.argv[2], Path(name))
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in found.items())
    Path(sys.argv[1]).write_text(f"{{\n{lines}\n}}\n")
