"""The formats that Bio-Formats reads, and the checks of Java for `bfbridge doctor`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from bfbridge.errors import INSTALL, BfbridgeError, JarNotFound
from bfbridge_bioformats.jars.locate import find_jar, install_line
from bfbridge_bioformats.runtime.java import find_java
from bfbridge_bioformats.runtime.machine import machine
from bfbridge_bioformats.runtime.settings import HEAP_VARIABLE, heap_bytes

__all__ = ["Check", "Format", "diagnose", "formats"]


@dataclass(frozen=True)
class Format:
    """One format that Bio-Formats reads.

    Attributes
    ----------
    name
        Its name in Bio-Formats.
    reader
        The Java class, without its package.
    suffixes
        Suffixes of its files, without the dot; the content decides, not the suffix.
    domains
        Kinds of microscopy it belongs to.
    writes
        Suffixes of this format that Bio-Formats can write.
    """

    name: str
    reader: str
    suffixes: tuple[str, ...]
    domains: tuple[str, ...]
    writes: tuple[str, ...]

    @property
    def can_write(self) -> bool:
        """Whether there is a writer for it."""
        return bool(self.writes)


@dataclass(frozen=True)
class Check:
    """One line of the diagnosis.

    Attributes
    ----------
    name
        What was checked.
    ok
        Whether the check passed.
    detail
        What was found, or what is missing.
    remedy
        What to do; empty if the check passed.
    """

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def formats() -> list[Format]:
    """Return every format that the readers and writers of the jar support. Starts Java."""
    with machine.attached():
        writable = _writable()
        readers = machine.type("loci.formats.ImageReader")().getReaders()
        return [_format(reader, writable) for reader in readers]


def _writable() -> dict[str, frozenset[str]]:
    """Return the suffixes of the jar's writers, by format name."""
    found: dict[str, frozenset[str]] = {}
    for writer in machine.type("loci.formats.ImageWriter")().getWriters():
        name = str(writer.getFormat())
        found[name] = found.get(name, frozenset()) | {str(s) for s in writer.getSuffixes() if s}
    return found


def _format(reader: Any, writable: dict[str, frozenset[str]]) -> Format:
    name = str(reader.getFormat())
    suffixes = tuple(filter(None, map(str, reader.getSuffixes())))
    return Format(
        name=name,
        reader=type(reader).__name__.rpartition(".")[2],
        suffixes=suffixes,
        domains=_domains(reader),
        writes=tuple(sorted(writable.get(name, ()))),
    )


def _domains(reader: Any) -> tuple[str, ...]:
    """Return the domains of a format; unknown for readers that only delegate to other readers."""
    base = machine.type("loci.formats.FormatReader")
    if not isinstance(reader, base):
        return ()
    # getPossibleDomains() needs a file.
    field = base.class_.getDeclaredField("domains")
    field.setAccessible(True)
    return tuple(str(domain) for domain in field.get(reader) or ())


def diagnose() -> list[Check]:
    """Check everything this backend needs; never raises.

    Java is started only if nothing is missing.
    """
    checks = [_check_jpype(), _check_java(), _check_jar(), _check_heap()]
    if all(check.ok for check in checks):
        checks.append(_check_start())
    return checks


def _check_jpype() -> Check:
    import importlib.metadata

    try:
        return Check("JPype", True, importlib.metadata.version("jpype1"))
    except importlib.metadata.PackageNotFoundError:
        return Check("JPype", False, "not installed", INSTALL)


def _check_java() -> Check:
    try:
        java = find_java()
    except BfbridgeError as error:
        return Check("Java", False, str(error), INSTALL)
    return Check("Java", True, f"{java.version or 'unknown version'}, {java.origin}: {java.home}")


def _check_jar() -> Check:
    try:
        jar = find_jar()
    except BfbridgeError as error:
        return Check("Bio-Formats jar", False, str(error), _jar_remedy())
    count = f", {len(jar.paths)} jars" if len(jar.paths) > 1 else ""
    version = jar.version or "unknown version"
    return Check("Bio-Formats jar", True, f"{version}, {jar.origin}: {jar.place}{count}")


def _jar_remedy() -> str:
    """Return what to do: a download does not help if an environment variable names the jar."""
    for name in ("BFBRIDGE_JAR", "BFBRIDGE_BIOFORMATS"):
        if os.environ.get(name, "").strip():
            return f"unset {name}, to use the installed jar, or correct what it names"
    return install_line()


def _check_heap() -> Check:
    try:
        return Check("Java heap", True, f"up to {heap_bytes() >> 20} MB ({HEAP_VARIABLE} sets it)")
    except BfbridgeError as error:
        return Check("Java heap", False, str(error), f"unset {HEAP_VARIABLE}")


def _check_start() -> Check:
    try:
        version = machine.start()
    except BfbridgeError as error:
        remedy = _jar_remedy() if isinstance(error, JarNotFound) else INSTALL
        return Check("Bio-Formats starts", False, str(error), remedy)
    whose = ", in a Java that another library started" if machine.adopted else ""
    return Check("Bio-Formats starts", True, f"version {version}{whose}")
