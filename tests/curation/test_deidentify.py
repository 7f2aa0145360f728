"""`deidentify`: a marker planted in every place of metadata is nowhere in the new file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from bfbridge import BioReader, BioWriter, imwrite
from bfbridge.curation import check_deidentified, deidentify, deidentify_many
from bfbridge.errors import (
    BadArgument,
    BadSelection,
    FileMissing,
    TargetExists,
    Unsupported,
    WriteFailed,
)
from bfbridge.tiff.jpeg_segments import without_metadata
from tests.support.commands import Run
from tests.support.identifying import MARKER, PIXELS, holds, planted

# ---- the marker is nowhere


@pytest.mark.parametrize("name", ["clean.ome.tif", "clean.ome.zarr"])
@pytest.mark.parametrize("recompress", [False, True])
def test_marker_in_every_place_is_removed(tmp_path: Path, name: str, recompress: bool) -> None:
    source = planted(tmp_path / "source.ome.tif")
    assert holds(source, MARKER)
    assert not check_deidentified(source).valid
    target = tmp_path / name
    done = deidentify(source, target, recompress=recompress)
    assert not holds(target, MARKER)
    assert not holds(target, "2011")
    found = check_deidentified(target)
    assert found.valid
    assert [f.message for f in found.findings] == ["names of channels: Bright field"]
    assert done.findings == ("names of channels: Bright field",)
    with BioReader(source) as old, BioReader(target) as new:
        np.testing.assert_array_equal(old[:], new[:])
        assert (new.name, new.magnification, new.channel_names[0]) == (
            "Image 0", 20.0, "Bright field",
        )  # fmt: skip
        assert new.physical_pixel_size == old.physical_pixel_size
        lens = new.ome.instruments[0].objectives[0]
        assert (lens.lens_na, lens.immersion.value) == (0.8, "Oil")  # type: ignore[union-attr]
        assert not new.ome.images[0].pixels.planes
        assert not new.ome.experimenters
    text = "\n".join(done.removed)
    for place in ("Experimenter", "Image/AcquisitionDate", "Image/Description", "ROI", "Plane",
                  "StructuredAnnotations", "Microscope", "Fluor"):  # fmt: skip
        assert place in text
    assert MARKER not in str(done.as_dict()).replace(str(tmp_path), "")
    assert "Image/Pixels/Channel@Name: Bright field" in done.kept


def test_jpeg_tiles_are_copied(tmp_path: Path) -> None:
    deidentify(planted(tmp_path / "a.ome.tif"), tmp_path / "b.ome.tif")
    with (
        tifffile.TiffFile(tmp_path / "a.ome.tif") as a,
        tifffile.TiffFile(tmp_path / "b.ome.tif") as b,
    ):
        old, new = a.pages[0], b.pages[0]
        assert new.tags["Compression"].value == 7
        for i in range(2):
            a.filehandle.seek(old.dataoffsets[i])  # type: ignore[union-attr]
            b.filehandle.seek(new.dataoffsets[i])  # type: ignore[union-attr]
            stored = a.filehandle.read(old.databytecounts[i])  # type: ignore[union-attr]
            kept = b.filehandle.read(new.databytecounts[i])  # type: ignore[union-attr]
            assert without_metadata(stored) == kept


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize(
    "channel", [MARKER, "Doe, Jane", "/home/x", "12.03.1965", "a@b.org", "1234567", "x" * 65]
)
def test_channel_names(tmp_path: Path, channel: str) -> None:
    source = planted(tmp_path / "a.ome.tif", channel)
    deidentify(source, tmp_path / "b.ome.tif", channel_names=False)
    deidentify(source, tmp_path / "c.ome.tif")
    assert not holds(tmp_path / "b.ome.tif", channel)
    # A name that could be a channel's is kept, and listed for a person to look at.
    assert holds(tmp_path / "c.ome.tif", channel) == (channel == MARKER)


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("name", ["b.ome.tif", "b.ome.zarr"])
def test_stack_keeps_its_pixels_and_axes(tmp_path: Path, name: str) -> None:
    source = tmp_path / "a.ome.zarr"
    imwrite(source, PIXELS, axes="TCZYX", pixel_size=0.5, pyramid=1, chunks=16,
            channel_names=["DAPI", "GFP", "c"])  # fmt: skip
    root = zarr.open_group(source, mode="a")
    root.attrs["patient"] = MARKER
    root["0"].attrs["patient"] = MARKER
    (source / "notes.txt").write_text(MARKER)
    done = deidentify(source, tmp_path / name, positions=True)
    assert not holds(tmp_path / name, MARKER)
    assert check_deidentified(tmp_path / name).valid
    with BioReader(source) as old, BioReader(tmp_path / name) as new:
        np.testing.assert_array_equal(old[:], new[:])
        assert new.channel_names == ["DAPI", "GFP", "c"]
        assert new.physical_pixel_size == old.physical_pixel_size
    assert "names of channels: DAPI, GFP, c" in done.findings


def test_positions_are_kept_on_request(tmp_path: Path) -> None:
    source = planted(tmp_path / "a.ome.tif")
    for positions in (False, True):
        deidentify(source, tmp_path / "b.ome.tif", positions=positions, overwrite=True)
        with BioReader(tmp_path / "b.ome.tif") as br:
            planes = br.ome.images[0].pixels.planes
            assert [(p.position_x, p.delta_t) for p in planes] == [(7.5, None)] * positions
        assert check_deidentified(tmp_path / "b.ome.tif").valid


# ---- photographs


def slide(path: Path, *, named: bool = True) -> Path:
    """A slide with a photograph of its label; unless it is `named`, of unknown role."""
    from ome_types import OME, model

    names, sides = ("scan", "label image" if named else "scan 2", "detail"), (96, 20, 16)
    images = [
        model.Image(
            id=f"Image:{i}", name=names[i],
            pixels=model.Pixels(
                id=f"Pixels:{i}", dimension_order="XYCZT", type="uint8", size_x=sides[i],
                size_y=sides[i], size_z=1, size_c=3, size_t=1,
                physical_size_x=None if i == 1 else 0.5,
                channels=[model.Channel(id=f"Channel:{i}:0", samples_per_pixel=3)],
            ),
        )
        for i in range(3)
    ]  # fmt: skip
    with BioWriter(path, metadata=OME(images=images), series="all") as bw:
        for number, image in enumerate(bw.series):
            image[:] = np.full((sides[number], sides[number], 1, 3), 50 + number, np.uint8)
    return path


def test_labels_are_dropped_or_blanked(tmp_path: Path) -> None:
    source = slide(tmp_path / "a.ome.tif")
    done = deidentify(source, tmp_path / "b.ome.tif")
    with BioReader(tmp_path / "b.ome.tif") as br:
        assert [(s.name, int(s[:].max())) for s in br.series] == [("Image 0", 50), ("Image 1", 52)]
    assert done.removed[0].startswith("image 1: ")
    assert "20 x 20" in done.removed[0]
    done = deidentify(source, tmp_path / "c.ome.zarr", label_image="blank")
    assert done.removed[0].startswith("pixels of image 1: ")
    assert check_deidentified(tmp_path / "c.ome.zarr").valid
    with BioReader(tmp_path / "c.ome.zarr") as br:
        assert sorted(int(s[:].max()) for s in br.series) == [0, 50, 52]
    deidentify(source, tmp_path / "d.ome.tif", series=[1, 0])
    with BioReader(tmp_path / "d.ome.tif") as br:
        assert sorted(int(s[:].max()) for s in br.series) == [50, 51]


def test_image_that_may_be_a_photograph_is_refused(tmp_path: Path) -> None:
    source = slide(tmp_path / "a.ome.tif", named=False)
    with pytest.raises(Unsupported, match=r"image 1, 20 x 20 .* photograph .* series="):
        deidentify(source, tmp_path / "b.ome.tif")
    assert os.listdir(tmp_path) == ["a.ome.tif"]
    deidentify(source, tmp_path / "b.ome.tif", series=[0])
    assert check_deidentified(tmp_path / "b.ome.tif").valid


def test_masks_of_an_image_are_kept(tmp_path: Path) -> None:
    source = tmp_path / "a.ome.zarr"
    imwrite(source, PIXELS, axes="TCZYX")
    with BioWriter(source, labels=MARKER, Z=2, T=2, dtype="uint8") as bw:
        bw[:] = np.moveaxis(PIXELS[:, :1] % 7, (0, 1, 2), (4, 3, 2))
    for name in ("b.ome.zarr", "b.ome.tif"):
        deidentify(source, tmp_path / name)
        assert not holds(tmp_path / name, MARKER)
        assert check_deidentified(tmp_path / name).valid
        with BioReader(source) as old, BioReader(tmp_path / name) as new:
            assert [(s.role, s.is_mask) for s in new.series] == [("image", False), ("label", True)]
            np.testing.assert_array_equal(old.series[1][:], new.series[1][:])


# ---- refused


def test_never_in_place(tmp_path: Path) -> None:
    source = planted(tmp_path / "a.ome.tif")
    (tmp_path / "link.ome.tif").symlink_to(source)
    os.link(source, tmp_path / "hard.ome.tif")
    before = source.read_bytes()
    for name in ("a.ome.tif", "link.ome.tif", "hard.ome.tif"):
        with pytest.raises(TargetExists, match="the source itself"):
            deidentify(source, tmp_path / name, overwrite=True)
    imwrite(tmp_path / "s.ome.zarr", PIXELS, axes="TCZYX")
    (tmp_path / "link").symlink_to(tmp_path / "s.ome.zarr")
    for inside in ("s.ome.zarr/x.ome.tif", "link/x.ome.zarr"):
        with pytest.raises(TargetExists, match="inside the source"):
            deidentify(tmp_path / "s.ome.zarr", tmp_path / inside)
    assert source.read_bytes() == before
    assert (tmp_path / "link.ome.tif").is_symlink()


def test_what_cannot_be_cleaned_or_checked_is_refused(tmp_path: Path) -> None:
    source = planted(tmp_path / "a.ome.tif")
    for name in ("b.png", "b.ome.zarr.zip", "memory://b.ome.zarr"):
        with pytest.raises(Unsupported, match=r"cannot be checked|give a path"):
            deidentify(source, tmp_path / name if ":" not in name else name)
    with pytest.raises(BadArgument, match="drop, blank"):
        deidentify(source, tmp_path / "b.ome.tif", label_image="black")
    with pytest.raises(BadSelection, match="has 1 images"):
        deidentify(source, tmp_path / "b.ome.tif", series=[3])
    with pytest.raises(FileMissing):
        check_deidentified(tmp_path / "missing.tif")
    with pytest.raises(FileMissing):
        deidentify(tmp_path / "missing.tif", tmp_path / "b.ome.tif")
    Image.new("RGB", (3, 4)).save(tmp_path / "p.png")
    with pytest.raises(Unsupported, match="cannot be checked"):
        check_deidentified(tmp_path / "p.png")
    with pytest.raises(TargetExists, match="exists"):
        deidentify(tmp_path / "p.png", source)
    assert sorted(os.listdir(tmp_path)) == ["a.ome.tif", "p.png"]


def test_interruption_and_failed_check_leave_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = planted(tmp_path / "a.ome.tif"), tmp_path / "b.ome.tif"
    target.write_bytes(b"before")

    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deidentify(source, target, overwrite=True, progress=stop)

    from bfbridge.curation import cleaned_reader

    monkeypatch.setattr(cleaned_reader, "cleaned_document", lambda ome, *_, **__: ome)
    with pytest.raises(WriteFailed, match=r"b\.ome\.tif: not written, .* check"):
        deidentify(source, target, overwrite=True)
    assert target.read_bytes() == b"before"
    assert sorted(os.listdir(tmp_path)) == ["a.ome.tif", "b.ome.tif"]


# ---- many files, and the command


@pytest.mark.java  # which files belong together
def test_many_files_get_neutral_names(tmp_path: Path, run: Run) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    planted(folder / f"{MARKER}.ome.tif")
    imwrite(folder / "b.ome.zarr", PIXELS, axes="TCZYX")
    (folder / "c.ome.zarr").mkdir()
    (folder / "c.ome.zarr/zarr.json").write_text("{")
    results = deidentify_many(folder, tmp_path / "out", suffix=".ome.zarr")
    errors = {Path(result.source).name: result.error is not None for result in results}
    assert errors == {f"{MARKER}.ome.tif": False, "b.ome.zarr": False, "c.ome.zarr": True}
    made = sorted(os.listdir(tmp_path / "out"))
    assert len(made) == 2
    assert all(name.startswith("image_000") for name in made)
    assert not any(holds(tmp_path / "out" / name, MARKER) for name in made)
    done = run("deidentify", folder, tmp_path / "out2", "--json")
    assert done.code == 1
    assert "c.ome.zarr" in done.err
    assert len(json.loads(done.out)) == 3


def test_command(tmp_path: Path, run: Run) -> None:
    source, target = planted(tmp_path / "a.ome.tif"), tmp_path / "b.ome.tif"
    assert run("deidentify", "--check", source).code == 1
    done = run("deidentify", source, target)
    assert done.code == 0, done.err
    assert "removed:" in done.out
    assert "Image/Description: 1 of 1 values" in done.out
    assert "look at: names of channels: Bright field" in done.out
    done = run("deidentify", "--check", target)
    assert (done.code, done.out.splitlines()[-1]) == (0, f"{target}: nothing found")
    done = run("deidentify", "--check", "--json", source)
    assert done.code == 1
    assert json.loads(done.out)["valid"] is False
    assert MARKER not in done.out
    done = run("deidentify", source, target)
    assert done.code == 1
    assert "exists" in done.err
    done = run("deidentify", source, target, "--overwrite", "--json", "--no-channel-names")
    assert done.code == 0
    assert json.loads(done.out)["findings"] == []
    assert run("deidentify", source).code == 2
