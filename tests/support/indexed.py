"""Files that are opened through the index of the backend "bioformats", without Java."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bfbridge import Limits
from bfbridge.backend import Modulo, OpenOptions, Region
from bfbridge.storage.source import as_source
from bfbridge_bioformats.indexing.entry import Facts
from bfbridge_bioformats.indexing.reader import IndexedReader, open_indexed
from bfbridge_bioformats.readers.records import images_from

SERIES: dict[str, Any] = {
    "name": "cells", "type": 3, "little": True, "samples": 1, "bits": 16,
    "thumbnail": False, "order": "XYCZT", "pixel_size": [[0.5, "µm"], [0.25, "µm"], None],
    "channels": [["DAPI", [1, 2, 3, 255], None, [405.0, "nm"]]],
    "levels": [[7, 5, 3, 1, 2, 7, 5, False], [3, 2, 3, 1, 2, 3, 2, False]],
}  # fmt: skip
MODULO = Modulo("lifetime", 0.0, 0.5, 1.0, None, ("a", "b"), 2, None)


class Opened:
    """A double of a reader of Java: its facts and its pixels."""

    name = "bioformats"
    format = "Fake"
    note = ""

    def __init__(self, path: Path, described: list[Any] | None = None) -> None:
        self.described = [SERIES] if described is None else described
        entries = images_from(self.described, str(path), Limits())
        self.images = tuple(each.image for each in entries)
        self.series = [each.series for each in entries]
        self.used_files = [str(path)]
        self.original_metadata = {"a": 1.5, "b": "x"}
        self.is_closed = False

    def facts(self) -> Facts:
        own = self.original_metadata
        used = self.used_files
        return Facts(self.format, self.described, "<OME/>", own, {0: {"T": MODULO}}, used)

    def read(self, region: Region, out: np.ndarray[Any, Any]) -> None:
        out[...] = 7

    def close(self) -> None:
        self.is_closed = True


class Openings:
    """Opens one file through the index, and counts the openings without it."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.path = path
        self.options = OpenOptions(index=True, **options)
        self.described: list[Any] | None = None
        self.made: list[Opened] = []

    def __call__(self, **options: Any) -> Any:
        changed = replace(self.options, **options)
        return open_indexed(as_source(self.path), self.path, changed, self._open)

    def _open(self, source: Any, options: OpenOptions) -> Any:
        self.made.append(Opened(self.path, self.described))
        return self.made[-1]

    def is_indexed(self, **options: Any) -> bool:
        """Whether the next opening uses the index."""
        before = len(self.made)
        indexed = isinstance(self(**options), IndexedReader)
        assert indexed is (len(self.made) == before)
        return indexed
