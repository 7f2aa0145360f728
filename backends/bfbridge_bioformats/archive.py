"""A class-data archive, which lets Java start with its classes ready: made once, in the background.

It lies in the user's cache folder under a name that depends on the Java, the jars and the options,
so a change of any of them means another archive. Whatever goes wrong, Java starts without.
``BFBRIDGE_ARCHIVE=0`` in the environment switches it off.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .java import Java
from .settings import OPTIONS

__all__ = ["Archive"]

log = logging.getLogger("bfbridge")

SWITCH = "BFBRIDGE_ARCHIVE"
# Set for the run that notes which classes are loaded: the file for their names.
_LIST = "BFBRIDGE_CLASS_LIST"
_KEPT = 4
# Of this module, also where it runs as a program.
_NAME = "bfbridge_bioformats.archive"
_STALE = 600.0
_PATIENCE = 300.0

# Started through a shell that ends at once: a child of ours would surprise programs that wait for
# theirs. In the background of a shell it is spared the terminal's Ctrl-C as well.
_DETACHED = '("$@" </dev/null >/dev/null 2>&1 &)'

# Since this Java, classes of an archive can be there linked, which halves what is left to do.
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
    """Return an OME-TIFF of 8 x 8 pixels: reading it needs most of what reading others does."""
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
    """Read a little, in a process whose classes are being noted."""
    import numpy as np

    from bfbridge.backend import OpenOptions, Region
    from bfbridge.source import as_source

    from .reader import BioFormatsReader

    place.write_bytes(sample())
    for name in (str(place), "a&sizeX=8&sizeY=8.fake"):
        reader = BioFormatsReader.open(as_source(name), OpenOptions())
        reader.read(Region(0, 0, (0,) * 5, (1, 1, 1, 8, 8)), np.empty((1, 1, 1, 8, 8), np.uint8))
        reader.ome_xml()


class Archive:
    """The archive for one Java with one class path.

    Parameters
    ----------
    java
        The runtime.
    classpath
        Of the JVM, in order, JPype's own jar included.
    """

    def __init__(self, java: Java, classpath: Sequence[Path]) -> None:
        self._java = java
        self._classpath = list(classpath)
        self._path: Path | None = None
        with contextlib.suppress(OSError):
            self._path = _cache_folder() / f"java-{self._key()}.jsa"

    def flags(self) -> list[str]:
        """Return the options that use the archive, if it is there and nobody else's."""
        noting = os.environ.get(_LIST)
        if noting:
            return ["-Xshare:off", f"-XX:DumpLoadedClassList={noting}"]
        if self._path is None or not _is_on() or not _is_ours(self._path):
            return []
        # Java would warn on stdout of an archive that does not fit; it starts without it then.
        return ["-Xshare:auto", f"-XX:SharedArchiveFile={self._path}", "-Xlog:disable"]

    def make_in_background(self) -> None:
        """Start making the archive, in a process of its own, unless that was done or is being."""
        if self._path is None or not _is_on() or os.environ.get(_LIST) or not self._can_make():
            return
        with contextlib.suppress(OSError):
            if self._path.exists() or not _claim(self._path):
                return
            command = [sys.executable, "-m", _NAME, str(self._path), str(self._java.home)]
            command += [str(path) for path in self._classpath]
            shell = ["/bin/sh", "-c", _DETACHED, "sh", "nice", "-n", "19", *command]
            places = os.pathsep.join(filter(None, sys.path))
            environment = {**os.environ, "PYTHONPATH": places}
            os.waitpid(os.posix_spawn(shell[0], shell, environment), 0)

    def _can_make(self) -> bool:
        return (
            hasattr(os, "posix_spawn")
            and bool(sys.executable)
            and not getattr(sys, "frozen", False)
            and (self._java.home / "bin" / "java").is_file()
            and str(os.pathsep).join(map(str, self._classpath)).isascii()
        )

    def _key(self) -> str:
        files = [self._java.library, *self._classpath]
        facts = [
            [option.flag for option in OPTIONS],
            [_LINKS_SINCE, _OME],
            [str(self._java.home), self._java.version],
            [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files],
        ]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]


def make(target: Path, home: Path, classpath: Sequence[Path]) -> None:
    """Make an archive: one run notes the classes, one writes them. For a background process."""
    names = target.with_suffix(".classes")
    unfinished = target.with_suffix(".new")
    image = target.with_suffix(".ome.tif")
    try:
        subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-m", _NAME, str(image)],
            env={**os.environ, _LIST: str(names)},
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
        unfinished.replace(target)
        _drop_old(target.parent)
    finally:
        for leftover in (names, unfinished, image, target.with_suffix(".making")):
            leftover.unlink(missing_ok=True)


def _feature(home: Path) -> int:
    from .java import java_at

    java = java_at(home, "archive")
    return (java.feature if java is not None else None) or 11


def _is_on() -> bool:
    return os.environ.get(SWITCH, "1").strip().lower() not in ("0", "false", "off", "no")


def _is_ours(path: Path) -> bool:
    """Whether an archive is there that nobody else can have written: it holds code."""
    try:
        found, folder = path.stat(), path.parent.stat()
    except OSError:
        return False
    if not hasattr(os, "geteuid"):
        return True
    owner = os.geteuid()
    writable = (found.st_mode | folder.st_mode) & 0o022
    return found.st_uid == owner and folder.st_uid == owner and not writable


def _claim(target: Path) -> bool:
    """Whether this process is the one to make the archive."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    mark = target.with_suffix(".making")
    try:
        if time.time() - mark.stat().st_mtime > _STALE:
            mark.unlink()
    except FileNotFoundError:
        pass
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    return True


def _drop_old(folder: Path) -> None:
    """Keep the newest few archives."""
    archives = sorted(folder.glob("java-*.jsa"), key=lambda file: file.stat().st_mtime)
    for file in archives[:-_KEPT]:
        file.unlink(missing_ok=True)


def _cache_folder() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "bfbridge"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home()) / "bfbridge" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bfbridge"


if __name__ == "__main__":
    if os.environ.get(_LIST):
        exercise(Path(sys.argv[1]))
    else:
        make(Path(sys.argv[1]), Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]])
