"""`BioReader` on every real file, chosen by content and through Bio-Formats."""

from __future__ import annotations

import gzip
import json
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader
from bfbridge.errors import BfbridgeError, ReadFailed, Unsupported
from tests.real.manifest import (
    DATA,
    Entry,
    entries,
    expected_dtype,
    expected_shape,
    planes,
    right_pixels,
    wrong_planes,
)

OPENING = [entry for entry in entries() if entry.opens and not entry.is_zarr]
STORES = [entry for entry in entries() if entry.is_zarr]
FAILING = [entry for entry in entries() if not entry.opens]

LOSSY = {
    "small_HE.svs": "JPEG tiles: another decoder may round another way",
}
"""Files whose codec loses: natively decoded planes may differ by at most 2 grey levels."""

REFUSED = {
    "rgb32rle.tga": "Bio-Formats unpacks three quarters of it",
}
"""Files that are not read through Java, as Bio-Formats has their pixels wrong."""

pytestmark = pytest.mark.skipif(not entries(), reason=f"no real files at {DATA}")


def tczyx(view: Any) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = view.read(keepdims=True)
    return array.transpose(4, 3, 2, 0, 1)


def is_refused(entry: Entry, backend: str | None) -> bool:
    """Whether another backend reads a file; the reason is checked first."""
    if backend is None or entry.path.name not in REFUSED:
        return False
    with (
        pytest.raises(Unsupported, match=entry.path.name),
        BioReader(entry.path, backend=backend) as br,
    ):
        br[:]
    return True


@pytest.fixture(params=["content", "bioformats"])
def backend(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "content" else str(request.param)


def nominal(series: dict[str, Any]) -> dict[str, tuple[float, str]]:
    sizes = series.get("physical_size") or {}
    return {axis.lower(): (value, unit) for axis, (value, unit) in sizes.items()}


@pytest.mark.parametrize("entry", OPENING, ids=str)
def test_metadata_agree(entry: Entry, backend: str | None) -> None:
    if is_refused(entry, backend):
        return
    with BioReader(entry.path, backend=backend) as br:
        assert len(br.series) == entry.truth["series_count"]
        assert br.backend_reason
        for view, series in zip(br.series, entry.series, strict=False):
            t, c, z, y, x = expected_shape(series)
            assert view.sizes == {"Y": y, "X": x, "Z": z, "C": c, "T": t}
            assert view.dtype == expected_dtype(series)
            assert len(view.levels) == series["resolution_count"]
            assert view.channel_names == series["channel_names"]
            size = view.physical_pixel_size
            for axis, (value, unit) in nominal(series).items():
                found = getattr(size, axis)
                assert found is not None, f"no pixel size along {axis}"
                assert found.unit == unit
                assert found.value == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("entry", OPENING, ids=str)
def test_every_listed_plane_agrees(entry: Entry, backend: str | None) -> None:
    if entry.pixels_fail:
        pytest.skip("the reference cannot read its pixels: see the next test")
    if is_refused(entry, backend):
        return
    right = right_pixels(entry)
    with BioReader(entry.path, backend=backend) as br:
        if right is not None:
            # Java's decoder of JPEG 2000 rounds another way.
            difference = np.abs(tczyx(br).astype(float) - right).max()
            assert difference <= (0 if backend is None else 2)
            return
        for view, series in zip(br.series, entry.series, strict=False):
            found = tczyx(view)
            wrong = wrong_planes(found, series)
            if wrong and entry.path.name in LOSSY and view.backend != "bioformats":
                with BioReader(entry.path, backend="bioformats", series=view.index) as other:
                    reference = tczyx(other)
                for (_, ours), (_, theirs) in zip(
                    planes(found, series), planes(reference, series), strict=True
                ):
                    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 2
                continue
            assert wrong == [], f"series {view.index}: planes {wrong} of {view.backend} differ"


def test_pixels_the_reference_cannot_read_are_right_or_an_error() -> None:
    # Bio-Formats' NRRD reader fails on parts of gzipped planes; whole planes it reads well.
    entry = next(entry for entry in OPENING if entry.pixels_fail)
    content = entry.path.read_bytes()
    raw = gzip.decompress(content[content.index(b"\n\n") + 2 :])
    truth = np.frombuffer(raw, np.uint8).reshape(182, 258, 258).transpose(1, 2, 0)
    with BioReader(entry.path) as br:
        assert np.array_equal(br[:], truth)
        assert np.array_equal(br[100:130, 90:131, 90], truth[100:130, 90:131, 90])
    with BioReader(entry.path, cache=0) as br, pytest.raises(ReadFailed) as caught:
        br[100:130, 90:131, 90]
    assert entry.path.name in str(caught.value)
    assert "z 90, y 100:130, x 90:131" in str(caught.value)


@pytest.mark.parametrize("entry", FAILING, ids=str)
def test_failure_is_clear_and_quick(entry: Entry, backend: str | None) -> None:
    begun = time.monotonic()
    with pytest.raises(BfbridgeError) as caught, BioReader(entry.path, backend=backend) as br:
        br[:]
    assert time.monotonic() - begun < 30
    assert entry.path.name in str(caught.value)
    assert len(str(caught.value)) > len(str(entry.path)) + 20


def multiscales(folder: Path) -> Iterator[tuple[str, list[np.ndarray[Any, Any]]]]:
    """Every multiscale image of a store as zarr has it: (path, arrays of its levels)."""
    import zarr

    for document in sorted(folder.rglob("*")):
        if document.name not in (".zattrs", "zarr.json"):
            continue
        attributes = json.loads(document.read_text(encoding="utf-8"))
        if document.name == "zarr.json":
            attributes = attributes.get("attributes", {})
        for scales in attributes.get("ome", attributes).get("multiscales", [])[:1]:
            paths = [document.parent / dataset["path"] for dataset in scales["datasets"]]
            with warnings.catch_warnings():
                # zarr grumbles about the metadata of some of these stores, and reads them.
                warnings.simplefilter("ignore")
                arrays = [np.asarray(zarr.open_array(path, mode="r")[...]) for path in paths]
            yield str(document.parent.relative_to(folder)), arrays


@pytest.mark.parametrize("entry", STORES, ids=str)
def test_stores_agree_with_zarr(entry: Entry) -> None:
    truth = list(multiscales(entry.path))
    assert truth
    with BioReader(entry.path) as br:
        assert br.backend == "omezarr"
        found = [[tczyx(level) for level in view.levels] for view in br.series]
    assert len(found) == len(truth)
    for path, arrays in truth:
        assert any(same_levels(levels, arrays) for levels in found), f"no image equals {path!r}"


def same_levels(ours: list[np.ndarray[Any, Any]], theirs: list[np.ndarray[Any, Any]]) -> bool:
    return len(ours) == len(theirs) and all(
        mine.size == array.size and np.array_equal(mine.reshape(array.shape), array)
        for mine, array in zip(ours, theirs, strict=True)
    )


def test_manifest_is_what_it_was() -> None:
    listing = json.loads((DATA / "manifest.json").read_text(encoding="utf-8"))
    assert listing["count"] == len(entries())
