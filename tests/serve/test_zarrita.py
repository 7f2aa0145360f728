"""zarrita, the Zarr library of browsers, reads equal pixels from `bfbridge serve`.

Needs node and the npm package zarrita, installed in the folder that the environment variable
ZARRITA names (the one with node_modules).
"""

# ruff: noqa: E402 - packages that may be missing are looked for first

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

for module in ("aiohttp", "cmap", "imagecodecs", "tifffile"):
    pytest.importorskip(module)

import tifffile

from bfbridge import BioReader
from tests.support.liveserver import live
from tests.support.virtual import expected_levels, same

FOLDER = Path(os.environ.get("ZARRITA", "/nowhere"))
NODE = shutil.which("node")
pytestmark = [
    pytest.mark.skipif(NODE is None, reason="node is not installed"),
    pytest.mark.skipif(
        not (FOLDER / "node_modules/zarrita").is_dir(), reason="ZARRITA names no npm packages"
    ),
]
SCRIPT = """
import { writeFileSync } from "node:fs";
import * as zarr from "zarrita";
const [url, version, out] = process.argv.slice(1);
const open = version === "3" ? zarr.open.v3 : zarr.open.v2;
const store = await zarr.withConsolidatedMetadata(new zarr.FetchStore(url));
const group = await open(store, { kind: "group" });
const attributes = version === "3" ? group.attrs.ome : group.attrs;
const arrays = [];
for (const { path } of attributes.multiscales[0].datasets) {
  const array = await open(group.resolve(path), { kind: "array" });
  const { data, shape } = await zarr.get(array);
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  writeFileSync(`${out}/${path}.bin`, bytes);
  arrays.push({ path, shape, dtype: array.dtype, chunks: array.chunks });
}
const stated = attributes.version ?? attributes.multiscales[0].version;
console.log(JSON.stringify({ version: stated, arrays, contents: store.contents().length }));
"""


def an_image(path: Path) -> None:
    y, x = np.mgrid[:700, :1100]
    values = (y * 1000 + x)[None, None].repeat(2, 0).repeat(3, 1).astype(np.float32)
    values += np.arange(6, dtype=np.float32).reshape(2, 3, 1, 1) * 0.25
    # A chunk of zeros, which is absent.
    values[:, :, :512, :512] = 0
    tifffile.imwrite(path, values, ome=True, tile=(128, 128), metadata={"axes": "TCYX"})


def passed_through(path: Path) -> None:
    """Write deflated chunks that are sent as they are."""
    values = (np.arange(600 * 1100, dtype=np.uint32) % 65_521).astype(np.uint16)
    tifffile.imwrite(path, values.reshape(600, 1100), ome=True, tile=(512, 512), compression="zlib")


def an_rgb_image(path: Path) -> None:
    y, x = np.mgrid[:600, :700]
    rgb = np.stack([x // 5, y // 3, (x + y) // 8], -1).astype(np.uint8)
    tifffile.imwrite(path, rgb, tile=(256, 256), photometric="rgb")


@pytest.mark.parametrize("compression", ["none", "zstd", "blosc-lz4"])
@pytest.mark.parametrize("version", [3, 2])
@pytest.mark.parametrize("make", [an_image, passed_through, an_rgb_image], ids=lambda f: f.__name__)
def test_zarrita_reads_equal_pixels(
    tmp_path: Path, make: object, version: int, compression: str
) -> None:
    path = tmp_path / "a.ome.tif"
    make(path)  # type: ignore[operator]
    route = "zarr" if version == 3 else "zarr2"
    with live(path, compression=compression) as server:
        done = subprocess.run(
            [
                str(NODE), "--input-type=module", "-e", SCRIPT,
                f"{server.url}/{route}/a.ome.tif.ome.zarr", str(version), str(tmp_path),
            ],
            cwd=FOLDER, capture_output=True, text=True, timeout=110, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    with BioReader(path) as br:
        expected = expected_levels(br)
    assert found["version"] == ("0.5" if version == 3 else "0.4")
    assert len(found["arrays"]) == len(expected)
    # The group itself, and every array, are in the consolidated metadata.
    assert found["contents"] >= 1 + len(expected)
    for record, wanted in zip(found["arrays"], expected, strict=True):
        assert (record["shape"], record["dtype"]) == (list(wanted.shape), wanted.dtype.name)
        pixels = np.fromfile(tmp_path / f"{record['path']}.bin", wanted.dtype)
        assert same(pixels.reshape(wanted.shape), wanted), record["path"]
