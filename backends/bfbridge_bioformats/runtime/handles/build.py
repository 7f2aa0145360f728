"""Compiles the Java sources in this folder into handles.jar; run it after changing them.

    python build.py path/to/bioformats_package.jar

Needs ``javac`` (Java 11 or newer). The jar is small and committed, so that installing needs no
compiler. It contains a hash of the sources, which a test compares.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
JAR = HERE / "handles.jar"
HASH = "META-INF/sources.sha256"


def sources() -> list[Path]:
    """Return the Java files."""
    return sorted(HERE.glob("*.java"))


def sources_hash() -> str:
    """Return the hash of the sources, which the jar contains."""
    digest = hashlib.sha256()
    for source in sources():
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()


def build(bioformats: Path) -> None:
    """Compile for Java 11 and write the jar."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["javac", "--release", "11", "-cp", str(bioformats), "-d", folder]
        subprocess.run([*command, *map(str, sources())], check=True)  # noqa: S603 - fixed program
        members = {
            file.relative_to(folder).as_posix(): file.read_bytes()
            for file in sorted(Path(folder).rglob("*.class"))
        }
    members[HASH] = sources_hash().encode()
    with zipfile.ZipFile(JAR, "w", zipfile.ZIP_DEFLATED) as jar:
        for name, data in members.items():
            jar.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
