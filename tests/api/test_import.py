"""`import bfbridge` is light: it loads nothing that only some programs need."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "jpype", "zarr", "tifffile", "imagecodecs", "dask", "xarray", "ome_types", "fsspec", "typer",
    "rich", "numcodecs", "pydantic", "lxml", "asyncio", "cmap", "PIL",
    "bfbridge.rendering", "bfbridge.virtual", "bfbridge.serve", "aiohttp",
    "bfbridge_bioformats", "bfbridge_ometiff", "bfbridge_omezarr", "bfbridge_pictures",
    "bfbridge_czi", "bfbridge_lif", "bfbridge_nd2", "bfbridge_ndpi",
    "bfbridge_geotiff", "rasterio", "affine",
)  # fmt: skip


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize(
    "line",
    [
        "import bfbridge",
        "from bfbridge import BioReader",
        "from bfbridge import BioReader, BioWriter, BfbridgeError, Limits",
        "import bfbridge; dir(bfbridge)",
    ],
)
def test_nothing_heavy_is_loaded(line: str) -> None:
    loaded = set(run(f"{line}\nimport sys; print('\\n'.join(sys.modules))").split())
    assert "bfbridge" in loaded
    assert loaded & set(HEAVY) == set()


def test_import_prints_and_logs_nothing_and_starts_no_thread() -> None:
    out = run(
        "import logging, threading, warnings; warnings.simplefilter('error')\n"
        "import bfbridge; from bfbridge import BioReader, BioWriter\n"
        "assert logging.getLogger().handlers == [] == logging.getLogger('bfbridge').handlers\n"
        "assert threading.active_count() == 1"
    )
    assert out == ""
