"""`CleanedReader`: what it keeps of a file, and which images and streams it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from bfbridge import BioReader, imwrite
from bfbridge.backend import Image, Level, Region, StoredAs
from bfbridge.curation import cleaned_reader
from bfbridge.curation.cleaned_reader import CleanedReader, Rules, why_left_out
from bfbridge.errors import BadArgument, BadSelection, UnreadableFile
from tests.curation.test_deidentify import slide
from tests.support.identifying import COLORS, MARKER, planted


@contextmanager
def cleaned(path: Path, **rules: Any) -> Iterator[tuple[CleanedReader, Any]]:
    """The cleaned reader of a file, and the reader inside it."""
    with BioReader(path, cache=0) as reader:
        inner = reader._file.backend
        yield CleanedReader(inner, Rules(**rules)), inner


def pixels(reader: Any, image: int = 0) -> np.ndarray[Any, Any]:
    record: Image = reader.images[image]
    shape = record.levels[0].shape
    out = np.full(shape, 7, record.dtype)
    reader.read(Region(image, 0, (0,) * 5, shape), out)
    return out


def test_rules_are_checked() -> None:
    with pytest.raises(BadArgument, match="label_image='black': give one of drop, blank"):
        Rules(label_image="black")
    with pytest.raises(BadArgument, match=r"series=\[0, 2, 0\]: an image is chosen twice"):
        Rules(series=(0, 2, 0))


def test_images_that_do_not_exist(tmp_path: Path) -> None:
    path = slide(tmp_path / "a.ome.tif")
    for number in (-1, 3):
        with (
            pytest.raises(BadSelection, match=f"series={number}: the file has 3 images"),
            cleaned(path, series=(0, number)),
        ):
            pass


def test_photographs_are_recognised_by_their_names() -> None:
    levels = (Level((1, 3, 1, 4, 5), (1, 3, 1, 4, 5)),)
    names = ["label", "an overview", "Barcodes", "scan", "labelled cells"]
    records = [Image(name, levels, np.dtype("u1"), samples=3) for name in names]
    photograph = "photograph, by its name"
    assert [why_left_out(record) for record in records] == [photograph] * 3 + [""] * 2
    assert why_left_out(Image("label", levels, np.dtype("u1"))) == ""


def test_a_file_with_a_photograph_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = slide(tmp_path / "a.ome.tif")
    monkeypatch.setattr(cleaned_reader, "why_left_out", lambda image: "macro")
    with pytest.raises(BadSelection, match="no image is left: all are labels"), cleaned(path):
        pass


def test_photographs_are_zeros_and_have_nothing_stored(tmp_path: Path) -> None:
    path = slide(tmp_path / "a.ome.tif")
    with cleaned(path, label_image="blank") as (reader, inner):
        assert [image.name for image in reader.images] == ["Image 0", "Label 1", "Image 2"]
        assert not pixels(reader, 1).any()
        np.testing.assert_array_equal(pixels(reader, 2), pixels(inner, 2))
        assert reader.reads_parts(1, 0)
        assert reader.reads_parts(0, 0) == inner.reads_parts(0, 0)
        assert reader.stored_as(1, 0) is None
        assert reader.lookup_table(1) is None
        assert reader.lookup_table(0) is None


def test_the_order_of_chosen_images_is_kept(tmp_path: Path) -> None:
    with cleaned(slide(tmp_path / "a.ome.tif"), series=(2, 0)) as (reader, inner):
        assert reader.numbers == (2, 0)
        for place, number in enumerate(reader.numbers):
            np.testing.assert_array_equal(pixels(reader, place), pixels(inner, number))
            assert reader.reads_parts(place, 0) == inner.reads_parts(number, 0)
        assert len(reader.ome().images) == 2


def test_profiles_and_other_metadata_are_dropped(tmp_path: Path) -> None:
    with cleaned(planted(tmp_path / "a.ome.tif")) as (reader, inner):
        assert MARKER in str(inner.own_metadata()) + str(dict(inner.original_metadata))
        assert reader.own_metadata() is None
        assert dict(reader.original_metadata) == {}
        assert reader.modulo(0) == {}
        assert reader.icc_profile(0) is None
        assert MARKER not in reader.ome().to_xml()
        assert reader.ome() is reader.ome()


def test_jpeg_streams_are_cleaned(tmp_path: Path) -> None:
    with cleaned(planted(tmp_path / "a.ome.tif")) as (reader, inner):
        stored = reader.stored_as(0, 0)
        assert stored is not None
        assert stored["compression"] == "jpeg"
        data, before = reader.read_stored(0, 0, (0,) * 5), inner.read_stored(0, 0, (0,) * 5)
        assert data is not None
        assert MARKER.encode() in before
        assert MARKER.encode() not in data
        np.testing.assert_array_equal(pixels(reader), pixels(inner))


def test_other_encodings_are_decoded(tmp_path: Path) -> None:
    imwrite(tmp_path / "a.ome.zarr", COLORS[0, 0, 0], axes="YX")
    with cleaned(tmp_path / "a.ome.zarr") as (reader, inner):
        assert inner.stored_as(0, 0) is not None
        assert reader.stored_as(0, 0) is None


def test_streams_that_are_not_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = (0, 0, 0, 0, 1)
    with cleaned(planted(tmp_path / "a.ome.tif")) as (reader, inner):
        monkeypatch.setattr(inner, "read_stored", lambda *_: b"\xff\xd8 no segments")
        message = r"image 0, level 0, chunk \(0, 0, 0, 0, 1\): its JPEG stream cannot be cleaned: "
        with pytest.raises(UnreadableFile, match=message):
            reader.read_stored(0, 0, index)
        monkeypatch.setattr(inner, "read_stored", lambda *_: None)
        assert reader.read_stored(0, 0, index) is None
        # Tables that cannot be cleaned: the tiles are decoded.
        details = (("compression", "jpeg"), ("tables", b"\xff\xd8 no segments"))
        monkeypatch.setattr(inner, "stored_as", lambda *_: StoredAs("tiff", details))
        assert reader.stored_as(0, 0) is None
        monkeypatch.setattr(inner, "stored_as", lambda *_: None)
        assert reader.stored_as(0, 0) is None


def test_tables_that_all_tiles_share_are_kept_without_metadata(tmp_path: Path) -> None:
    rows = np.ascontiguousarray(np.moveaxis(COLORS[0, :, 0], 0, -1))
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, rows, tile=(32, 32), compression="jpeg", photometric="rgb",
        compressionargs={"outcolorspace": "rgb"}, jpegtables=None,
    )  # fmt: skip
    with cleaned(path) as (reader, inner):
        stored, before = reader.stored_as(0, 0), inner.stored_as(0, 0)
        assert stored is not None
        assert before is not None
        kept = {key for key, value in stored.details if before[key] == value}
        assert kept >= {key for key, _ in before.details} - {"tables"}


def test_documents_of_another_number_of_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cleaned(planted(tmp_path / "a.ome.tif")) as (reader, inner):
        document = inner.ome().model_copy(deep=True)
        document.images = []
        monkeypatch.setattr(inner, "ome", lambda: document)
        with pytest.raises(UnreadableFile, match="describe 0 images and the file contains 1, so"):
            reader.ome()
