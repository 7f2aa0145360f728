"""JPEG 2000 through Java: large coefficients, which Bio-Formats' own decoder has wrong."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("jpype", reason="JPype is not installed")

import tifffile

from bfbridge import BioReader
from tests.support.dicoms import dicom

pytestmark = pytest.mark.java

RNG = np.random.default_rng(2000)
BLACK_AND_WHITE = np.where(RNG.random((64, 96, 3)) < 0.5, 255, 0).astype(np.uint8)


def encoded(pixels: np.ndarray, **options: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG2000", num_resolutions=3, **options)
    return out.getvalue()


@pytest.mark.parametrize("lossy", [False, True])
@pytest.mark.parametrize("samples", [1, 3])
def test_extreme_values(samples: int, lossy: bool) -> None:
    pixels = BLACK_AND_WHITE if samples == 3 else BLACK_AND_WHITE[..., 0]
    options: dict[str, Any] = {"irreversible": lossy, "mct": int(samples == 3)}
    if lossy:
        options.update(quality_mode="dB", quality_layers=[30])
    data = encoded(pixels, **options)
    truth = np.asarray(Image.open(io.BytesIO(data)))
    with BioReader(data, name="a.jp2", backend="bioformats") as br:
        found = br[:].reshape(truth.shape)
    assert np.abs(found.astype(int) - truth).max() <= (2 if lossy else 0)


def test_in_dicom_and_tiff(tmp_path: Path) -> None:
    stream = encoded(BLACK_AND_WHITE, mct=1, no_jp2=True)
    (tmp_path / "a.dcm").write_bytes(dicom([stream], (64, 96, 3)))
    with BioReader(tmp_path / "a.dcm") as br:
        np.testing.assert_array_equal(br[:].reshape(64, 96, 3), BLACK_AND_WHITE)
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, BLACK_AND_WHITE, compression="jpeg2000", photometric="rgb", tile=(64, 96),
        compressionargs={"mct": True},
    )  # fmt: skip
    with BioReader(path, backend="bioformats") as br:
        np.testing.assert_array_equal(br[:].reshape(64, 96, 3), BLACK_AND_WHITE)


def test_after_a_jpeg_2000_file_was_written(tmp_path: Path) -> None:
    # Writing loads the decoder's classes, and the first writer may come before the first reader.
    (tmp_path / "a.jp2").write_bytes(encoded(BLACK_AND_WHITE, mct=1))
    code = (
        "import numpy as np\n"
        "from bfbridge import BioReader, BioWriter\n"
        "options = {'backend': 'bioformats', 'dtype': 'u1'}\n"
        "with BioWriter('b.jp2', shape=(40, 50), **options) as bw:\n"
        "    bw[:] = np.arange(2000, dtype='u1').reshape(40, 50)\n"
        "with BioReader('a.jp2', backend='bioformats') as br:\n"
        "    np.save('a.npy', br[:])\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, timeout=100, check=True)
    truth = np.asarray(Image.open(tmp_path / "a.jp2"))
    found = np.load(tmp_path / "a.npy").reshape(truth.shape)
    assert np.abs(found.astype(int) - truth).max() <= 2


def test_a_decoder_that_was_loaded_by_other_code_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jp2").write_bytes(encoded(BLACK_AND_WHITE, mct=1))
    code = (
        "from bfbridge import BioReader\n"
        "from bfbridge.errors import ReadFailed\n"
        "from bfbridge_bioformats.runtime.machine import machine\n"
        "machine.start()\n"
        "with machine.attached():\n"
        "    machine.type('jj2000.j2k.entropy.decoder.StdEntropyDecoder')\n"
        "with BioReader('a.jp2', backend='bioformats') as br:\n"
        "    try:\n"
        "        br[:]\n"
        "    except ReadFailed as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    assert "the JPEG 2000 decoder of this Java process has a fault" in done.stdout
    assert "could not be patched" in done.stdout
    assert "isolated=True" in done.stdout
