"""Stores as napari's reader plug-in and ome-zarr-py open them.

Both come with packages that these tests should not have beside them (napari brings npe2 and Qt), so
they run in an environment of their own, whose Python an environment variable names:

    python -m venv others
    others/bin/python -m pip install napari-ome-zarr ome-zarr
    export BFBRIDGE_OTHERS_PYTHON=$PWD/others/bin/python
    python -m pytest -m slow tests/omezarr/test_omezarr_others.py
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader, BioWriter
from bfbridge.backend import Channel, Image, ImageSpec, Level
from bfbridge_omezarr import OmeZarrWriter
from bfbridge_omezarr.attributes.ome import make_ome

PYTHON = os.environ.get("BFBRIDGE_OTHERS_PYTHON")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="BFBRIDGE_OTHERS_PYTHON names no Python"),
]

# Prints nothing: every array of every layer goes to a file, called by reader, layer and level.
SCRIPT = """
import sys, warnings
warnings.simplefilter("ignore")
import numpy as np, ome_zarr.io, ome_zarr.reader
from napari_ome_zarr import napari_get_reader
path, out = sys.argv[1:]
found = {}
layers = napari_get_reader(path)(path)
for number, (levels, _, kind) in enumerate(layers):
    for level, values in enumerate(levels):
        found[f"napari {kind} {number} {level}"] = np.asarray(values)
if len(layers) == 1:
    (node,) = ome_zarr.reader.Reader(ome_zarr.io.parse_url(path))()
    for level, values in enumerate(node.data):
        found[f"ome-zarr-py image 0 {level}"] = np.asarray(values)
np.savez(out, **found)
"""

SHAPE = (150, 210, 2, 3, 2)
VALUES = np.random.default_rng(0).integers(1, 60_000, SHAPE).astype(np.uint16)
LAYOUTS: dict[str, dict[str, Any]] = {
    "0.4": {"version": "0.4"},
    "0.4, uncompressed": {"version": "0.4", "compression": "none"},
    "0.5": {},
    "0.5, sharded": {"shards": 128},
    "0.5, LZ4": {"compression": "blosc-lz4"},
    "0.5, Zstandard": {"compression": "zstd"},
    "0.5, blocks": {"chunks": (2, 3, 2, 64, 64)},
}
layouts = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


def seen(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    out = path.parent / "seen.npz"
    told = subprocess.run(
        [str(PYTHON), "-c", SCRIPT, str(path), str(out)],
        capture_output=True, text=True, timeout=110, check=False,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    )  # fmt: skip
    assert told.returncode == 0, told.stderr[-3000:]
    with np.load(out) as found:
        return dict(found)


def stored_order(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return values.transpose(4, 3, 2, 0, 1)


@layouts
def test_every_level_of_an_image(tmp_path: Path, layout: dict[str, Any]) -> None:
    path = tmp_path / "a.ome.zarr"
    with BioWriter(path, image=VALUES, pyramid=2, **({"chunks": 64} | layout)) as bw:
        bw[:] = VALUES
    with BioReader(path) as br:
        expected = [stored_order(level.read(keepdims=True)) for level in br.levels]
    np.testing.assert_array_equal(expected[0], stored_order(VALUES))
    found = seen(path)
    assert len(found) == 2 * 3
    for name, values in found.items():
        np.testing.assert_array_equal(values, expected[int(name[-1])], err_msg=name)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_several_images(tmp_path: Path, version: str) -> None:
    path = tmp_path / "many.ome.zarr"
    parts = [VALUES[..., t : t + 1] for t in range(2)]
    write_images(path, parts, version)
    found = seen(path)
    images = [values for name, values in found.items() if name.startswith("napari image")]
    assert len(images) == 2
    for values, part in zip(images, parts, strict=True):
        np.testing.assert_array_equal(values, stored_order(part))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_labels(tmp_path: Path, version: str) -> None:
    path = tmp_path / "labelled.ome.zarr"
    labels = (VALUES[:, :, :, :1] % 5).astype(np.uint16)
    write_images(path, [VALUES, labels], version, roles=("image", "label"))
    found = {name.split()[1]: values for name, values in seen(path).items()}
    np.testing.assert_array_equal(found["image"], stored_order(VALUES))
    np.testing.assert_array_equal(
        found["labels"].reshape(stored_order(labels).shape), stored_order(labels)
    )


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_plate(tmp_path: Path, version: str) -> None:
    path = tmp_path / "plate.ome.zarr"
    parts = [VALUES[..., t : t + 1] + np.uint16(i) for i, t in enumerate((0, 1, 0, 1))]
    write_images(path, parts, version, wells=["A1", "A2", "B1", "B2"])
    a1, a2, b1, b2 = map(stored_order, parts)
    whole = np.concatenate([np.concatenate([a1, a2], 4), np.concatenate([b1, b2], 4)], 3)
    found = [v for name, v in seen(path).items() if name.startswith("napari image 0 0")]
    np.testing.assert_array_equal(found[0].reshape(whole.shape), whole)


def write_images(
    path: Path, parts: list[np.ndarray[Any, Any]], version: str,
    roles: Any = None, **options: Any,
) -> None:  # fmt: skip
    """Images of one chunk each, along T, C, Z, Y, X."""
    arrays = [np.ascontiguousarray(stored_order(part)) for part in parts]
    specs = [
        ImageSpec(
            Image(
                f"image {i}",
                (Level(a.shape, a.shape),),
                a.dtype,
                role=role,
                channels=(Channel(),) * a.shape[1],
            )  # type: ignore[arg-type]
        )
        for i, (a, role) in enumerate(zip(arrays, roles or ["image"] * len(parts), strict=True))
    ]
    # napari's plug-in counts the images of a collection by their OME-XML.
    ome = make_ome([spec.image for spec in specs], None, [None] * len(specs))
    writer = OmeZarrWriter.prepare(path, specs, ome, {"version": version, **options})
    for i, array in enumerate(arrays):
        writer.write_block(i, 0, (0,) * 5, array)
    writer.finish()
