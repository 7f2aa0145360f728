"""Targets called .tif: OME-TIFF, so that nothing is lost, and other programs read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader, BioWriter, convert
from tests.support.referees import by_bioformats
from tests.support.samples import distinct

NAMES = ["DAPI", "GFP", "µ"]


def pixels() -> Any:
    # Y, X, Z, C, T
    return distinct((2, 3, 4, 35, 50)).transpose(3, 4, 2, 1, 0)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.ome.tif"
    with BioWriter(
        path, image=pixels(), channel_names=NAMES, ps_x=(0.25, "µm"), ps_y=(0.5, "µm"),
        ps_z=(2, "µm"), name="cells",
    ) as bw:  # fmt: skip
        bw.metadata.images[0].description = "of a culture"
        bw[:] = pixels()
    return path


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("suffix", [".tif", ".tiff", ".TIF", ".tf2", ".tf8", ".btf"])
def test_nothing_is_lost_that_an_ome_tiff_keeps(source: Path, tmp_path: Path, suffix: str) -> None:
    convert(source, tmp_path / f"a{suffix}", verify=True)
    convert(source, tmp_path / "b.ome.tif", verify=True)
    with BioReader(tmp_path / f"a{suffix}") as plain, BioReader(tmp_path / "b.ome.tif") as named:
        assert plain.channel_names == NAMES
        assert plain.ps_z == (2.0, "µm")
        told, expected = plain.ome, named.ome
        told.uuid = expected.uuid
        assert told == expected
        np.testing.assert_array_equal(plain[:], pixels())


def test_a_writer_of_a_plain_tiff_keeps_what_it_is_given(tmp_path: Path) -> None:
    with BioWriter(tmp_path / "a.tif", image=pixels(), channel_names=NAMES, ps_z=(2, "µm")) as bw:
        bw[:] = pixels()
    with BioReader(tmp_path / "a.tif") as br:
        assert (br.backend, br.channel_names, br.ps_z) == ("ometiff", NAMES, (2.0, "µm"))


def test_tifffile_reads_it(source: Path, tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    convert(source, tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert tiff.is_ome
        (series,) = tiff.series
        assert series.axes == "TCZYX"
        np.testing.assert_array_equal(series.asarray(), pixels().transpose(4, 3, 2, 0, 1))


@pytest.mark.java
def test_bio_formats_reads_it_and_its_metadata(source: Path, tmp_path: Path) -> None:
    pytest.importorskip("jpype", reason="JPype is not installed")
    convert(source, tmp_path / "a.tif")
    (found,) = by_bioformats(tmp_path / "a.tif")
    np.testing.assert_array_equal(found, pixels().transpose(4, 3, 2, 0, 1))
    with BioReader(tmp_path / "a.tif", backend="bioformats") as br:
        assert (br.channel_names, br.ps_z, br.name) == (NAMES, (2.0, "µm"), "cells")
