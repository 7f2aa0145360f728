"""Every spelling that bfio has or had, on readers and writers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ome_types import OME

import bfbridge
from bfbridge import BioReader, BioWriter
from bfbridge.errors import ReadOnlyProperty
from tests.support.engine import face
from tests.support.memory import distinct

ARRAY = face(distinct((2, 3, 4, 45, 70)))
SIZES = dict(zip("YXZCT", ARRAY.shape, strict=True))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("names") / "a.ome.tif"
    with BioWriter(
        path, shape=ARRAY.shape, dtype="uint16", cnames=["a", "b", "c"], ps_x=(0.5, "µm"),
        physical_size_y=(250, "nm"),
    ) as bw:  # fmt: skip
        bw[:] = ARRAY
    return path


@pytest.fixture
def br(path: Path) -> Iterator[BioReader]:
    with BioReader(path) as reader:
        yield reader


@pytest.fixture
def bw(tmp_path: Path) -> Iterator[BioWriter]:
    writer = BioWriter(tmp_path / "b.ome.zarr")
    yield writer
    writer.abort()


def test_sizes_in_every_spelling(br: BioReader) -> None:
    for axis, size in SIZES.items():
        assert getattr(br, axis) == getattr(br, axis.lower()) == size
        assert getattr(br, f"num_{axis.lower()}")() == size
        assert isinstance(getattr(br, axis), int)
    assert br.shape == ARRAY.shape


def test_pixel_sizes_names_and_types_in_every_spelling(br: BioReader) -> None:
    assert br.physical_size_x == br.ps_x == (0.5, "µm")
    assert br.physical_size_y == br.ps_y == (250.0, "nm")
    assert br.physical_size_z == br.ps_z == (None, "µm")
    assert br.channel_names == br.cnames == ["a", "b", "c"]
    assert br.samples_per_pixel == br.spp == 1
    assert br.bytes_per_pixel == br.bpp == 2
    assert br.dtype == br.pixel_type() == np.uint16
    assert isinstance(br.metadata, OME)
    assert br.read_only is True


def test_readers_refuse_every_setter(br: BioReader) -> None:
    names = [*"XYZCTxyzct", *(f"{p}_{a}" for p in ("ps", "physical_size") for a in "xyz")]
    for name in names:
        with pytest.raises(ReadOnlyProperty, match="a reader describes a file as it is"):
            setattr(br, name, 5)
    for name in ("channel_names", "cnames", "spp", "bpp", "dtype", "shape"):
        with pytest.raises(AttributeError):
            setattr(br, name, 5)


def test_old_names_of_read_and_write(br: BioReader, tmp_path: Path) -> None:
    np.testing.assert_array_equal(
        br.read_image(X=(3, 9), Y=(5, 8), Z=(1, 2), C=[2], T=[0]), ARRAY[5:8, 3:9, 1, 2, 0]
    )
    target = tmp_path / "c.ome.tif"
    with BioWriter(target, X=70, Y=45, dtype="uint16") as bw:
        bw.write_image(ARRAY[5:8, 3:9, :1, :1, :1], X=[3], Y=[5])
        bw.write_image(ARRAY[:2, :2, 0, 0, 0], 60, 40)
    with BioReader(target) as again:
        got = again[:]
    wanted = np.zeros((45, 70), np.uint16)
    wanted[5:8, 3:9], wanted[40:42, 60:62] = ARRAY[5:8, 3:9, 0, 0, 0], ARRAY[:2, :2, 0, 0, 0]
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(
    ("backend", "old"),
    [(None, "python"), ("python", "python"), ("Python", "python"), ("java", "bioformats"),
     ("bioformats", "bioformats"), ("ometiff", "python"), ("tensorstore", "python")],
)  # fmt: skip
def test_backend_names(path: Path, backend: str | None, old: str) -> None:
    with BioReader(path, backend=backend) as br:
        assert br._backend_name == old


def test_writer_backend_names(tmp_path: Path) -> None:
    for name, old in {"a.ome.tif": "python", "a.ome.zarr": "zarr"}.items():
        writer = BioWriter(tmp_path / name)
        assert writer._backend_name == old
        writer.abort()


def test_writers_set_every_spelling(bw: BioWriter) -> None:
    for number, axis in enumerate("YXZCT", 3):
        setattr(bw, axis.lower(), number)
        assert getattr(bw, axis) == getattr(bw, f"num_{axis.lower()}")() == number
    assert bw.shape == (3, 4, 5, 6, 7)
    bw.ps_x, bw.physical_size_y, bw.ps_z = (0.5, "nm"), 2, None
    assert (bw.physical_size_x, bw.ps_y, bw.ps_z) == ((0.5, "nm"), (2.0, "µm"), (None, "µm"))
    bw.cnames = list("abcdef")
    assert bw.channel_names == list("abcdef")
    bw.dtype = ">u2"
    assert (bw.bpp, bw.bytes_per_pixel) == (2, 2)
    bw.spp = 3
    assert bw.samples_per_pixel == 3


@pytest.mark.java
def test_the_module_has_bfios_names() -> None:
    assert bfbridge.start() == bfbridge.JAR_VERSION
    assert bfbridge.__version__.count(".") == 2
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        bfbridge.nothing  # noqa: B018
    assert set(bfbridge.__all__) <= set(dir(bfbridge))
    for name in bfbridge.__all__:
        assert getattr(bfbridge, name) is not None


def test_image_size_reads_headers_only(path: Path, tmp_path: Path) -> None:
    import tifffile

    assert BioReader.image_size(path) == (70, 45)
    for order in "<>":
        for big in (False, True):
            plain = tmp_path / f"{big}{ord(order)}.tif"
            with tifffile.TiffWriter(plain, byteorder=order, bigtiff=big) as tif:
                tif.write(np.zeros((9, 7), np.uint8))
            assert BioReader.image_size(plain) == (7, 9)
            assert BioReader.image_size(str(plain)) == (7, 9)
    store = tmp_path / "a.ome.zarr"
    with BioWriter(store, X=12, Y=5, dtype="uint8") as bw:
        bw[:] = 1
    assert BioReader.image_size(store) == (12, 5)
    (tmp_path / "text.czi").write_text("no image")
    assert BioReader.image_size(tmp_path / "text.czi") == (-1, -1)
    with pytest.raises(FileNotFoundError):
        BioReader.image_size(tmp_path / "none.tif")
