"""The MRC backend meets the contract, and Bio-Formats reads the same pixels."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from bfbridge_mrc import READER, WRITER

import bfbridge
from bfbridge import BioReader, BioWriter, registry
from bfbridge.errors import UnreadableFile, Unsupported
from bfbridge.testing import BackendSuite, distinct


class TestMrc(BackendSuite):
    reader = READER
    writer = WRITER
    suffix = ".mrc"
    shape = (1, 1, 5, 37, 53)
    dtypes: ClassVar = ("int8", "int16", "uint16", "float32")
    has_levels = False
    has_samples = False
    has_images = False


def test_the_entry_point_is_found() -> None:
    assert "mrc" in [entry.name for entry in registry.third_party()]
    assert registry.writer_for("a.mrc") is WRITER


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint16", "float32"])
def test_bio_formats_reads_the_same(tmp_path: Path, dtype: str) -> None:
    pixels = distinct((5, 37, 53), dtype)
    path = tmp_path / "volume.mrc"
    bfbridge.imwrite(path, pixels, axes="ZYX", pixel_size={"x": 0.5, "y": 0.5, "z": 2.0})
    with BioReader(path, backend="mrc") as ours, BioReader(path, backend="bioformats") as theirs:
        assert ours.backend == "mrc"
        np.testing.assert_array_equal(ours[:], pixels.transpose(1, 2, 0))
        np.testing.assert_array_equal(theirs[:].astype(dtype), ours[:])
        assert ours.pixel_size() == pytest.approx({"X": 0.5, "Y": 0.5, "Z": 2.0})


def test_big_endian_files_and_extended_headers(tmp_path: Path) -> None:
    pixels = distinct((2, 3, 4), ">i2")
    head = bytearray(1024)
    struct.pack_into(">4i", head, 0, 4, 3, 2, 1)
    struct.pack_into(">i", head, 92, 16)
    head[208:216] = b"MAP \x11\x11\0\0"
    path = tmp_path / "big.mrc"
    path.write_bytes(bytes(head) + bytes(16) + pixels.tobytes())
    with BioReader(path, backend="mrc") as br:
        np.testing.assert_array_equal(br[:], pixels[:, ::-1].transpose(1, 2, 0))


def test_what_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "volume.mrc"
    bfbridge.imwrite(path, distinct((5, 37, 53)), axes="ZYX")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UnreadableFile, match="truncated"):
        BioReader(path, backend="mrc")
    with pytest.raises(Unsupported, match="one channel"), BioWriter(tmp_path / "c.mrc") as bw:
        bw[:] = distinct((8, 9, 1, 2))
