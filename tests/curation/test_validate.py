"""`validate`: what it finds in files made by other libraries, whole and damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaozarrs

from bfbridge import BioWriter, imwrite
from bfbridge.curation import validate
from bfbridge.errors import BadArgument, FileMissing
from tests.support.commands import Run
from tests.support.samples import distinct, write_ome_tiff, write_ome_zarr, write_plate

PIXELS = distinct((2, 3, 2, 40, 50))


def codes(path: Path, severity: str = "error", **options: Any) -> list[str]:
    return sorted({f.code for f in validate(path, **options).findings if f.severity == severity})


# ---- valid files


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("name", ["a.ome.zarr", "a.ome.zarr.zip"])
def test_stores_written_here_are_valid(tmp_path: Path, version: str, name: str) -> None:
    path = tmp_path / name
    imwrite(path, PIXELS, axes="TCZYX", pixel_size=0.5, pyramid=2, chunks=16, version=version)
    found = validate(path, pixels=True)
    assert (found.valid, found.warnings, found.backend) == (True, (), "omezarr")
    levels = (40 * 50, 20 * 25, 10 * 13)
    assert found.pixels == 12 * sum(levels)


def test_stores_of_zarr_python_are_valid(tmp_path: Path) -> None:
    labels = (PIXELS[:, :1] % 5).astype(np.int32)
    image = write_ome_zarr(tmp_path / "a.ome.zarr", [PIXELS], labels=labels)
    plate = write_plate(tmp_path / "p.ome.zarr", {(0, 1): [PIXELS], (1, 0): [PIXELS]}, 2, 2)
    for path in (image, plate):
        # zarr-python writes dimension names only if the caller passes them; NGFF 0.5 requires them.
        errors = validate(path, pixels=True).errors
        assert {error.where.rpartition(" ")[2] for error in errors} == {"dimension_names"}


def test_sharded_store_is_valid_and_its_index_checked(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    imwrite(path, PIXELS, axes="TCZYX", chunks=16, shards=64)
    assert codes(path) == []
    shard = path / "0/c/0/0/0/0/0"
    shard.write_bytes(shard.read_bytes()[:-1] + b"\0")
    assert codes(path) == ["zarr-shard"]


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiffs_of_tifffile_are_valid(tmp_path: Path, compression: str | None) -> None:
    lower = [PIXELS[..., ::2, ::2]]
    path = write_ome_tiff(tmp_path / "a.ome.tif", PIXELS, levels=lower, compression=compression)
    found = validate(path, pixels=True)
    assert (found.errors, found.warnings) == ((), ())
    assert found.pixels == PIXELS.size + lower[0].size


def test_tiff_written_here_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    imwrite(path, PIXELS, axes="TCZYX", pyramid=2, tile=16, channel_names=["a", "b", "c"])
    found = validate(path, pixels=True)
    assert (found.findings, found.backend) == ((), "ometiff")


def test_a_format_without_rules_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    imwrite(tmp_path / "a.tif", PIXELS[0, 0, 0].astype(np.uint8), axes="YX")
    from PIL import Image

    Image.fromarray(PIXELS[0, 0, 0].astype(np.uint8)).save(path)
    found = validate(path, pixels=True)
    assert (found.valid, found.backend, found.pixels) == (True, "pictures", 2000)
    assert [f.code for f in found.findings] == ["format"]
    path.write_bytes(path.read_bytes()[:60])
    assert codes(path) == ["unreadable"]


# ---- OME-Zarr


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def ome(content: dict[str, Any]) -> dict[str, Any]:
    return content["attributes"]["ome"]


def scales(content: dict[str, Any], level: int) -> dict[str, Any]:
    return ome(content)["multiscales"][0]["datasets"][level]["coordinateTransformations"]


CHANGES: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    "no version": ("ngff-version", lambda d: ome(d).pop("version")),
    "no multiscales": ("ngff-missing", lambda d: ome(d).pop("multiscales")),
    "axes out of order": (
        "ngff-axes", lambda d: ome(d)["multiscales"][0]["axes"].insert(
            0, ome(d)["multiscales"][0]["axes"].pop())),
    "an axis twice": (
        "ngff-axes", lambda d: ome(d)["multiscales"][0]["axes"][3].update(name="x")),
    "six axes": (
        "ngff-axes", lambda d: ome(d)["multiscales"][0]["axes"].append({"name": "w"})),
    "no path": ("ngff-datasets", lambda d: ome(d)["multiscales"][0]["datasets"][0].pop("path")),
    "outside the store": (
        "zarr-path", lambda d: ome(d)["multiscales"][0]["datasets"][0].update(path="../a")),
    "no array": (
        "zarr-missing", lambda d: ome(d)["multiscales"][0]["datasets"][1].update(path="7")),
    "no scale": ("ngff-transformations", lambda d: scales(d, 0).clear()),
    "translation first": ("ngff-transformations", lambda d: scales(d, 1).reverse()),
    "short scale": ("ngff-transformations", lambda d: scales(d, 0)[0]["scale"].pop()),
    "colour": ("ngff-omero", lambda d: ome(d)["omero"]["channels"][0].update(color="#ff")),
    "window": ("ngff-omero", lambda d: ome(d)["omero"]["channels"][0]["window"].pop("end")),
}  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "a.ome.zarr"
    imwrite(path, PIXELS, axes="TCZYX", pixel_size=0.5, pyramid=1, chunks=16)
    return path


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("name", CHANGES)
def test_documents_that_break_ngff_as_yaozarrs_finds_too(store: Path, name: str) -> None:
    yaozarrs.validate_zarr_store(str(store))
    code, change = CHANGES[name]
    edit(store / "zarr.json", change)
    assert code in codes(store)
    with pytest.raises(ValueError, match=r"\S"):
        yaozarrs.validate_zarr_store(str(store))


def test_scales_that_contradict_the_shapes(store: Path) -> None:
    edit(store / "zarr.json", lambda d: scales(d, 1)[0]["scale"].__setitem__(4, 2.0))
    assert codes(store) == ["ngff-scale"]
    (error,) = validate(store).errors
    assert "along axis 4 its scale is 4 times" in error.message
    assert error.where.endswith("a.ome.zarr: multiscales[0].datasets[1]")
    assert "bfbridge convert" in error.remedy


def test_levels_displayed_at_other_positions(store: Path) -> None:
    edit(store / "zarr.json", lambda d: scales(d, 1)[1]["translation"].__setitem__(3, 40))
    assert (codes(store), codes(store, "warning")) == ([], ["ngff-translation"])


def test_names_of_dimensions_and_damaged_documents(store: Path) -> None:
    edit(store / "0/zarr.json", lambda d: d.update(dimension_names=list("tczxy")))
    assert codes(store) == ["ngff-axes"]
    (store / "1/zarr.json").write_text("{")
    assert codes(store) == ["ngff-axes", "zarr-document"]


def test_chunks_that_are_missing_empty_short_or_in_the_way(store: Path) -> None:
    raw = store.with_name("raw.ome.zarr")
    imwrite(raw, PIXELS, axes="TCZYX", chunks=16, compression="none")
    chunk = raw / "0/c/0/0/0/1/1"
    chunk.write_bytes(chunk.read_bytes()[:-2])
    assert codes(raw) == ["zarr-chunk"]
    (store / "0/c/0/0/0/9").mkdir()
    (store / "0/c/0/0/0/9/0").write_bytes(b"x")
    (store / "0/c/0/0/0/1/1").write_bytes(b"")
    (store / "0/c/0/0/0/1/2").unlink()
    assert codes(store) == ["zarr-chunk"]
    assert codes(store, "warning") == ["zarr-stray"]
    assert codes(store, "note") == ["zarr-absent"]
    for file in (store / "1/c").rglob("*"):
        if file.is_file():
            file.unlink()
    assert codes(store, "warning") == ["zarr-absent", "zarr-stray"]


def test_pixels_that_cannot_be_decoded(store: Path) -> None:
    chunk = store / "0/c/1/2/0/1/0"
    data = bytearray(chunk.read_bytes())
    data[16:40] = bytes(24)
    chunk.write_bytes(bytes(data))
    assert codes(store) == []
    found = validate(store, pixels=True)
    (error,) = found.errors
    assert error.code == "pixels"
    assert "image 0, level 0, y 16, x 0, z 0, c 2, t 1" in error.where
    assert str(Path("0/c/1/2/0/1/0")) in error.message
    assert 0 < (found.pixels or 0) < PIXELS.size * 1.25


def test_labels(tmp_path: Path) -> None:
    labels = (PIXELS[:, :1, :, :20] % 5).astype(np.float32)
    path = write_ome_zarr(tmp_path / "a.ome.zarr", [PIXELS, PIXELS[..., ::2, ::2]], labels=labels,
                          scale=(1, 1, 1, 1, 1))  # fmt: skip
    document = path / "labels/cells/zarr.json"
    colors = [{"label-value": 1, "rgba": [0, 0, 300, 0]}, {"label-value": 1}]
    edit(document, lambda d: ome(d)["image-label"].update(colors=colors))
    errors = validate(path).errors
    text = " ".join(f"{e.code} {e.message}" for e in errors)
    for part in ("integers, not float32", "a label-value occurs twice", "0 to 255"):
        assert part in text
    assert "differ from those of the image" in str(validate(path).warnings)
    edit(path / "labels/zarr.json", lambda d: ome(d).update(labels=["cells", "gone"]))
    assert "zarr-missing" in codes(path)


def test_plates(tmp_path: Path) -> None:
    path = write_plate(tmp_path / "p.ome.zarr", {(0, 1): [PIXELS], (1, 0): [PIXELS]}, 2, 2)
    edit(path / "zarr.json", lambda d: ome(d)["plate"]["wells"][0].update(rowIndex=1))
    (path / "B/1/zarr.json").unlink()
    assert codes(path) == ["ngff-axes", "ngff-plate", "zarr-missing"]


def test_an_interrupted_change(store: Path) -> None:
    (store / ".bfbridge-journal/new").mkdir(parents=True)
    assert codes(store) == ["zarr-journal"]


# ---- OME-TIFF


@pytest.fixture
def tiff(tmp_path: Path) -> Path:
    path = tmp_path / "a.ome.tif"
    imwrite(path, PIXELS, axes="TCZYX", pyramid=1, tile=16, compression="none")
    return path


def test_a_truncated_tiff(tmp_path: Path) -> None:
    path = write_ome_tiff(tmp_path / "a.ome.tif", PIXELS)
    path.write_bytes(path.read_bytes()[:-5000])
    found = validate(path, pixels=True)
    assert "tiff-offsets" in {f.code for f in found.errors}
    assert all(f.remedy for f in found.errors)


def test_offsets_and_lengths(tiff: Path) -> None:
    with tifffile.TiffFile(tiff, mode="r+") as file:
        page = file.pages[3]
        page.tags["TileByteCounts"].overwrite((100, *page.databytecounts[1:]))
        other = file.pages[4]
        offsets = (other.dataoffsets[0] + 7, *other.dataoffsets[1:])
        other.tags["TileOffsets"].overwrite(offsets)
    assert codes(tiff) == ["tiff-lengths", "tiff-overlap"]
    assert any("directory 3, tile 0" in f.where for f in validate(tiff).errors)


def test_lower_resolutions(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(PIXELS[0, 0, 0], subifds=3, tile=(16, 16))
        writer.write(PIXELS[0, 0, 0, ::2, ::4], tile=(16, 16), subfiletype=1)
        writer.write(PIXELS[0, 0, 0, ::4, ::8].astype("u1"), tile=(16, 16), subfiletype=0)
        writer.write(PIXELS[0, 0, 0], tile=(16, 16), subfiletype=1)
    messages = " ".join(f.message for f in validate(path).findings if f.code == "tiff-pyramid")
    for text in ("another ratio", "1 x uint8", "NewSubfileType", "not below that of"):
        assert text in messages


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (b'DimensionOrder="XYZCT"', b'DimensionOrder="XYZTC"', None),
        (b'Type="uint16"', b'Type="uint17"', "tiff-open"),
        (b'SamplesPerPixel="1"', b'SamplesPerPixxl="1"', "ome-schema"),
    ],
)
def test_ome_xml(tiff: Path, old: bytes, new: bytes, code: str | None) -> None:
    data = tiff.read_bytes()
    assert old in data
    tiff.write_bytes(data.replace(old, new))
    assert validate(tiff).valid is (code is None)
    assert code is None or code in codes(tiff)


def test_missing_file_of_a_set(tmp_path: Path) -> None:
    name = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    planes = "".join(
        f'<TiffData IFD="0" FirstT="{t}" PlaneCount="1"><UUID FileName="t{t}.ome.tif">urn:uuid:'
        f"00000000-0000-0000-0000-00000000000{t}</UUID></TiffData>"
        for t in range(2)
    )
    for t in range(2):
        xml = (
            f'<OME xmlns="{name}" UUID="urn:uuid:00000000-0000-0000-0000-00000000000{t}">'
            '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" '
            'SizeX="50" SizeY="40" SizeZ="1" SizeC="1" SizeT="2"><Channel ID="Channel:0:0" '
            f'SamplesPerPixel="1"/>{planes}</Pixels></Image></OME>'
        )
        tifffile.imwrite(tmp_path / f"t{t}.ome.tif", PIXELS[t, 0, 0], description=xml,
                         metadata=None)  # fmt: skip
    assert codes(tmp_path / "t0.ome.tif") == []
    (tmp_path / "t1.ome.tif").unlink()
    assert "tiff-plane" in codes(tmp_path / "t0.ome.tif")


# ---- arguments, command line


def test_arguments(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="no such file"):
        validate(tmp_path / "none.ome.tif")
    imwrite(tmp_path / "a.ome.tif", PIXELS, axes="TCZYX")
    with pytest.raises(BadArgument, match="pixels"):
        validate(tmp_path / "a.ome.tif", pixels="yes")  # type: ignore[arg-type]


def test_command(run: Run, store: Path, tiff: Path) -> None:
    done = run("validate", store, tiff, "--pixels")
    assert (done.code, done.err) == (0, "")
    assert f"{tiff}: valid (0 errors, 0 warnings, 30,000 pixels decoded)" in done.out
    edit(store / "zarr.json", lambda d: scales(d, 1)[1]["translation"].__setitem__(3, 40))
    assert run("validate", store).code == 0
    assert run("validate", store, "--strict").code == 1
    edit(store / "zarr.json", lambda d: scales(d, 0).clear())
    done = run("validate", store, tiff, "--json")
    assert done.code == 1
    first, second = json.loads(done.out)
    assert (first["valid"], second["valid"]) == (False, True)
    assert {"severity", "code", "where", "message", "remedy"} == set(first["findings"][0])
    done = run("validate", store.with_name("none"))
    assert (done.code, "no such file" in done.err) == (1, True)
    assert run("validate").code == 2


def test_unfinished_store_is_not_valid(tmp_path: Path) -> None:
    bw = BioWriter(tmp_path / "a.ome.zarr", image=PIXELS[0, 0, 0])
    (tmp_path / "b.ome.zarr").mkdir()
    assert codes(tmp_path / "b.ome.zarr") == ["unreadable"]
    bw.abort()


def test_damage_that_ends_the_checks_is_a_finding(tmp_path: Path, store: Path) -> None:
    (store / "labels").mkdir()
    (store / "labels/zarr.json").write_text("[]")
    (error, *_) = validate(store).errors
    assert error.where.startswith(str(store))
    assert "zarr.json" in f"{error.where} {error.message}"
    packed = tmp_path / "a.ozx"
    imwrite(packed, PIXELS, axes="TCZYX")
    packed.write_bytes(packed.read_bytes()[:-400])
    assert codes(packed) == ["unreadable"]
