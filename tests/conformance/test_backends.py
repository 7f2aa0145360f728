"""Our three backends, and one of arrays in memory, meet the contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bfbridge.testing import BackendSuite
from bfbridge_bioformats import BioFormatsReader, BioFormatsWriter
from bfbridge_ometiff import OmeTiffReader, OmeTiffWriter
from bfbridge_omezarr import OmeZarrReader, OmeZarrWriter


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


class TestBioFormats(BackendSuite):
    reader = BioFormatsReader
    writer = BioFormatsWriter
    suffix = ".ome.tif"


class TestBioFormatsReadingOurs(TestBioFormats):
    writer = None

    def write_sample(self, path: Path, pixels: np.ndarray[Any, Any]) -> None:
        TestOmeTiff().write(path, [[pixels]])
