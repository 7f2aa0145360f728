"""Small images and styles that large_image and bfbridge both draw, for comparison.

``python -m tests.support.stylezoo OUT.json PYTHON`` draws them with the large_image of that Python
(an environment with large-image, large-image-source-tifffile and matplotlib) and stores what
`tests/rendering/test_rendering_large_image.py` compares with.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

__all__ = ["IMAGES", "JOBS", "draw_by_large_image", "make_images"]

Array = np.ndarray[Any, Any]
SHAPE = (24, 32)


def _pattern(*shape: int, step: int = 97) -> Array:
    """Return values that differ from pixel to pixel, in no order that a shift would keep."""
    count = int(np.prod(shape))
    return (np.arange(count) * step % count).reshape(shape)


def _gray16() -> Array:
    share = _pattern(*SHAPE) / np.prod(SHAPE)
    return (share**3 * 20_000 + 37).astype(np.uint16)


IMAGES: dict[str, tuple[Array, dict[str, Any]]] = {
    "gray8.tif": ((_pattern(*SHAPE) % 230 + 12).astype(np.uint8), {}),
    "gray16.tif": (_gray16(), {}),
    "rgb8.tif": (
        (_pattern(*SHAPE, 3, step=101) % 256).astype(np.uint8),
        {"photometric": "rgb"},
    ),
    "float.tif": (
        (_pattern(*SHAPE).astype(np.float32) / 50 - 5).astype(np.float32),
        {},
    ),
    "multi.ome.tif": (
        (_pattern(2, 3, *SHAPE, step=1009) % 4001).astype(np.uint16),
        {"metadata": {"axes": "ZCYX"}, "photometric": "minisblack"},
    ),
}

# Two-colour palettes from black are left out where values lie beyond the range: large_image goes on
# beyond the palette's end there, though its documentation has them clamped.
ANY: list[dict[str, Any]] = [
    {"min": "auto", "max": "auto"},
    {"min": "min", "max": "max"},
    {"min": "full", "max": "full"},
    {"min": "min:0.02", "max": "max:0.02"},
    {"min": "auto:0.1", "max": "auto:0.1"},
    {"min": "min", "max": "max", "palette": "#f80"},
    {"min": "min", "max": "max", "palette": "viridis"},
    {"min": "min:0.05", "max": "max:0.1", "palette": "inferno"},
    {"min": 50, "max": 3000, "palette": ["#000", "#f00", "#ff0", "#fff"]},
    {"min": 0, "max": 255, "palette": ["#000", "#f00", "#ff0", "#fff"], "scheme": "discrete"},
    {"min": "min", "max": "max", "palette": "colorbrewer.sequential.Blues_5"},
    {"min": "min", "max": "max", "palette": "matplotlib.Plasma_6"},
    {"min": "min", "max": "max", "palette": "rgb(10, 200, 30)"},
    {"min": "min", "max": "max", "palette": "hsl(200,50%,40%)"},
    {"min": "min", "max": "max", "palette": "hsv(200,50%,40%)"},
    {"min": "min", "max": "max", "palette": "rebeccapurple"},
    {"min": "min", "max": "max", "palette": ["#0004", "#f80c"]},
    {"min": "min", "max": "max", "palette": [[0.1, 0.2, 0.3], [0.9, 0.4, 0.0, 0.5]]},
    {"min": 200, "max": 50, "palette": ["#000", "#f00", "#ff0"]},
    {"min": 7, "max": 7},
    {"min": 60, "max": 180, "clamp": False, "palette": "#0f0"},
    {"min": 0, "max": 255, "nodata": 100, "palette": ["#000", "#8f0", "#ff0"]},
    {"min": "min", "max": "max", "dtype": "uint16", "palette": "#f80"},
    {"min": "min", "max": "max", "dtype": "float", "palette": "#f80"},
    {"min": "min", "max": "max", "dtype": "uint8"},
    {"min": "min", "max": "max", "dtype": "source", "palette": "#f80"},
    {"min": "min", "max": "max", "axis": 1, "palette": "#8f4"},
    {
        "bands": [
            {"palette": ["#000", "#f00", "#f08"], "min": 0, "max": 200},
            {"palette": ["#000", "#0f0", "#0f4"], "min": 50, "max": 255},
        ]
    },
    {
        "bands": [
            {"palette": "#f80", "min": "min", "max": "max"},
            {"palette": ["#fff", "#08f"], "min": "min", "max": "max", "composite": "multiply"},
        ]
    },
    {
        "bands": [
            {"palette": "#f80", "min": "min", "max": "max"},
            {
                "palette": ["#fff", "#00f", "#0f0"],
                "min": 50,
                "max": 255,
                "composite": "multiply",
                "nodata": 120,
            },
        ]
    },
]
RGB: list[dict[str, Any]] = [
    {
        "bands": [
            {"band": 1, "palette": ["#000", "#0f0"]},
            {"band": 2, "palette": ["#000", "#f00"]},
            {"band": 3, "palette": ["#000", "#00f"]},
        ]
    },
    {"band": "red"},
    {"band": "green"},
    {"band": "blue"},
    {"band": "gray"},
    {"band": -1},
    {"band": 2, "palette": "magma"},
    {"bands": [{"band": "red", "palette": "#f00"}, {"band": "alpha"}]},
]
MULTI: list[dict[str, Any]] = [
    {
        "bands": [
            {"frame": 0, "palette": "#f00", "min": "min", "max": "max"},
            {"frame": 1, "palette": "#0f0", "min": "min", "max": "max"},
            {"frame": 5, "palette": "#00f", "min": "min", "max": "max"},
        ]
    },
    {
        "bands": [
            {"framedelta": 0, "palette": "#0000FF", "max": 4001},
            {"framedelta": 1, "palette": "#00FF00", "max": 4001},
            {"framedelta": 2, "palette": "#FF0000", "max": 4001},
        ]
    },
    {"min": "min:0.05", "max": "max:0.05", "palette": "cividis"},
]

JOBS: list[tuple[str, dict[str, Any], int]] = [
    *((name, style, 0) for name in ("gray8.tif", "gray16.tif", "float.tif") for style in ANY),
    *(("rgb8.tif", style, 0) for style in ANY[:8] + RGB),
    *(("multi.ome.tif", style, frame) for style in MULTI for frame in (0, 1, 3)),
]
"""Image, style, frame."""

_SCRIPT = """
import base64, json, logging, sys, warnings
warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
import large_image, numpy as np
from large_image.constants import TILE_FORMAT_NUMPY
found = []
for path, style, frame, region in json.load(open(sys.argv[1])):
    source = large_image.open(path, style=style, noCache=True)
    pixels, _ = source.getRegion(format=TILE_FORMAT_NUMPY, frame=frame, **region)
    kind = "float32" if style.get("dtype") == "float" or (
        style.get("dtype") == "source" and "float" in path) else None
    if pixels.dtype.kind == "f" and kind is None:
        pixels = np.clip(np.nan_to_num(pixels), 0, 255)
        pixels = np.rint(pixels).astype("uint8")
    pixels = np.ascontiguousarray(pixels)
    found.append({"shape": pixels.shape, "dtype": pixels.dtype.name,
                  "data": base64.b64encode(pixels.tobytes()).decode()})
json.dump(found, open(sys.argv[2], "w"))
"""


def make_images(folder: Path) -> None:
    """Write all images."""
    for name, (pixels, options) in IMAGES.items():
        tifffile.imwrite(folder / name, pixels, tile=(16, 16), **options)


def draw_by_large_image(
    python: str, jobs: list[tuple[Path, dict[str, Any], int, dict[str, Any]]], folder: Path
) -> list[Array]:
    """Return what large_image draws: (path, style, frame, arguments of getRegion) each."""
    asked, told = folder / "asked.json", folder / "told.json"
    asked.write_text(json.dumps([(str(path), *rest) for path, *rest in jobs]))
    command = [python, "-c", _SCRIPT, str(asked), str(told)]
    subprocess.run(command, check=True, timeout=600, capture_output=True)
    return [unpacked(entry) for entry in json.loads(told.read_text())]


def unpacked(entry: dict[str, Any]) -> Array:
    """Return an array as it was stored."""
    data = base64.b64decode(entry["data"])
    return np.frombuffer(data, entry["dtype"]).reshape(entry["shape"])


def packed(pixels: Array) -> dict[str, Any]:
    """Return an array as it is stored."""
    pixels = np.ascontiguousarray(pixels)
    return {
        "shape": list(pixels.shape),
        "dtype": pixels.dtype.name,
        "data": base64.b64encode(pixels.tobytes()).decode(),
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        make_images(work)
        drawn = draw_by_large_image(
            sys.argv[2], [(work / image, style, frame, {}) for image, style, frame in JOBS], work
        )
        # A quarter of each picture shows as much.
        small = [packed(pixels[::2, ::2]) for pixels in drawn]
    lines = ",\n".join(json.dumps(entry) for entry in small)
    Path(sys.argv[1]).write_text(f"[\n{lines}\n]\n")
