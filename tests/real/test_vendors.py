"""Real files of CZI, LIF and ND2: read without Java, and the same in every field as Bio-Formats."""

from __future__ import annotations

from pathlib import Path

import pytest

from bfbridge import BioReader
from bfbridge.backend import ReaderBackend
from bfbridge_bioformats import BioFormatsReader
from bfbridge_czi import CziReader
from bfbridge_lif import LifReader
from bfbridge_nd2 import Nd2Reader
from tests.real.manifest import DATA, Entry, entries
from tests.support.agreement import differences, document_entries, opened

READERS: dict[str, type[ReaderBackend]] = {"czi": CziReader, "lif": LifReader, "nd2": Nd2Reader}
FILES = [entry for entry in entries() if entry.format in READERS and entry.opens]
MORE = ("AcquisitionDate", "excitation", "ExcitationWavelength", "PinholeSize", "StageLabel")

pytestmark = pytest.mark.skipif(not FILES, reason=f"no real files at {DATA}")


@pytest.mark.parametrize("entry", FILES, ids=str)
def test_same_as_bioformats(entry: Entry) -> None:
    reader = READERS[entry.format]
    # ND2Reader takes every second time where there are two channels: see the next test.
    but = ("DeltaT",) if entry.format == "nd2" else ()
    with opened(reader, entry.path) as ours, opened(BioFormatsReader, entry.path) as theirs:
        assert differences(ours, theirs, more=MORE if entry.format == "nd2" else (), but=but) == []


@pytest.mark.parametrize("entry", [e for e in FILES if e.format == "nd2"], ids=str)
def test_times_of_nd2_as_the_library_has_them(entry: Entry) -> None:
    nd2 = pytest.importorskip("nd2")
    with nd2.ND2File(entry.path) as file, opened(Nd2Reader, entry.path) as ours:
        found = document_entries(ours.ome_xml() or "")
        channels = file.sizes.get("C", 1)
        for number in range(file.attributes.sequenceCount):
            wanted = file.frame_metadata(number).channels[0].time.relativeTimeMs / 1000
            stamp = found[f"/Image[0]/Pixels[0]/Plane[{number * channels}]@DeltaT"]
            assert float(stamp) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("entry", FILES, ids=str)
def test_chosen_by_content(entry: Entry, tmp_path: Path) -> None:
    path = tmp_path / "picture"
    path.symlink_to(entry.path)
    with BioReader(path) as br:
        assert br.backend == entry.format
        assert br.shape
