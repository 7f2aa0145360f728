"""OME-TIFF without imagecodecs: the codecs against imagecodecs, and a process that lacks it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest

from bfbridge import BioReader, imwrite
from bfbridge.errors import MissingExtra
from bfbridge_ometiff.basic_codecs import BasicCodecs
from tests.support.samples import distinct

BASIC = BasicCodecs()
SHAPE = (7, 9, 3)


def values(dtype: str) -> Any:
    kind = np.dtype(dtype)
    raw = (np.arange(int(np.prod(SHAPE)) * kind.itemsize) * 37 % 251).astype(np.uint8)
    return np.nan_to_num(raw.view(kind)).reshape(SHAPE)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4"])
def test_differences(dtype: str) -> None:
    pixels = values(dtype)
    stored = BASIC.delta_encode(pixels, axis=1, out=np.empty_like(pixels))
    np.testing.assert_array_equal(stored, imagecodecs.delta_encode(pixels, axis=1))
    found = BASIC.delta_decode(stored, axis=1, out=np.empty_like(pixels))
    np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_floating_point_predictor(dtype: str) -> None:
    pixels = values(dtype)
    stored = BASIC.floatpred_encode(pixels, axis=1)
    theirs = imagecodecs.floatpred_encode(pixels, axis=1)
    assert stored.tobytes() == theirs.tobytes()
    np.testing.assert_array_equal(BASIC.floatpred_decode(theirs, axis=-2), pixels)


def test_streams() -> None:
    data = np.frombuffer(b"pixels" * 99, np.uint8)
    out = np.empty(len(data), np.uint8)
    for stored in (imagecodecs.deflate_encode(data, 6), BASIC.deflate_encode(data, 12)):
        np.testing.assert_array_equal(BASIC.deflate_decode(stored, out=out), data)
    assert len(BASIC.deflate_decode(stored, out=np.empty(len(data) + 5, np.uint8))) == len(data)
    for damaged, room in ((b"xx" + stored, len(data)), (stored, len(data) - 1)):
        with pytest.raises(RuntimeError, match="zlib"):
            BASIC.deflate_decode(damaged, out=np.empty(room, np.uint8))
    assert BASIC.bitorder_decode(b"\x01\x80\x37") == imagecodecs.bitorder_decode(b"\x01\x80\x37")
    with pytest.raises(MissingExtra, match="zstd encode needs imagecodecs"):
        BASIC.zstd_encode(data, 1)


SCRIPT = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"imagecodecs", "isal", "zarr", "jpype", "PIL", "dask"}:
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
import numpy as np
import bfbridge

source, zstd, target = sys.argv[1:]
with bfbridge.BioReader(source) as br:
    pixels = br.asarray("TCZYX")
    bfbridge.imwrite(target, pixels, axes="TCZYX", pyramid=1, tile=32)
with bfbridge.BioReader(target) as br:
    assert (br.backend, len(br.levels)) == ("ometiff", 2)
    np.testing.assert_array_equal(br.asarray("TCZYX"), pixels)
for read in (lambda: bfbridge.imread(zstd), lambda: bfbridge.imwrite(
        target, pixels, axes="TCZYX", compression="zstd", overwrite=True)):
    try:
        read()
    except bfbridge.BfbridgeError as error:
        assert "needs imagecodecs" in str(error), error
    else:
        raise AssertionError("no error")
"""


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_a_plain_install_reads_and_writes_tiles(tmp_path: Path, dtype: str) -> None:
    pixels = distinct((2, 3, 1, 70, 90)).astype(dtype)
    source, zstd, target = (tmp_path / f"{name}.ome.tif" for name in "abc")
    imwrite(source, pixels, axes="TCZYX", tile=32)
    imwrite(zstd, pixels, axes="TCZYX", compression="zstd")
    subprocess.run(
        [sys.executable, "-c", SCRIPT, str(source), str(zstd), str(target)], check=True
    )  # fmt: skip
    with BioReader(target) as br:
        assert br.chunks[:2] == (32, 32)
        np.testing.assert_array_equal(br.asarray("TCZYX"), pixels)
