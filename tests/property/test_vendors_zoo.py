"""CZI, LIF, ND2 and NDPI files of every make: the same pixels and documents as Bio-Formats.

Each file is made from a number (tests/support/vendorzoo.py), which a failure names.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from bfbridge.backend import ReaderBackend
from bfbridge.errors import Unsupported
from bfbridge_bioformats import BioFormatsReader
from bfbridge_czi import CziReader
from bfbridge_lif import LifReader
from bfbridge_nd2 import Nd2Reader
from bfbridge_ndpi import NdpiReader
from tests.support.agreement import differences, opened
from tests.support.ndpis import UNLIKE
from tests.support.referees import needed
from tests.support.vendorzoo import ZOO

pytestmark = pytest.mark.java

READERS: dict[str, type[ReaderBackend]] = {
    "czi": CziReader, "lif": LifReader, "nd2": Nd2Reader, "ndpi": NdpiReader,
}  # fmt: skip
BLOCK = 15
BLOCKS = 4
# What ND2Reader does not tell, and the times of frames, which it mixes up.
MORE = {"nd2": ("AcquisitionDate", "StageLabel")}
BUT = {"nd2": ("DeltaT",), "ndpi": UNLIKE}
# JPEG decoders differ.
WITHIN = {"ndpi": 2}


@pytest.fixture(scope="module", autouse=True)
def _bioformats() -> None:
    needed("bioformats")


@pytest.mark.java
@pytest.mark.parametrize(
    "block", [pytest.param(n, marks=pytest.mark.slow(ci=n == 0)) for n in range(BLOCKS)]
)
@pytest.mark.parametrize("kind", ZOO)
def test_same_as_bioformats(kind: str, block: int, tmp_path: Path) -> None:
    if "libCZI" in kind:
        pytest.importorskip("pylibCZIrw")
    name = kind.split(maxsplit=1)[0]
    wrong, read = {}, 0
    for number in range(block * BLOCK, (block + 1) * BLOCK):
        path = ZOO[kind](number, tmp_path)
        try:
            with opened(READERS[name], path) as ours, opened(BioFormatsReader, path) as theirs:
                found = differences(
                    ours, theirs, more=MORE.get(name, ()), but=BUT.get(name, ()),
                    within=WITHIN.get(name, 0),
                )  # fmt: skip
        except Unsupported:
            continue
        read += 1
        if found:
            wrong[number] = found[:5]
    assert wrong == {}
    assert read >= BLOCK * 2 // 3, "most files are read"
