"""Virtual stores over HTTP, as tensorstore, ome-zarr-py and napari-ome-zarr read them.

A server of a few lines hands out what `VirtualHierarchy` gives. ome-zarr-py and napari run in an
environment of their own; see `test_omezarr_others.py`.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from bfbridge import BioReader
from bfbridge.virtual.hierarchy import VirtualHierarchy
from tests.support.samples import write_ome_tiff, write_ome_zarr
from tests.support.virtual import expected_levels

Array = np.ndarray[Any, Any]
PYTHON = os.environ.get("BFBRIDGE_OTHERS_PYTHON")
VALUES = (np.arange(2 * 3 * 2 * 600 * 700) % 60_013).reshape(2, 3, 2, 600, 700).astype(np.uint16)
versions = pytest.mark.parametrize("version", [3, 2])

SCRIPT = """
import sys, warnings
warnings.simplefilter("ignore")
import numpy as np, ome_zarr.io, ome_zarr.reader
from napari_ome_zarr import napari_get_reader
url, out = sys.argv[1:]
found = {}
for number, (levels, _, kind) in enumerate(napari_get_reader(url)(url)):
    for level, values in enumerate(levels if isinstance(levels, list) else [levels]):
        found[f"napari {kind} {number} {level}"] = np.asarray(values)
for number, node in enumerate(ome_zarr.reader.Reader(ome_zarr.io.parse_url(url))()):
    for level, values in enumerate(node.data):
        found[f"ome-zarr-py {number} {level}"] = np.asarray(values)
np.savez(out, **found)
"""


@contextmanager
def served(hierarchy: VirtualHierarchy) -> Iterator[str]:
    """Serve a hierarchy; yield the URL of its root."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer()

        def do_HEAD(self) -> None:
            self.answer()

        def answer(self) -> None:
            data = hierarchy.get(self.path.split("/store.ome.zarr/")[-1])
            self.send_response(404 if data is None else 200)
            self.send_header("Content-Length", str(0 if data is None else len(data)))
            self.end_headers()
            if data is not None and self.command == "GET":
                self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/store.ome.zarr"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def an_image(folder: Path) -> Path:
    return write_ome_tiff(folder / "a.ome.tif", VALUES, tile=(256, 256))


def an_rgb_image(folder: Path) -> Path:
    pixels = (VALUES[:1, :, 0].transpose(0, 2, 3, 1) % 251).astype(np.uint8)
    path = folder / "rgb.ome.tif"
    tifffile.imwrite(path, pixels[0], tile=(256, 256), compression="zlib", photometric="rgb")
    return path


def a_zarr(folder: Path) -> Path:
    return write_ome_zarr(folder / "a.ome.zarr", [VALUES], (1, 1, 1, 512, 512))


IMAGES: list[Callable[[Path], Path]] = [an_image, an_rgb_image, a_zarr]
images = pytest.mark.parametrize("make", IMAGES, ids=lambda make: make.__name__)


@pytest.mark.slow(ci=True)
@versions
@images
@pytest.mark.parametrize("compression", [None, "blosc-zstd"])
def test_tensorstore(
    tmp_path: Path, make: Callable[[Path], Path], version: int, compression: str | None
) -> None:
    tensorstore = pytest.importorskip("tensorstore")
    with BioReader(make(tmp_path)) as br:
        expected = expected_levels(br)
        hierarchy = VirtualHierarchy([br], version, compression)  # type: ignore[arg-type]
        with served(hierarchy) as url:
            for number, wanted in enumerate(expected):
                spec = {
                    "driver": "zarr3" if version == 3 else "zarr",
                    "kvstore": f"{url}/{number}/",
                }
                store = tensorstore.open(spec, read=True).result()
                np.testing.assert_array_equal(store.read().result(), wanted)
                if version == 3:
                    assert store.domain.labels == tuple("tczyx")


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON, reason="BFBRIDGE_OTHERS_PYTHON names no Python")
@versions
@images
def test_ome_zarr_py_and_napari(tmp_path: Path, make: Callable[[Path], Path], version: int) -> None:
    with BioReader(make(tmp_path)) as br:
        expected = expected_levels(br)
        hierarchy = VirtualHierarchy([br], version)  # type: ignore[arg-type]
        with served(hierarchy) as url:
            done = subprocess.run(
                [str(PYTHON), "-c", SCRIPT, url, str(tmp_path / "seen.npz")],
                capture_output=True, text=True, timeout=110, check=False,
                env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
            )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(tmp_path / "seen.npz") as found:
        assert len(found) == 2 * len(expected)
        for name in found:
            np.testing.assert_array_equal(found[name], expected[int(name[-1])], err_msg=name)
