"""Our backends meet the contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from bfbridge.testing import BackendSuite
from bfbridge_bioformats import BioFormatsReader, BioFormatsWriter
from bfbridge_ometiff import OmeTiffReader, OmeTiffWriter
from bfbridge_omezarr import OmeZarrReader, OmeZarrWriter
from bfbridge_pictures import PictureReader
from tests.support import pictures


class TestOmeTiff(BackendSuite):
    reader = OmeTiffReader
    writer = OmeTiffWriter
    suffix = ".ome.tif"
    dtypes = (*BackendSuite.dtypes, "complex64", "complex128")
    options: ClassVar = {"tile": 16}


class TestOmeZarr(BackendSuite):
    reader = OmeZarrReader
    writer = OmeZarrWriter
    suffix = ".ome.zarr"
    dtypes = (*BackendSuite.dtypes, "int64", "uint64")
    options: ClassVar = {"chunks": (1, 2, 3, 16, 32)}
    unknown_file = b"not a folder"


class TestOmeZarrSharded(TestOmeZarr):
    options: ClassVar = {"chunks": 16, "shards": 32}


class TestOmeZarrVersion2(TestOmeZarr):
    options: ClassVar = {"chunks": 16, "version": "0.4"}


@pytest.mark.java
class TestBioFormats(BackendSuite):
    reader = BioFormatsReader
    writer = BioFormatsWriter
    suffix = ".ome.tif"


class TestBioFormatsReadingOurs(TestBioFormats):
    writer = None

    def write_sample(self, path: Path, pixels: np.ndarray[Any, Any]) -> None:
        TestOmeTiff().write(path, [[pixels]])


class TestPictures(BackendSuite):
    reader = PictureReader
    suffix = ".png"
    shape = (2, 3, 1, 37, 53)

    def write_sample(self, path: Path, pixels: np.ndarray[Any, Any]) -> None:
        frames = [pictures.Frame(frame[:, 0].transpose(1, 2, 0)) for frame in pixels]
        path.write_bytes(pictures.png(frames, pictures.RGB, 16))


class TestRawPictures(TestPictures):
    """Pixels that are stored as they are, and read in bands of rows."""

    suffix = ".pam"
    shape = (1, 3, 1, 37, 53)

    def write_sample(self, path: Path, pixels: np.ndarray[Any, Any]) -> None:
        header = b"P7\nWIDTH 53\nHEIGHT 37\nDEPTH 3\nMAXVAL 65535\nENDHDR\n"
        path.write_bytes(header + pixels[0, :, 0].transpose(1, 2, 0).astype(">u2").tobytes())
