"""What --verify proves: the copy, and the choice of pixels, by a way of its own."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader, BioWriter, convert
from bfbridge.convert.copy import source as single
from bfbridge.convert.plan import pieces
from bfbridge.convert.verification.checksum import PixelChecksum
from bfbridge.convert.verification.selection import check_selection
from bfbridge.errors import ReadFailed

SHAPE = (40, 50, 4, 6, 2)


def pixels() -> Any:
    return np.random.default_rng(1).permutation(np.arange(96000, dtype=np.uint32)).reshape(SHAPE)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two channels of three samples, in chunks that hold several planes."""
    path = tmp_path / "source.ome.zarr"
    with BioWriter(path, image=pixels(), chunks=(1, 2, 3, 16, 32)) as bw:
        bw[:] = pixels()
    return path


def test_a_plan_of_other_planes_is_found(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = pieces.plan_outputs

    def off_by_one(*args: Any) -> Any:
        (output,) = plain(*args)
        (piece,) = output.pieces
        return [replace(output, pieces=(replace(piece, z=range(1, 3)),))]

    monkeypatch.setattr(single, "plan_outputs", off_by_one)
    with pytest.raises(ReadFailed, match="not the requested ones: image 0, t 0, c 0, z 0 is miss"):
        convert(source, tmp_path / "t.ome.tif", z="0:2", verify=True)
    assert not (tmp_path / "t.ome.tif").exists()
    convert(source, tmp_path / "t.ome.tif", z="0:2")


def test_a_source_that_gives_other_pixels_the_second_time_is_found(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Before(PixelChecksum):
        def describe(self) -> dict[str, Any]:
            return {**super().describe(), "value": "what was read first"}

    monkeypatch.setattr(single, "PixelChecksum", Before)
    with pytest.raises(ReadFailed, match="the source gave other pixels when it was read again"):
        convert(source, tmp_path / "t.ome.tif", verify=True)


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("axis", range(5))
def test_a_block_read_from_another_place_is_found(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, axis: int
) -> None:
    plain = pieces.Piece.read

    def shifted(self: Any, view: Any, key: Any) -> Any:
        return np.roll(plain(self, view, key), 1, axis)

    monkeypatch.setattr(pieces.Piece, "read", shifted)
    with pytest.raises(ReadFailed, match="the pixels are not the source's"):
        convert(source, tmp_path / "t.ome.tif", verify=True, recompress=True)


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize(
    "wanted",
    [
        {"z": "0,2:", "t": -1, "channels": [5, slice(0, 2)]},
        {"z": range(1, 4, 2), "crop": (3, 5, 40, 30), "split": "c"},
        {"channels": "Channel 1,0", "t": (1, 0), "z": np.array([3, 1])},
    ],
)
def test_choices_are_proved(source: Path, tmp_path: Path, wanted: dict[str, Any]) -> None:
    if "Channel" in str(wanted):
        wanted = {**wanted, "channels": "b,0"}
        with BioWriter(
            tmp_path / "named.ome.tif", image=pixels(), channel_names=list("abcdef")
        ) as bw:
            bw[:] = pixels()
        source = tmp_path / "named.ome.tif"
    done = convert(source, tmp_path / "t.ome.tif", verify=True, **wanted)
    assert all(output.verified for output in done.files[0].outputs)


def test_samples_stay_together(tmp_path: Path) -> None:
    a = pixels().astype(np.uint8)
    with BioWriter(tmp_path / "rgb.ome.tif", image=a, samples_per_pixel=3) as bw:
        bw[:] = a
    convert(tmp_path / "rgb.ome.tif", tmp_path / "t.ome.zarr", channels=1, z=2, verify=True)
    with BioReader(tmp_path / "t.ome.zarr") as br:
        np.testing.assert_array_equal(br[:].reshape(40, 50, 3, 2), a[:, :, 2, 3:])


@pytest.mark.parametrize("kind", [bytes, io.BytesIO])
def test_sources_without_a_name_are_opened_again(tmp_path: Path, kind: Any) -> None:
    with BioWriter(tmp_path / "a.ome.tif", image=pixels()[:, :, 0, 0, 0]) as bw:
        bw[:] = pixels()[:, :, 0, 0, 0]
    data = kind((tmp_path / "a.ome.tif").read_bytes())
    done = convert(data, tmp_path / "t.ome.tif", verify=True)
    assert done.files[0].outputs[0].verified


def test_planes_of_a_split_are_counted_once(source: Path) -> None:
    from bfbridge.convert.options import ConvertOptions

    request = ConvertOptions(split="c,z")
    with BioReader(source) as br:
        outputs = pieces.plan_outputs(br, "t.ome.tif", request)
        check_selection(br, outputs, request)
        with pytest.raises(ReadFailed, match="t 0, c 0, z 0"):
            check_selection(br, [outputs[0], *outputs], request)
        with pytest.raises(ReadFailed, match="t 0, c 5, z 3"):
            check_selection(br, outputs[:-1], request)
