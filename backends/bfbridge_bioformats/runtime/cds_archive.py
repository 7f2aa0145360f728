"""A class-data archive, which lets Java start with its classes ready: made once, in the background.

It lies in the user's cache folder under a name that depends on the Java, the jars and the options,
so a change of any of them means another archive. Java uses one only with the very jars it was made
with, so that environments cannot share it; those used last are kept, up to a number and a size.
Whatever goes wrong, Java starts without. ``BFBRIDGE_ARCHIVE=0`` in the environment switches it off.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bfbridge.runtime.systems import cache_folder
from bfbridge_bioformats.runtime.java import Java
from bfbridge_bioformats.runtime.settings import OPTIONS

__all__ = ["Archive", "CachedFile", "cached_files", "clear_cache", "drop_old"]

log = logging.getLogger("bfbridge")

SWITCH = "BFBRIDGE_ARCHIVE"
# Set for the run that notes which classes are loaded: the file for their names.
CLASS_LIST = "BFBRIDGE_CLASS_LIST"
# Its name only: what it imports would lead back here.
_MAKER = "bfbridge_bioformats.processes.cds_build"
# Counted up when archives are made in another way.
_RECIPE = 2
_STALE = 600.0
# What is kept of archives, those used last first.
MOST_KEPT = 4
MOST_BYTES = 256 << 20

# Started through a shell that ends at once: a child of ours would surprise programs that wait for
# theirs. In the background of a shell it is spared the terminal's Ctrl-C as well.
_DETACHED = '("$@" </dev/null >/dev/null 2>&1 &)'


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
            self._path = cache_folder() / f"java-{self._key()}.jsa"

    def flags(self) -> list[str]:
        """Return the options that use the archive, if it is there and nobody else's."""
        noting = os.environ.get(CLASS_LIST)
        if noting:
            return ["-Xshare:off", f"-XX:DumpLoadedClassList={noting}"]
        if self._path is None or not _is_on() or not _is_ours(self._path):
            return []
        with contextlib.suppress(OSError):
            # Those used last are kept.
            os.utime(self._path)
        # Java would warn on stdout of an archive that does not fit; it starts without it then.
        return ["-Xshare:auto", f"-XX:SharedArchiveFile={self._path}", "-Xlog:disable"]

    def make_in_background(self) -> None:
        """Start making the archive, in a process of its own, unless that was done or is being."""
        if self._path is None or not _is_on() or os.environ.get(CLASS_LIST) or not self._can_make():
            return
        with contextlib.suppress(OSError):
            if self._path.exists() or not _claim(self._path):
                return
            command = [sys.executable, "-m", _MAKER, str(self._path), str(self._java.home)]
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
            _RECIPE,
            [str(self._java.home), self._java.version],
            [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files],
        ]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]


@dataclass(frozen=True)
class CachedFile:
    """A file of the cache folder.

    Attributes
    ----------
    path
        Where it is.
    size
        In bytes.
    used
        When it was made or used last, in seconds since 1970.
    """

    path: Path
    size: int
    used: float


def cached_files() -> list[CachedFile]:
    """Return what is in the cache folder, used last first."""
    found = []
    with contextlib.suppress(OSError):
        for path in cache_folder().glob("java-*"):
            with contextlib.suppress(OSError):
                status = path.stat()
                found.append(CachedFile(path, status.st_size, status.st_mtime))
    return sorted(found, key=lambda file: file.used, reverse=True)


def clear_cache() -> list[CachedFile]:
    """Remove what is in the cache folder; return what could not be removed.

    Archives are made again, in the background, by the next program that starts Java.
    """
    return [file for file in cached_files() if not _removed(file)]


def drop_old() -> None:
    """Keep the archives used last, and nothing of makers that were killed long ago."""
    kept = total = 0
    long_ago = time.time() - _STALE
    for file in cached_files():
        if file.path.suffix != ".jsa":
            if file.used < long_ago:
                _removed(file)
            continue
        kept += 1
        total += file.size
        # The one that was made just now, whatever its size.
        if kept > MOST_KEPT or (total > MOST_BYTES and kept > 1):
            _removed(file)


def _removed(file: CachedFile) -> bool:
    try:
        file.path.unlink(missing_ok=True)
    except OSError:
        return False
    return True


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
