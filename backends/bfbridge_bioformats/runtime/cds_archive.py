"""A class-data archive that shortens the start of Java: made once, in the background.

It is in the user's cache folder under a name that depends on Java, the jars and the options, so a
change of any of them means another archive. Java accepts an archive only with the jars it was made
with, so environments cannot share it. The most recently used archives are kept, up to a number and
a size. If anything fails, Java starts without. ``BFBRIDGE_ARCHIVE=0`` in the environment disables
it.
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
from bfbridge.storage.cache_folder import is_private
from bfbridge_bioformats.runtime.java import Java
from bfbridge_bioformats.runtime.settings import OPTIONS

__all__ = ["Archive", "CachedFile", "cached_files", "clear_cache", "drop_old"]

log = logging.getLogger("bfbridge")

SWITCH = "BFBRIDGE_ARCHIVE"
# Set for the run that records the loaded classes: the file for their names.
CLASS_LIST = "BFBRIDGE_CLASS_LIST"
# Only its name: importing it would be a cycle.
_MAKER = "bfbridge_bioformats.processes.cds_build"
# Incremented when archives are made in another way.
_RECIPE = 2
_STALE = 600.0
# How many archives are kept, the most recently used first.
MOST_KEPT = 4
MOST_BYTES = 256 << 20

# Started through a shell that ends at once: programs that wait for their child processes must not
# see ours. A background process of a shell does not receive the terminal's Ctrl-C either.
_DETACHED = '("$@" </dev/null >/dev/null 2>&1 &)'


class Archive:
    """The archive for one Java with one class path.

    Parameters
    ----------
    java
        The runtime.
    classpath
        Class path of the JVM, in order, including JPype's jar.
    """

    def __init__(self, java: Java, classpath: Sequence[Path]) -> None:
        self._java = java
        self._classpath = list(classpath)
        self._path: Path | None = None
        with contextlib.suppress(OSError):
            self._path = cache_folder() / f"java-{self._key()}.jsa"

    def flags(self) -> list[str]:
        """Return the options that use the archive, if it exists and belongs to this user."""
        noting = os.environ.get(CLASS_LIST)
        if noting:
            return ["-Xshare:off", f"-XX:DumpLoadedClassList={noting}"]
        if self._path is None or not _is_on() or not self._is_safe():
            return []
        with contextlib.suppress(OSError):
            # The most recently used archives are kept.
            os.utime(self._path)
        # Java would print a warning to stdout if the archive does not fit; it starts without it.
        return ["-Xshare:auto", f"-XX:SharedArchiveFile={self._path}", "-Xlog:disable"]

    def make_in_background(self) -> None:
        """Start making the archive in a separate process, unless it exists or is being made."""
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

    def _is_safe(self) -> bool:
        """Whether the archive exists and no other user can have written it: it contains code."""
        return self._path is not None and is_private(self._path, self._path.parent)

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
        Its path.
    size
        In bytes.
    used
        When it was made or last used, in seconds since 1970.
    """

    path: Path
    size: int
    used: float


def cached_files() -> list[CachedFile]:
    """Return the files of the cache folder, most recently used first."""
    found = []
    with contextlib.suppress(OSError):
        for path in cache_folder().glob("java-*"):
            with contextlib.suppress(OSError):
                status = path.stat()
                found.append(CachedFile(path, status.st_size, status.st_mtime))
    return sorted(found, key=lambda file: file.used, reverse=True)


def clear_cache() -> list[CachedFile]:
    """Remove the files of the cache folder; return those that could not be removed.

    Archives are made again, in the background, by the next program that starts Java.
    """
    return [file for file in cached_files() if not _removed(file)]


def drop_old() -> None:
    """Keep the most recently used archives; remove old files of processes that were killed."""
    kept = total = 0
    long_ago = time.time() - _STALE
    for file in cached_files():
        if file.path.suffix != ".jsa":
            if file.used < long_ago:
                _removed(file)
            continue
        kept += 1
        total += file.size
        # Except the one that was just made, whatever its size.
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


def _claim(target: Path) -> bool:
    """Whether this process makes the archive."""
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
