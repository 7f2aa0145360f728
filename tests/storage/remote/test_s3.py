"""Files in an object store: a local S3 (moto), a format of two files, a TIFF, and an OME-Zarr.

    python -m pip install "moto[s3]" flask flask-cors "botocore==$VERSION"

with the version of botocore that s3fs brought: moto alone would bring a newer one than s3fs takes.
"""

from __future__ import annotations

import io
import multiprocessing

import numpy as np
import pytest

pytest.importorskip("s3fs", reason="s3fs is not installed")
pytest.importorskip("moto.server", reason="moto[server], a local S3, is not installed")
tifffile = pytest.importorskip("tifffile")
zarr = pytest.importorskip("zarr")

from bfbridge import BioReader, BioWriter  # noqa: E402
from bfbridge.errors import BfbridgeError, FileMissing, TargetBusy, TargetExists  # noqa: E402
from bfbridge.storage import source  # noqa: E402

# What moto and botocore warn of is not ours to mend.
pytestmark = pytest.mark.filterwarnings("default")

STACK = (np.arange(40 * 210 * 190).reshape(40, 210, 190) * 7).astype(np.uint16)
FACE = STACK[:4].transpose(1, 2, 0)
BYTES = (STACK % 251).astype(np.uint8)
ICS = (
    "\t\nics_version\t1.0\nfilename\ta\nlayout\tparameters\t4\nlayout\torder\tbits\tx\ty\tz\n"
    "layout\tsizes\t8\t190\t210\t40\nlayout\tcoordinates\tvideo\n"
    "layout\tsignificant_bits\t8\nrepresentation\tformat\tinteger\n"
    "representation\tsign\tunsigned\nrepresentation\tcompression\tuncompressed\n"
    "representation\tbyte_order\t1\n"
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Storage options of a bucket named "images", filled."""
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    folder = tmp_path_factory.mktemp("s3")
    (folder / "a.ids").write_bytes(BYTES.tobytes())
    (folder / "a.ics").write_text(ICS)
    tifffile.imwrite(folder / "stack.ome.tif", STACK, metadata={"axes": "ZYX"})
    group = zarr.open_group(str(folder / "a.zarr"), mode="w", zarr_format=3)
    array = group.create_array("0", shape=STACK.shape, dtype="u2", chunks=(1, 64, 64))
    array[...] = STACK
    axes = [{"name": name, "type": "space"} for name in "zyx"]
    scales = [{"axes": axes, "datasets": [{"path": "0"}]}]
    group.attrs.put({"ome": {"version": "0.5", "multiscales": scales}})
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {
        "key": "somebody",
        "secret": "hush-hush",
        "client_kwargs": {"endpoint_url": f"http://{host}:{port}", "region_name": "eu-west-1"},
    }
    import s3fs

    there = s3fs.S3FileSystem(**options, skip_instance_cache=True)
    # moto keeps its buckets for the process: another test may have left this one.
    if there.exists("images"):
        there.rm("images", recursive=True)
    there.mkdir("images")
    there.put(f"{folder}/", "images/", recursive=True)
    yield options
    server.stop()


@pytest.fixture
def moved(monkeypatch):
    """Lengths of the requests to the store."""
    lengths = []
    read_at = source._RemoteFile.read_at

    def count(self, offset, length):
        data = read_at(self, offset, length)
        lengths.append(len(data))
        return data

    monkeypatch.setattr(source._RemoteFile, "read_at", count)
    return lengths


@pytest.mark.java
@pytest.mark.parametrize("isolated", [False, True])
def test_a_format_of_two_files(store, isolated):
    pytest.importorskip("jpype", reason="JPype is not installed")
    with BioReader("s3://images/a.ics", storage_options=store, isolated=isolated) as br:
        assert br.backend == "bioformats"
        assert br.shape == (210, 190, 40)
        np.testing.assert_array_equal(br[:], BYTES.transpose(1, 2, 0))
        assert len(br._file.backend.used_files) == 2


@pytest.mark.java
def test_a_tiff_through_either_backend_moves_little_for_a_plane(store, moved):
    pytest.importorskip("jpype", reason="JPype is not installed")
    whole = STACK.nbytes
    for backend in ("bioformats", "ometiff"):
        moved.clear()
        name = "s3://images/stack.ome.tif"
        with BioReader(name, backend=backend, storage_options=store, cache=0) as br:
            np.testing.assert_array_equal(br[:, :, 17], STACK[17])
        assert STACK[17].nbytes <= sum(moved) < whole / 4


@pytest.mark.slow(ci=True)
def test_an_ome_zarr(store):
    with BioReader("s3://images/a.zarr", storage_options=store) as br:
        assert br.backend == "omezarr"
        np.testing.assert_array_equal(br[:], STACK.transpose(1, 2, 0))
        np.testing.assert_array_equal(br[60:70, 100:190, 5], STACK[5, 60:70, 100:190])


@pytest.mark.slow(ci=True)
def test_what_is_missing_is_said(store):
    with pytest.raises(FileMissing, match=r"s3://images/none\.czi"):
        BioReader("s3://images/none.czi", storage_options=store)


@pytest.mark.slow(ci=True)
def test_objects_that_are_added_later_are_found(store):
    """s3fs keeps the listing of a folder, and answers from it for every name in the folder."""
    import s3fs

    there = s3fs.S3FileSystem(**store)
    there.pipe_file("images/later/a.ome.tif", tiff_bytes(STACK[:2]))
    there.ls("images/later")
    assert BioReader("s3://images/later/a.ome.tif", storage_options=store).shape == (210, 190, 2)
    other = s3fs.S3FileSystem(**store, skip_instance_cache=True)
    other.pipe_file("images/later/b.ome.tif", tiff_bytes(STACK[:3]))
    # The second of a replaced file is longer than the listing says.
    other.pipe_file("images/later/a.ome.tif", tiff_bytes(STACK[:5]))
    for name, count in (("b", 3), ("a", 5)):
        with BioReader(f"s3://images/later/{name}.ome.tif", storage_options=store) as br:
            np.testing.assert_array_equal(br[:], STACK[:count].transpose(1, 2, 0))


def tiff_bytes(planes):
    file = io.BytesIO()
    tifffile.imwrite(file, planes, metadata={"axes": "ZYX"}, ome=True)
    return file.getvalue()


def write_part(options, rows):
    with BioWriter.open("s3://images/shared.zarr", storage_options=options) as bw:
        bw[slice(*rows)] = FACE[slice(*rows)]


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("layout", [{}, {"version": "0.4"}, {"shards": 128}], ids=str)
def test_an_ome_zarr_is_written(store, layout):
    name = f"s3://images/new-{len(str(layout))}.zarr"
    given = {"image": FACE, "chunks": 64, "pyramid": 1, "storage_options": store}
    with BioWriter(name, **given, **layout) as bw:
        with pytest.raises(TargetBusy):
            BioWriter(name, **given, overwrite=True)
        bw[:] = FACE
        bw[3:5, 7:9] = 0
    expected = FACE.copy()
    expected[3:5, 7:9] = 0
    with BioReader(name, storage_options=store) as br:
        np.testing.assert_array_equal(br[:], expected)
        assert br.levels[1].shape == (105, 95, 4)
    with pytest.raises(TargetExists):
        BioWriter(name, **given)
    with BioWriter(name, **given, overwrite=True) as bw:
        bw[:] = FACE
    with BioReader(name, storage_options=store) as br:
        np.testing.assert_array_equal(br[:], FACE)


@pytest.mark.slow(ci=True)
def test_time_points_are_added(store):
    name = "s3://images/grows.zarr"
    series = np.stack([FACE, FACE[::-1], FACE[:, ::-1]], axis=-1)[:, :, :, None, :]
    given = {"chunks": 128, "pyramid": 1, "storage_options": store}
    with BioWriter(name, image=series[..., :1], **given) as bw:
        bw[:] = series[..., :1]
    with BioWriter(name, append=True, T=3, storage_options=store) as bw:
        bw[..., 1:] = series[..., 1:]
        with BioReader(name, storage_options=store) as br:
            assert br.shape == FACE.shape
        with pytest.raises(TargetBusy):
            BioWriter(name, append=True, T=3, storage_options=store)
    with BioReader(name, storage_options=store) as br:
        np.testing.assert_array_equal(br.read(keepdims=True), series)
        assert br.levels[1].read(keepdims=True).shape[4] == 3


@pytest.mark.slow(ci=True)
def test_two_processes_write_one_ome_zarr(store):
    name = "s3://images/shared.zarr"
    BioWriter.create(name, image=FACE, chunks=64, shards=128, pyramid=1, storage_options=store)
    context = multiprocessing.get_context("spawn")
    parts = [context.Process(target=write_part, args=(store, r)) for r in ((0, 128), (128, 210))]
    for part in parts:
        part.start()
    for part in parts:
        part.join()
        assert part.exitcode == 0
    with pytest.raises(BfbridgeError):
        BioReader(name, storage_options=store)
    BioWriter.finish(name, storage_options=store)
    with BioReader(name, storage_options=store) as br:
        np.testing.assert_array_equal(br[:], FACE)
        assert br.levels[1].shape == (105, 95, 4)
