"""The program that makes a class-data archive: one run records the classes, one writes them."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bfbridge.backend import OpenOptions, Region
from bfbridge.runtime.systems import replace
from bfbridge.storage.source import as_source
from bfbridge_bioformats.reader import BioFormatsReader
from bfbridge_bioformats.runtime.cds_archive import CLASS_LIST, drop_old
from bfbridge_bioformats.runtime.java import java_at
from bfbridge_bioformats.runtime.settings import OPTIONS

# The name of this module, also when it runs as a program.
_NAME = "bfbridge_bioformats.processes.cds_build"
_PATIENCE = 300.0

# Since this Java release, an archive can contain linked classes, which makes the start faster.
_LINKS_SINCE = 24

_OME = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
    "<AcquisitionDate>2020-01-01T00:00:00</AcquisitionDate>"
    '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="8" SizeY="8" SizeZ="1" '
    'SizeC="1" SizeT="1" PhysicalSizeX="1"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>'
    "<TiffData/></Pixels></Image></OME>"
)


def sample() -> bytes:
    """Return an OME-TIFF of 8 x 8 pixels; reading it loads most classes that other files need."""
    text = _OME.encode() + b"\0"
    date = b"2020:01:01 00:00:00\0"
    entries = 9
    pixels = 8 + 2 + 12 * entries + 4
    tags = [(256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 1, 8), (262, 3, 1, 1)]
    tags += [(270, 2, len(text), pixels + 64), (273, 4, 1, pixels), (278, 3, 1, 8)]
    tags += [(279, 4, 1, 64), (306, 2, len(date), pixels + 64 + len(text))]
    directory = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = struct.pack("<2sHIH", b"II", 42, 8, entries)
    return head + directory + bytes(4) + bytes(range(64)) + text + date


def exercise(place: Path) -> None:
    """Read a small file, in a process whose classes are recorded."""
    place.write_bytes(sample())
    for name in (str(place), "a&sizeX=8&sizeY=8.fake"):
        reader = BioFormatsReader.open(as_source(name), OpenOptions())
        reader.read(Region(0, 0, (0,) * 5, (1, 1, 1, 8, 8)), np.empty((1, 1, 1, 8, 8), np.uint8))
        reader.ome_xml()


def make(target: Path, home: Path, classpath: Sequence[Path]) -> None:
    """Make an archive: one run records the classes, one writes them. For a background process."""
    names = target.with_suffix(".classes")
    unfinished = target.with_suffix(".new")
    image = target.with_suffix(".ome.tif")
    try:
        subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-m", _NAME, str(image)],
            env={**os.environ, CLASS_LIST: str(names)},
            check=True,
            timeout=_PATIENCE,
        )
        feature = _feature(home)
        options = [option.flag for option in OPTIONS if option.since <= feature]
        if feature >= _LINKS_SINCE:
            options.append("-XX:+AOTClassLinking")
        subprocess.run(  # noqa: S603 - the Java that was found
            [
                str(home / "bin" / "java"),
                *options,
                "-Xshare:dump",
                f"-XX:SharedClassListFile={names}",
                f"-XX:SharedArchiveFile={unfinished}",
                "-cp",
                os.pathsep.join(map(str, classpath)),
            ],
            check=True,
            timeout=_PATIENCE,
        )
        unfinished.chmod(0o600)
        replace(unfinished, target)
        drop_old()
    finally:
        for leftover in (names, unfinished, image, target.with_suffix(".making")):
            leftover.unlink(missing_ok=True)


def _feature(home: Path) -> int:
    java = java_at(home, "archive")
    return (java.feature if java is not None else None) or 11


if __name__ == "__main__":
    if os.environ.get(CLASS_LIST):
        exercise(Path(sys.argv[1]))
    else:
        make(Path(sys.argv[1]), Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]])
