"""All pixels of a TIFF by readers that are not ours: tifffile, libvips, libtiff, Bio-Formats.

Every one returns the levels of a file's first image, each T, C x S, Z, Y, X with T = C = 1.
"""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from tests.support.tiffs import all_of, open_java, open_ours

Array = np.ndarray[Any, Any]


def stacked(planes: list[Array]) -> Array:
    """Planes of Y, X or Y, X, S, one for each Z, as T, C x S, Z, Y, X."""
    stack = np.stack([plane.reshape(*plane.shape[:2], -1) for plane in planes])
    return np.ascontiguousarray(stack.transpose(3, 0, 1, 2)[np.newaxis])


def by_bfbridge(path: Path) -> list[Array]:
    reader = open_ours(path)
    try:
        return [all_of(reader, 0, level) for level in range(len(reader.images[0].levels))]
    finally:
        reader.close()


def by_bioformats(path: Path) -> list[Array]:
    reader = open_java(path)
    try:
        return [all_of(reader, 0, level) for level in range(len(reader.images[0].levels))]
    finally:
        reader.close()


def by_tifffile(path: Path) -> list[Array]:
    with tifffile.TiffFile(path) as file:
        levels = file.series[0].levels
        return [stacked([page.asarray() for page in level.pages]) for level in levels]


@cache
def _libvips() -> Any:
    pyvips = pytest.importorskip("pyvips", exc_type=ImportError)
    # It knows files by name, and a test may write another one under a name it has seen.
    pyvips.cache_set_max(0)
    return pyvips


def by_libvips(path: Path) -> list[Array]:
    """Each warning is an error."""
    pyvips = _libvips()
    image = pyvips.Image.new_from_file(str(path))
    below = image.get("n-subifds") if "n-subifds" in image.get_fields() else 0
    return [
        stacked(
            [
                pyvips.Image.new_from_file(
                    str(path), page=plane, subifd=level, fail_on="warning"
                ).numpy()
                for plane in range(image.get("n-pages"))
            ]
        )
        for level in range(-1, below)
    ]


@cache
def libvips_has(compression: str) -> bool:
    """Whether libvips has a codec: it has if it can write an image with it."""
    pyvips = _libvips()
    black = pyvips.Image.black(16, 16)
    try:
        black.tiffsave_buffer(compression=compression)
    except pyvips.Error:
        return False
    return True


def _quiet(*command: str | Path) -> None:
    """Run a tool of libtiff, which warns on stderr and carries on."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), f"{command}: {done.stderr}"


def by_libtiff(path: Path) -> list[Array]:
    """By way of tiffinfo, which must have nothing to warn of, and tiffcp, which stores anew."""
    copy = path.with_suffix(".copy.tif")
    _quiet("tiffinfo", path)
    levels = []
    with tifffile.TiffFile(path) as file:
        pages = file.pages
        places = [[page.offset, *(page.subifds or ())] for page in pages]
    for at_level in zip(*places, strict=True):
        planes = []
        for place in at_level:
            _quiet("tiffinfo", "-o", str(place), path)
            _quiet("tiffcp", "-c", "none", "-o", str(place), path, copy)
            with tifffile.TiffFile(copy) as file:
                assert file.pages[0].compression == 1
                # tiffcp carries this tag of JPEGs over, and tifffile refuses it elsewhere.
                file.pages[0].subsampling = None
                planes.append(file.pages[0].asarray())
        levels.append(stacked(planes))
    copy.unlink()
    return levels


def needed(referee: str) -> None:
    """Skip the test where a referee is not installed."""
    if referee == "libvips":
        _libvips()
    elif referee == "libtiff" and not (shutil.which("tiffinfo") and shutil.which("tiffcp")):
        pytest.skip("needs tiffinfo and tiffcp, which Debian has in the package libtiff-tools")
    elif referee == "bioformats":
        from bfbridge.errors import JarNotFound
        from bfbridge_bioformats.jars.locate import find_jar

        try:
            find_jar()
        except JarNotFound as error:
            pytest.skip(str(error))


READERS = {
    "bfbridge": by_bfbridge,
    "tifffile": by_tifffile,
    "libvips": by_libvips,
    "libtiff": by_libtiff,
    "bioformats": by_bioformats,
}
