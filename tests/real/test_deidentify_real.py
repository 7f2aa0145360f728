"""De-identified copies of real files: texts of the source are in no byte of the new file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader
from bfbridge.curation import check_deidentified, deidentify
from tests.real.manifest import DATA, Entry, entries

# Formats that are read without Java.
KINDS = (
    "small_HE.svs", "DAPI_GFP.czi", "CellDivision_T3_Z6_CH1_X300_Y200_DCV_ZSTD.czi",
    "LeicaLASX_wavelength-sweep_example.lif", "cluster.nd2", "multiseries.ome.tiff",
)  # fmt: skip
CHOSEN = [entry for entry in entries() if entry.path.name in KINDS]

pytestmark = pytest.mark.skipif(not entries(), reason=f"no real files at {DATA}")


def texts(br: BioReader) -> Iterator[str]:
    """Words of the source's metadata that are long enough to be recognised."""
    document: Any = br.ome
    for image in document.images:
        yield from (image.name or "", image.description or "", str(image.acquisition_date or ""))
    for person in document.experimenters:
        yield from (person.user_name or "", person.last_name or "", person.email or "")
    for instrument in document.instruments:
        for part in (instrument.microscope, *instrument.objectives, *instrument.detectors):
            if part is not None:
                yield from (part.serial_number or "", part.model or "", part.manufacturer or "")
    for value in br.original_metadata.values():
        if isinstance(value, str):
            yield from re.findall(r"\d{4}-\d\d-\d\dT\d\d:\d\d|\\\\?[\w\\]{8,}", value)


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
@pytest.mark.parametrize("entry", CHOSEN, ids=str)
def test_texts_are_gone_and_pixels_equal(entry: Entry, suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("tifffile")
    from tests.support.identifying import holds

    target = tmp_path / f"t{suffix}"
    deidentify(entry.path, target)
    assert check_deidentified(target).valid
    with BioReader(entry.path) as old, BioReader(target) as new:
        kept = [view for view in old.series if view.role == "image"]
        assert len(kept) == len(new.series)
        for before, after in zip(kept, new.series, strict=True):
            np.testing.assert_array_equal(before[:], after[:])
            assert before.physical_pixel_size == after.physical_pixel_size
        channels = {name for view in old.series for name in view.channel_names if name}
        wanted = {text for text in texts(old) if len(text) >= 8 and text not in channels}
        found = [text for text in sorted(wanted)[:40] if holds(target, text)]
        assert found == []
