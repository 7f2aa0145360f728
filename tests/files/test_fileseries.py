"""Many files as one image, against the array they were cut from."""

import pickle
import threading

import numpy as np
import pytest
import tifffile

from bfbridge import BioReader, registry
from bfbridge.backend import Region
from bfbridge.errors import BadArgument, Closed, FileMissing, UnreadableFile
from bfbridge.files import file_series as fileseries
from tests.support.samples import distinct, write_ome_tiff
from tests.support.webserver import serve

PIXELS = distinct((3, 2, 4, 17, 23))
NAMES = ["DAPI", "GFP"]


@pytest.fixture
def folder(tmp_path):
    for t in range(3):
        for c, name in enumerate(NAMES):
            for z in range(4):
                path = tmp_path / f"img_t{t * 5 + 5}_c{name}_z{z:02d}.tif"
                tifffile.imwrite(path, PIXELS[t, c, z])
    tifffile.imwrite(tmp_path / "img_other.tif", PIXELS[0, 0, 0])
    return tmp_path


def tczyx(br):
    return br.read(keepdims=True).transpose(4, 3, 2, 0, 1)


def test_a_pattern(folder):
    with BioReader(str(folder / "img_t{t:d}_c{c}_z{z:d}.tif")) as br:
        assert br.sizes == {"Y": 17, "X": 23, "Z": 4, "C": 2, "T": 3}
        assert br.channel_names == NAMES
        np.testing.assert_array_equal(tczyx(br), PIXELS)
        np.testing.assert_array_equal(
            br[3:9, ::-2, [3, 0], 1, 1:],
            PIXELS[1:, 1, [3, 0], 3:9, ::-2].transpose(2, 3, 1, 0)[:, :, :, None],
        )
        assert len(br.used_files) == 24
        pixels = br.ome.images[0].pixels
        assert (pixels.size_t, pixels.size_c, pixels.size_z) == (3, 2, 4)
        assert [channel.name for channel in pixels.channels] == NAMES
        copy = pickle.loads(pickle.dumps(br))
        np.testing.assert_array_equal(tczyx(copy), PIXELS)
        np.testing.assert_array_equal(br.to_dask().compute(), PIXELS)


def test_widths_and_fixed_parts(folder):
    with BioReader(folder / "img_t5_cGFP_z{z:dd}.tif") as br:
        np.testing.assert_array_equal(tczyx(br), PIXELS[:1, 1:])
    with BioReader(folder / "img_t{t:d+}_cDAPI_z{z:02d}.tif") as br:
        np.testing.assert_array_equal(tczyx(br), PIXELS[:, :1])
    with pytest.raises(FileMissing, match="no file matches"):
        BioReader(folder / "img_t5_cGFP_z{z:ddd}.tif")


def test_numbers_count_as_numbers(tmp_path):
    for z in range(12):
        tifffile.imwrite(tmp_path / f"s{z}.tif", PIXELS.reshape(-1, 17, 23)[z])
    with BioReader(tmp_path / "s{z:d}.tif") as br:
        np.testing.assert_array_equal(tczyx(br)[0, 0], PIXELS.reshape(-1, 17, 23)[:12])


def test_variables_in_folders(tmp_path):
    for t in range(2):
        (tmp_path / f"t [{t}]").mkdir()
        for z in range(4):
            tifffile.imwrite(tmp_path / f"t [{t}]" / f"z{z}_{t}.tif", PIXELS[t, 0, z])
    with BioReader(tmp_path / "t [{t:d}]" / "z{z:d}_{t:d}.tif") as br:
        np.testing.assert_array_equal(tczyx(br), PIXELS[:2, :1])


def test_members_with_axes_of_their_own(tmp_path):
    paths = [write_ome_tiff(tmp_path / f"b{t}.ome.tif", PIXELS[t : t + 1]) for t in range(3)]
    with BioReader(tmp_path / "b{t:d}.ome.tif") as br:
        np.testing.assert_array_equal(tczyx(br), PIXELS)
    with BioReader([paths[2], paths[0]]) as br:
        np.testing.assert_array_equal(tczyx(br), PIXELS[[2, 0]])
    deep = [
        write_ome_tiff(tmp_path / f"d{z}.ome.tif", PIXELS[:, :, 2 * z : 2 * z + 2]) for z in (0, 1)
    ]
    assert deep
    with BioReader(tmp_path / "d{z:d}.ome.tif") as br:
        np.testing.assert_array_equal(tczyx(br), PIXELS)


def test_missing_members_are_named(folder):
    (folder / "img_t10_cGFP_z02.tif").unlink()
    (folder / "img_t5_cDAPI_z00.tif").unlink()
    with pytest.raises(
        FileMissing, match="2 of 24 files are missing: t=5, c=DAPI, z=0; t=10, c=GFP, z=2"
    ):
        BioReader(folder / "img_t{t:d}_c{c}_z{z:d}.tif")
    with pytest.raises(FileMissing, match="t5_cDAPI"):
        BioReader([folder / "img_t5_cGFP_z00.tif", folder / "img_t5_cDAPI_z00.tif"])


@pytest.mark.parametrize(
    "wrong", [PIXELS[0, 0, 0, :16], PIXELS[0, 0, 0].astype(np.uint32), PIXELS[0, 0, :2]]
)
def test_members_must_be_alike(folder, wrong):
    path = folder / "img_t10_cGFP_z02.tif"
    tifffile.imwrite(path, wrong)
    with pytest.raises(UnreadableFile, match=r"img_t10_cGFP_z02\.tif: its size .* differs"):
        BioReader(folder / "img_t{t:d}_c{c}_z{z:d}.tif")


def test_what_makes_no_sense_is_refused(folder):
    with pytest.raises(BadArgument, match="empty"):
        BioReader([])
    with pytest.raises(BadArgument, match="has the variables q"):
        BioReader(folder / "img_t{q:d}.tif")
    tifffile.imwrite(folder / "img_t05_cGFP_z02.tif", PIXELS[0, 0, 0])
    with pytest.raises(BadArgument, match="have the same t, c and z"):
        BioReader(folder / "img_t{t:d}_c{c}_z{z:d}.tif")


def test_a_file_of_that_very_name_is_a_file(tmp_path):
    path = tmp_path / "a{t:d}.tif"
    tifffile.imwrite(path, PIXELS[0, 0, 0])
    with BioReader(path) as br:
        assert br.backend != "fileseries"
        np.testing.assert_array_equal(br[...], PIXELS[0, 0, 0])


def test_few_files_are_open_at_once(folder, monkeypatch):
    monkeypatch.setattr(fileseries, "FILES_OPEN", 3)
    with BioReader(folder / "img_t{t:d}_c{c}_z{z:d}.tif", max_workers=2) as br:
        np.testing.assert_array_equal(tczyx(br), PIXELS)
        assert len(br._file.backend._open) <= 3
        backend = br._file.backend
    assert not backend._open


@pytest.fixture
def numbered(tmp_path):
    for number, plane in enumerate(PIXELS.reshape(-1, 17, 23)[:9]):
        write_ome_tiff(tmp_path / f"img_t{number}_z0.ome.tif", plane[None, None, None])
    return tmp_path


@pytest.mark.parametrize("at_url", [True, False])
def test_files_are_opened_at_the_same_time(numbered, monkeypatch, at_url):
    together = threading.Barrier(4, timeout=20)
    open_reader = registry.open_reader

    def opened(source, options, backend):
        if backend is None and source.filename != "img_t0_z0.ome.tif":
            together.wait()
        return open_reader(source, options, backend)

    monkeypatch.setattr(registry, "open_reader", opened)
    with serve(numbered) as web:
        paths = [f"{web.url if at_url else numbered}/img_t{t}_z0.ome.tif" for t in range(9)]
        # Files at URLs need no max_workers for this.
        workers = None if at_url else 4
        with BioReader(paths, workers) as br:
            monkeypatch.undo()
            np.testing.assert_array_equal(br[..., 8], PIXELS.reshape(-1, 17, 23)[8])


def test_the_error_is_that_of_the_first_file_that_fails(numbered, monkeypatch):
    tifffile.imwrite(numbered / "img_t2_z0.ome.tif", PIXELS[0, 0, 0, :9])
    (numbered / "img_t3_z0.ome.tif").unlink()
    failed = threading.Event()
    members = []
    open_reader = registry.open_reader

    def opened(source, options, backend):
        if source.filename == "img_t2_z0.ome.tif":
            assert failed.wait(20)
        try:
            found = open_reader(source, options, backend)
        except FileMissing:
            failed.set()
            raise
        if backend is None:
            members.append(found[0])
        return found

    monkeypatch.setattr(registry, "open_reader", opened)
    with pytest.raises(UnreadableFile, match=r"img_t2_z0\.ome\.tif: its size .* differs"):
        BioReader([numbered / f"img_t{t}_z0.ome.tif" for t in range(9)], max_workers=4)
    assert len(members) >= 2
    for reader in members:
        with pytest.raises(Closed):
            reader.read(Region(0, 0, (0, 0, 0, 0, 0), (1, 1, 1, 1, 1)), np.empty((1,) * 5, "u2"))
