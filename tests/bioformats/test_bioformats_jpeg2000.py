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


def test_a_decoder_that_is_in_use_already_is_told() -> None:
    code = (
        "import logging; logging.basicConfig(format='%(levelname)s %(message)s')\n"
        "from bfbridge_bioformats.runtime.machine import machine\n"
        "machine.start()\n"
        "with machine.attached():\n"
        "    machine.type('jj2000.j2k.entropy.decoder.StdEntropyDecoder')\n"
        "    machine.patch_classes()\n"
        "    machine.patch_classes()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True
    )
    assert done.stderr.count("WARNING the JPEG 2000 decoder in Java is not patched") == 1
