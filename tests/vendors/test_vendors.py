"""CZI, LIF, ND2, NDPI from everywhere: paths, memory, open files, URLs by ranges; without Java."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader
from tests.support.czis import Block, write_czi
from tests.support.lifs import image_of, write_lif
from tests.support.nd2s import Nd2Channel, Nd2Loop, write_nd2
from tests.support.ndpis import Page, Slide, write_ndpi
from tests.support.webserver import serve

Array = np.ndarray[Any, Any]
TILES, SIDE = 8, 256


def pixels_of(name: str) -> Array:
    """Z, C, Y, X: noise, which no codec makes small."""
    side = TILES * SIDE
    shape = {
        "czi": (1, 1, side, side), "lif": (4, 2, 512, 700), "nd2": (4, 2, 512, 700),
        "ndpi": (4, 1, 512, 700),
    }[name]  # fmt: skip
    return np.random.default_rng(7).integers(0, 60_000, shape).astype(np.uint16)


def make_czi(path: Path, pixels: Array) -> None:
    blocks = []
    for m, (i, j) in enumerate(np.ndindex(TILES, TILES)):
        tile = pixels[0, 0, i * SIDE : (i + 1) * SIDE, j * SIDE : (j + 1) * SIDE]
        at = {"C": 0, "M": m}
        blocks.append(Block(tile.copy(), x=j * SIDE, y=i * SIDE, at=at, compression="zstd1"))
    write_czi(path, blocks)


def make_lif(path: Path, pixels: Array) -> None:
    write_lif(path, [image_of(pixels.swapaxes(0, 1)[None])])


def make_nd2(path: Path, pixels: Array) -> None:
    loops, channels = [Nd2Loop("Z", len(pixels))], [Nd2Channel("a"), Nd2Channel("b")]
    write_nd2(path, pixels.transpose(0, 2, 3, 1), loops, channels)


def make_ndpi(path: Path, pixels: Array) -> None:
    pages = [Page(plane, compression="jpegxr", strip=64) for plane in pixels[:, 0]]
    write_ndpi(path, Slide(pages, mode=17))


MAKERS: dict[str, Callable[[Path, Array], None]] = {
    "czi": make_czi, "lif": make_lif, "nd2": make_nd2, "ndpi": make_ndpi,
}  # fmt: skip


@pytest.fixture(scope="module", params=MAKERS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    name = str(request.param)
    path = tmp_path_factory.mktemp(name) / f"made.{name}"
    pixels = pixels_of(name)
    MAKERS[name](path, pixels)
    return name, path, pixels


def crop(target: Any, name: str, pixels: Array, **options: Any) -> None:
    """Read 100 x 90 pixels of the last plane, and compare."""
    with BioReader(target, **options) as br:
        assert br.backend == name
        z, c = pixels.shape[0] - 1, pixels.shape[1] - 1
        found = np.asarray(br[300:400, 310:400, z, c]).squeeze()
        np.testing.assert_array_equal(found, pixels[z, c, 300:400, 310:400])


def test_paths_memory_and_open_files(made: Any) -> None:
    name, path, pixels = made
    crop(path, name, pixels)
    crop(path.read_bytes(), name, pixels)
    with path.open("rb") as file:
        crop(file, name, pixels)


@pytest.mark.slow(ci=True)
def test_urls_are_read_by_ranges(made: Any) -> None:
    name, path, pixels = made
    with serve(path.parent) as web:
        url = f"{web.url}/{path.name}"
        with BioReader(url) as br:
            assert br.backend == name
            assert br.shape
            opened = web.sent
        assert opened < 200_000
        crop(url, name, pixels)
        # CZI: four tiles, two beside two; else rows of one plane, or of all channels of it. In the
        # NDPI, a strip of noise has more bytes than its pixels.
        stored = 4 * SIDE * SIDE * 2 if name == "czi" else 100 * 700 * 2 * 2
        assert web.sent - opened < 200_000 + 2 * stored
        assert web.sent < path.stat().st_size / 3


@pytest.mark.slow(ci=True)
def test_no_java_is_started(made: Any) -> None:
    _, path, _ = made
    code = (
        "import sys\n"
        "from bfbridge import BioReader\n"
        f"with BioReader({str(path)!r}) as br:\n"
        "    br[:20, :20]; br.metadata; br.ome_xml; br.original_metadata; br.lookup_table()\n"
        "from bfbridge.cli import main\n"
        f"sys.argv = ['bfbridge', 'info', {str(path)!r}]\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as error:\n"
        "    assert not error.code, error.code\n"
        "assert 'jpype' not in sys.modules\n"
        "assert 'bfbridge_bioformats' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert path.name in done.stdout


def test_readers_are_sent_to_other_processes(made: Any) -> None:
    import pickle

    name, path, pixels = made
    with BioReader(path) as br:
        again = pickle.loads(pickle.dumps(br))
        assert again.backend == name
        z, c = pixels.shape[0] - 1, pixels.shape[1] - 1
        found = np.asarray(again[:50, :60, z, c]).squeeze()
        np.testing.assert_array_equal(found, pixels[z, c, :50, :60])
