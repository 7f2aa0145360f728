"""The tables of docs/metadata.md: what becomes of the OME metadata of real files."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from bfbridge import BioReader, convert
from bfbridge.errors import BfbridgeError
from bfbridge.ome.checks.compare import values_of
from tests.real.manifest import DATA, Entry, entries

pytestmark = pytest.mark.skipif(not entries(), reason=f"no real files at {DATA}")

PAGE = Path(__file__).parents[2] / "docs" / "metadata.md"
OPENED = [entry for entry in entries() if entry.opens and not entry.pixels_fail]
TARGETS = {"OME-TIFF": (".ome.tif", {}), "0.4": (".ome.zarr", {"version": "0.4"}),
           "0.5": (".ome.zarr", {})}  # fmt: skip


def documented() -> set[str]:
    """Elements that the page lists as changed."""
    table = PAGE.read_text(encoding="utf-8").split("## What changes")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall("`([^`]+)`", row)}


def source_values(path: Path) -> dict[str, Counter[str]]:
    """The document of Bio-Formats; of formats that it does not read, that of the file."""
    try:
        with BioReader(path, backend="bioformats", cache=0) as br:
            return values_of(br.ome)
    except BfbridgeError:
        with BioReader(path, cache=0) as br:
            return values_of(br.ome)


@pytest.mark.java
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Casting invalid:UserWarning")
@pytest.mark.parametrize("entry", OPENED, ids=str)
def test_only_documented_elements_change(entry: Entry, tmp_path: Path) -> None:
    before = source_values(entry.path)
    assert before
    for name, (suffix, options) in TARGETS.items():
        target = tmp_path / f"{name}{suffix}"
        convert(entry.path, target, pyramid=False, checksum=False, **options)
        with BioReader(target, cache=0) as br:
            after = values_of(br.ome)
        changed = {path for path, values in before.items() if values - after.get(path, Counter())}
        assert changed <= documented(), name
