"""Every plane of every real file, whole, against decoders that share no code with Bio-Formats.

They are no part of the test extra; what is not installed is skipped. For all of them::

    pip install pydicom pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg mrcfile mrc nibabel netCDF4
    pip install pynrrd nd2 liffile pylibCZIrw czifile rosettasciio sdtfile sif_parser

Where a plane lies along T, C and Z other tests say: here planes have to be the same in one of the
orders that these axes can be counted in.
"""

from __future__ import annotations

import base64
import bz2
import importlib.util
import itertools
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from bfbridge import BioReader
from bfbridge.errors import BfbridgeError
from tests.real.manifest import DATA, Entry, entries

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not entries(), reason=f"no real files at {DATA}"),
    # Of third-party packages.
    pytest.mark.filterwarnings("ignore"),
]

Array = np.ndarray[Any, Any]
Found = Iterator[Array]
"""One array for each image, of any number of axes before Y and X; samples before them too."""


def samples_first(pixels: Array) -> Array:
    """(..., Y, X, samples) as (..., samples, Y, X)."""
    return np.moveaxis(pixels, -1, -3)


def by_pillow(path: Path) -> Found:
    image_module = pytest.importorskip("PIL.Image")
    with image_module.open(path) as image:
        frames = []
        for number in range(getattr(image, "n_frames", 1) if image.format != "PSD" else 1):
            if number:
                image.seek(number)
            frames.append(np.asarray(image))
    pixels = np.stack(frames)
    if pixels.ndim == 4:
        # Bio-Formats leaves the alpha of Targa out.
        pixels = samples_first(pixels[..., :3])
    yield pixels


def by_openjpeg(path: Path) -> Found:
    imagecodecs = pytest.importorskip("imagecodecs")
    yield samples_first(imagecodecs.jpeg2k_decode(path.read_bytes()))


def by_pydicom(path: Path) -> Found:
    pydicom = pytest.importorskip("pydicom")
    pytest.importorskip("pylibjpeg")
    data = pydicom.dcmread(path)
    pixels = data.pixel_array
    if data.SamplesPerPixel > 1:
        pixels = samples_first(pixels)
    if "TotalPixelMatrixRows" in data:
        rows, columns = data.TotalPixelMatrixRows, data.TotalPixelMatrixColumns
        down, across = -(-rows // data.Rows), -(-columns // data.Columns)
        tiles = pixels.reshape(down, across, *pixels.shape[1:])
        lines = [np.concatenate(list(line), axis=-1) for line in tiles]
        pixels = np.concatenate(lines, axis=-2)[..., :rows, :columns]
    yield pixels


def upward(pixels: Array) -> Array:
    """Rows of formats whose first row is the lowest, as Bio-Formats has them: the highest first."""
    return pixels[..., ::-1, :]


def by_mrcfile(path: Path) -> Found:
    mrcfile = pytest.importorskip("mrcfile")
    with mrcfile.open(path, permissive=True) as file:
        # A stack of pictures goes downward, a volume upward.
        yield file.data if file.is_image_stack() and file.data.ndim == 3 else upward(file.data)


def by_mrc(path: Path) -> Found:
    yield upward(np.asarray(pytest.importorskip("mrc").imread(str(path))))


def by_nibabel(path: Path) -> Found:
    image = pytest.importorskip("nibabel").load(path)
    yield image.dataobj.get_unscaled().T


def by_netcdf(path: Path) -> Found:
    file = pytest.importorskip("netCDF4").Dataset(path)
    file.set_auto_maskandscale(False)
    pixels = file.variables["image"][:]
    yield upward(pixels.view(pixels.dtype.str.replace("i", "u")))


def by_pynrrd(path: Path) -> Found:
    yield pytest.importorskip("nrrd").read(str(path), index_order="C")[0]


def by_nd2(path: Path) -> Found:
    with pytest.importorskip("nd2").ND2File(path) as file:
        yield file.asarray()


def by_liffile(path: Path) -> Found:
    with pytest.importorskip("liffile").LifFile(path) as file:
        for image in file.images:
            assert image.dims[-2:] == ("Y", "X"), image.dims
            yield image.asarray()


def by_libczi(path: Path) -> Found:
    if path.name == "LSM880_AiryScan.czi":
        # Phases (axis H), which Bio-Formats counts along T and libCZI's Python API does not read.
        yield from by_czifile(path)
        return
    pyczi = pytest.importorskip("pylibCZIrw.czi")
    with pyczi.open_czi(str(path)) as file:
        bounds = file.total_bounding_box
        ranges = [range(*bounds[axis]) for axis in "TCZ"]
        scenes = file.scenes_bounding_rectangle or {None: file.total_bounding_rectangle}
        for scene in scenes:
            planes = []
            for t, c, z in itertools.product(*ranges):
                plane = file.read(plane={"T": t, "C": c, "Z": z}, scene=scene)
                # Colours are blue first.
                planes.append(samples_first(plane[..., ::-1]))
            yield np.stack(planes)


def by_czifile(path: Path) -> Found:
    with pytest.importorskip("czifile").CziFile(path) as file:
        # Planes that are not stored are left as they are.
        pixels = file.asarray(out=np.zeros(file.shape, file.dtype))
    yield pixels[..., 0]


def by_rosettasciio(path: Path) -> Found:
    reader = pytest.importorskip("rsciio.digitalmicrograph")
    for signal in reader.file_reader(str(path)):
        yield signal["data"]


def by_sif_parser(path: Path) -> Found:
    yield pytest.importorskip("sif_parser").np_open(str(path))[0]


def by_sdtfile(path: Path) -> Found:
    file = pytest.importorskip("sdtfile").SdtFile(path)
    for block in file.data:
        yield np.moveaxis(block, -1, 0)


def by_tifffile(path: Path) -> Found:
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffFile(path) as file:
        for series in file.series:
            if series.name == "Thumbnail":
                # Of a slide: Bio-Formats leaves it out.
                continue
            pixels, axes = series.asarray(), series.axes
            if "S" in axes:
                at = axes.index("S")
                pixels = np.moveaxis(pixels, at, -3 if at > axes.index("Y") else at)
            yield pixels


def by_pages(path: Path) -> Found:
    """Every directory of a TIFF as an image of its own."""
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffFile(path) as file:
        for page in file.pages:
            pixels = page.asarray()
            yield samples_first(pixels) if page.samplesperpixel > 1 else pixels


def by_one_stack(path: Path) -> Found:
    """All directories of a TIFF as one image."""
    yield np.stack(list(by_pages(path)))


def by_page_sizes(path: Path) -> Found:
    """All directories of a TIFF, those of one size and type in a row as one image."""
    for _, group in itertools.groupby(by_pages(path), lambda page: (page.shape, page.dtype)):
        yield np.stack(list(group))


def by_files_of_planes(path: Path) -> Found:
    """CV7000: one TIFF for each plane; its name tells well, field, z and channel."""
    tifffile = pytest.importorskip("tifffile")
    files = sorted(path.parent.glob(f"{path.stem}_*.tif"))
    for _, group in itertools.groupby(files, lambda file: file.stem.rsplit("L01", 1)[0]):
        yield np.stack([tifffile.imread(file) for file in group])


def by_base64(path: Path) -> Found:
    """OME-XML: planes as text."""
    unpack = {"": bytes, "none": bytes, "zlib": zlib.decompress, "bzip2": bz2.decompress}
    root = ET.parse(path).getroot()
    for pixels in root.iterfind(".//{*}Pixels"):
        size = [int(pixels.attrib[f"Size{axis}"]) for axis in "YX"]
        kind = {"uint8": "u1", "int8": "i1", "uint16": "u2"}[
            (pixels.get("Type") or pixels.get("PixelType") or "").lower()
        ]
        planes = []
        for data in pixels.iterfind(".//{*}BinData"):
            raw = unpack[data.get("Compression", "")](base64.b64decode(data.text or ""))
            big = (data.get("BigEndian") or pixels.get("BigEndian") or "").lower() == "true"
            planes.append(np.frombuffer(raw, (">" if big else "<") + kind).reshape(size))
        yield np.stack(planes)


def by_ids(path: Path) -> Found:
    """ICS 1: the pixels of `chromo3d` as they are."""
    yield np.fromfile(path.with_suffix(".ids"), np.uint8).reshape(16, 140, 160)


def by_winspec(path: Path) -> Found:
    """WinSpec: uint16 frames behind a header of 4100 bytes."""
    yield np.fromfile(path, "<u2", offset=4100)[: 5 * 128 * 128].reshape(5, 128, 128)


DECODERS: dict[str, Callable[[Path], Found]] = {
    "bmp": by_pillow, "gif": by_pillow, "pgm": by_pillow, "psd": by_pillow, "tga": by_pillow,
    "jpeg2000": by_openjpeg,
    "dicom": by_pydicom,
    "mrc": by_mrcfile,
    "deltavision": by_mrc,
    "analyze": by_nibabel, "nifti": by_nibabel,
    "minc": by_netcdf,
    "nrrd": by_pynrrd,
    "nd2": by_nd2,
    "lif": by_liffile,
    "czi": by_libczi,
    "gatan_dm3": by_rosettasciio, "gatan_dm4": by_rosettasciio,
    "sif": by_sif_parser,
    "sdt": by_sdtfile,
    "spe": by_winspec,
    "ics": by_ids,
    "omexml": by_base64,
    "cv7000": by_files_of_planes,
    "jpk": by_page_sizes,
    "micromanager_ndtiff": by_one_stack,
    **dict.fromkeys(
        (
            "ometiff", "ometiff_multiseries", "ometiff_pyramid", "imagej_tiff", "metamorph_tiff",
            "nikon_tiff", "svs", "tiff", "tiff_multiseries", "tiff_pyramid",
            "zeiss_axiovision_tiff",
        ),
        by_tifffile,
    ),
}  # fmt: skip

NONE = {
    "amira": "no other reader of Amira meshes is known",
    "imod": "a model is drawn by Bio-Formats' own rules",
}


def equal(ours: Array, theirs: Array, tolerance: int) -> bool:
    """Whether planes are the same, in one of the orders that T, C and Z can be counted in."""
    theirs = theirs.reshape(-1, *theirs.shape[-2:])
    for order in itertools.permutations(range(3)):
        mine = ours.transpose(*order, 3, 4).reshape(-1, *ours.shape[3:])
        if mine.shape != theirs.shape:
            return False
        if tolerance:
            if np.abs(mine.astype(np.int64) - theirs.astype(np.int64)).max() <= tolerance:
                return True
        elif np.array_equal(mine, theirs, equal_nan=mine.dtype.kind == "f"):
            return True
    return False


def files() -> list[Entry]:
    return [e for e in entries() if e.opens and not e.pixels_fail and not e.is_zarr]


@pytest.mark.parametrize("entry", files(), ids=str)
def test_every_plane(entry: Entry) -> None:
    if entry.format in NONE:
        pytest.skip(NONE[entry.format])
    decoder = DECODERS[entry.format]
    theirs = list(decoder(entry.path))
    with BioReader(entry.path) as br:
        ours = [view.read(keepdims=True).transpose(4, 3, 2, 0, 1) for view in br.series]
    assert len(ours) == len(theirs)
    for number, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        assert equal(mine, other, 0), f"image {number}: {mine.shape} and {other.shape}"


def samples_of(package: str, folder: str, pattern: str) -> list[Path]:
    """Files that a package brings along for its own tests; none where it is not installed."""
    spec = importlib.util.find_spec(package)
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    return [path for place in places for path in sorted((Path(place) / folder).glob(pattern))]


@pytest.mark.parametrize(
    "path", samples_of("pydicom", "data/test_files", "*.dcm"), ids=lambda path: path.name
)
def test_samples_of_pydicom(path: Path, tmp_path: Path) -> None:
    # Alone, as files of one series are one image.
    alone = tmp_path / path.name
    alone.write_bytes(path.read_bytes())
    try:
        (theirs,) = by_pydicom(path)
    except Exception as error:  # noqa: BLE001 - no pixels, or a codec that is not installed
        pytest.skip(f"not read by pydicom: {error}")
    try:
        with BioReader(alone) as br:
            ours = br.read(keepdims=True).transpose(4, 3, 2, 0, 1)
    except BfbridgeError as error:
        pytest.skip(f"a clear error: {error}")
    # Decoders of JPEG round in different ways.
    assert equal(ours, theirs, 3), f"{ours.shape} and {theirs.shape}"


@pytest.mark.parametrize(
    "path", samples_of("nibabel", "tests/data", "*.nii*"), ids=lambda path: path.name
)
def test_samples_of_nibabel(path: Path) -> None:
    try:
        (theirs,) = by_nibabel(path)
    except Exception as error:  # noqa: BLE001 - other kinds of data
        pytest.skip(f"not read by nibabel: {error}")
    try:
        with BioReader(path) as br:
            ours = br.read(keepdims=True).transpose(4, 3, 2, 0, 1)
    except BfbridgeError as error:
        pytest.skip(f"a clear error: {error}")
    assert equal(ours, theirs, 0), f"{ours.shape} and {theirs.shape}"
