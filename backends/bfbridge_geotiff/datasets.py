"""GDAL datasets of one file: opened with a fixed driver, without neighbours and without network.

GDAL opens what a file refers to: sidecar files, tiles and bands of virtual rasters, URLs behind
names such as ``/vsicurl/``. Therefore the driver is chosen here, from the first bytes, and is one
of those that read a single file; sidecars, and all protocols of GDAL, are switched off. Bytes of
URLs, and those of drivers that look for further files without asking the settings, come from
bfbridge's storage, which has the file itself only.
"""

from __future__ import annotations

import contextvars
import ctypes
import io
import os
import re
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

import rasterio
import rasterio.errors
import rasterio.vrt
import rasterio.warp

from bfbridge.errors import BfbridgeError, UnreadableFile, Unsupported
from bfbridge.runtime import forking

if TYPE_CHECKING:
    from bfbridge.storage.source import RandomAccess, Source

__all__ = ["DRIVERS", "DatasetPool", "driver_of", "safely"]

T = TypeVar("T")
DRIVERS: Final[tuple[tuple[bytes, str], ...]] = (
    (b"II*\0", "GTiff"),
    (b"MM\0*", "GTiff"),
    (b"II+\0", "GTiff"),
    (b"MM\0+", "GTiff"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JP2OpenJPEG"),
    (b"\xff\x4f\xff\x51", "JP2OpenJPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"UHL1", "DTED"),
    (b"EHFA_HEADER_TAG", "HFA"),
    (b"NITF02", "NITF"),
    (b"NSIF01", "NITF"),
    (b"GRIB", "GRIB"),
    (b"DSAA", "GSAG"),
    (b"DSBB", "GSBG"),
    (b"DSRB", "GS7BG"),
    (b"binterr1.", "BT"),
)
"""First bytes, and the driver that reads such a file without any other file."""
_DIRECT: Final = ("GTiff", "JP2OpenJPEG")
"""Drivers that open local files themselves; the settings keep them from all other files."""
_GRID: Final = re.compile(rb"\s*(ncols|nrows|xll(corner|center)|cellsize|d[xy])\s", re.IGNORECASE)
"""First word of an Arc/Info ASCII grid."""
_SRTM_SIZES: Final = tuple(2 * rows * rows for rows in (1201, 3601, 7201))
_SRTM_NAME: Final = re.compile(r"[NS]\d\d[EW]\d{3}.*\.hgt", re.IGNORECASE)
_LINKING: Final = {
    b"CDF\x01": "netCDF",
    b"CDF\x02": "netCDF",
    b"CDF\x05": "netCDF",
    b"\x89HDF\r\n\x1a\n": "HDF5 or netCDF",
    b"SQLite format 3": "SQLite (GeoPackage, MBTiles)",
    b"PCIDSK": "PCIDSK",
}
"""First bytes of formats whose drivers follow links of a file, or execute what it contains."""
_SAFE: Final = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # no sidecars: .aux.xml, .ovr, .msk, .tfw
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_GEOREF_SOURCES": "INTERNAL",
    "GDAL_VRT_ENABLE_PYTHON": "NO",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",
    "CPL_CURL_ENABLE_VSIMEM": "NO",
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "TRUE",
    "OGR_CT_FORCE_TRADITIONAL_GIS_ORDER": "YES",
    "PROJ_NETWORK": "OFF",
}
_REFERRING: Final = (b"<VRTDataset", b"<GDAL_WMS", b"<GDALTileIndexDataset", b"<GDAL_WMTS")
_HEAD: Final = 1024


def driver_of(source: Source, head: bytes, size: int) -> str:
    """Return the driver for a file that begins with `head`, and has so many bytes.

    Raises
    ------
    Unsupported
        No driver that reads a single file reads it.
    """
    for magic, driver in DRIVERS:
        if head.startswith(magic):
            return driver
    if any(mark in head[:_HEAD] for mark in _REFERRING):
        raise Unsupported(
            "it is a virtual raster of GDAL, which refers to other files and URLs; these are not "
            "followed. Open the files themselves, or make one GeoTIFF of it with gdal_translate"
        )
    if _GRID.match(head):
        return "AAIGrid"
    if size in _SRTM_SIZES and _SRTM_NAME.fullmatch(source.filename):
        return "SRTMHGT"
    for magic, name in _LINKING.items():
        if head.startswith(magic):
            raise Unsupported(
                f"it is a file of {name}, whose driver may open further files and is switched off. "
                "Make a GeoTIFF of it with gdal_translate"
            )
    raise Unsupported(
        "it is not a GeoTIFF, JPEG 2000, PNG, JPEG, DTED, SRTM, Erdas Imagine, NITF, GRIB, BT, "
        "Surfer or Arc/Info ASCII grid file; GDAL's other drivers may open further files and are "
        "switched off"
    )


@contextmanager
def safely(name: str) -> Iterator[None]:
    """Switch off everything that reaches beyond a file, and convert rasterio's errors.

    Raises
    ------
    UnreadableFile
        GDAL refuses to read.
    """
    try:
        with rasterio.Env(session=None, **_SAFE):
            yield
    except BfbridgeError:
        raise
    except (rasterio.errors.RasterioError, rasterio.errors.RasterioIOError) as error:
        cause = error.__cause__ or error
        raise UnreadableFile(f"{name}: GDAL cannot read it: {cause}.") from error


class _File(io.RawIOBase):
    """A file of bfbridge's storage for GDAL; the first error is kept, as GDAL drops it."""

    def __init__(self, access: RandomAccess, failed: list[BaseException]) -> None:
        self._access, self._at, self._failed = access, 0, failed

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._access.size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._access.size - self._at)
        length = left if size is None or size < 0 else min(size, left)
        try:
            data = bytes(self._access.read_at(self._at, length))
        except BaseException as error:
            self._failed.append(error)
            raise
        self._at += len(data)
        return data


class Kit:
    """Datasets of one file for one thread at a time: full size, levels and projected ones."""

    def __init__(self, owner: DatasetPool) -> None:
        self._owner = owner
        self._opened: dict[Any, Any] = {}
        self.failed: list[BaseException] = []
        # rasterio keeps openers, and the files that they opened, in context variables. Whatever
        # thread uses the datasets needs these; without them GDAL calls into nothing, and crashes.
        self._context = contextvars.copy_context()
        self._process = os.getpid()
        # Also when the interpreter ends: GDAL closes files through rasterio then.
        weakref.finalize(self, _close, self._process, self._context, self._opened)

    def within(self, work: Callable[[], T]) -> T:
        """Call a function in the context in which the datasets are opened, used and closed."""
        return self._context.run(work)

    def dataset(self, overview: int | None = None) -> Any:
        """Return the dataset at full size, or one of its overviews."""
        if overview not in self._opened:
            self._opened[overview] = self._owner._open(overview, self.failed)
        return self._opened[overview]

    def warped(self, key: Any, options: Mapping[str, Any]) -> Any:
        """Return a projected dataset with these options of `WarpedVRT`, kept under a key."""
        place = ("warped", key)
        if place not in self._opened:
            self._opened[place] = rasterio.vrt.WarpedVRT(self.dataset(), **options)
        return self._opened[place]

    def close(self) -> None:
        """Close the datasets, those that use others first."""
        _close(self._process, self._context, self._opened)


def _close(process: int, context: contextvars.Context, opened: dict[Any, Any]) -> None:
    """Close the datasets of a kit, unless they are those of the parent process."""
    if not opened:
        return
    if os.getpid() != process:
        # Positions in open files are shared with the parent, and another thread may have used the
        # datasets when this process was forked: they are neither used nor closed, also not when
        # the interpreter ends.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(dict(opened)))
        opened.clear()
        return
    context.run(_close_now, opened)


def _close_now(opened: dict[Any, Any]) -> None:
    for dataset in reversed(list(opened.values())):
        with suppress(Exception), rasterio.Env(session=None, **_SAFE):
            dataset.close()
    opened.clear()


def _opened(path: str, **options: Any) -> Any:
    """Open a dataset, without a warning if it has no coordinates."""
    # Filters of warnings are those of the process.
    with _warning_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        return rasterio.open(path, **options)


class DatasetPool:
    """Kits of datasets: as many as threads that read at once.

    Parameters
    ----------
    source, access
        The file, and its bytes.
    driver
        Name of the driver that reads it.
    """

    def __init__(self, source: Source, access: RandomAccess, driver: str) -> None:
        self.name = source.name
        self._path = None if source.path is None else os.path.abspath(source.path)
        if driver not in _DIRECT:
            self._path = None
        if self._path is not None and self._path.replace("\\", "/").startswith("/vsi"):
            raise Unsupported("GDAL would take its path for one of its own file systems")
        self._filename = source.filename
        self._access, self._driver = access, driver
        self._lock = forking.lock()
        self._free: list[Kit] = []
        self._closed = False
        forking.in_child(self._forget)

    def _forget(self) -> None:
        self._free = []

    def _open(self, overview: int | None, failed: list[BaseException]) -> Any:
        options: dict[str, Any] = {"driver": self._driver}
        if overview is not None:
            options["overview_level"] = overview
        if self._path is not None:
            return _opened(self._path, **options)
        # A name without a scheme, so that GDAL takes the bytes from nowhere else.
        wanted = f"bfbridge/{self._filename}"

        def opener(path: str, mode: str = "rb", **unused: Any) -> _File:
            del unused
            if os.path.basename(path) != self._filename or "w" in mode:
                raise FileNotFoundError(path)
            return _File(self._access, failed)

        return _opened(wanted, opener=opener, **options)

    def run(self, work: Callable[[Kit], T]) -> T:
        """Lend a kit to a function, and return what it returns.

        Raises
        ------
        UnreadableFile
            GDAL, the disk or the server refuses to read.
        """
        with self._lock:
            kit = self._free.pop() if self._free else Kit(self)

        def safe() -> T:
            with safely(self.name):
                return work(kit)

        try:
            try:
                found = kit.within(safe)
            finally:
                if kit.failed:
                    kit.close()
                    raise kit.failed.pop(0)
        except BaseException:
            kit.close()
            raise
        with self._lock:
            if not self._closed:
                self._free.append(kit)
                return found
        kit.close()
        return found

    def close(self) -> None:
        """Close all datasets that no thread uses; the others when their threads end."""
        with self._lock:
            self._closed = True
            free, self._free = self._free, []
        for kit in free:
            kit.close()


_warning_lock = forking.lock()
