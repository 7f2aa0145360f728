"""The options of the JVM, in one table with their reasons, and the size of the heap."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bfbridge.errors import BadArgument
from bfbridge.runtime.systems import physical_memory

__all__ = ["HEAP_VARIABLE", "OPTIONS", "JvmOption", "heap_bytes", "jvm_arguments", "shared_heap"]

HEAP_VARIABLE = "BFBRIDGE_HEAP"
MIB = 1 << 20
SMALLEST_HEAP = 64 * MIB
_DEFAULT_FLOOR = 512 * MIB
# Variables in which Java itself reads options; with two garbage collectors it does not start.
_JAVAS_OWN = ("JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS")
_COLLECTOR = re.compile(r"-XX:\+Use\w+GC\b")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


@dataclass(frozen=True)
class JvmOption:
    """One option, the first Java release that supports it, and its reason."""

    flag: str
    reason: str
    since: int = 11


OPTIONS: tuple[JvmOption, ...] = (
    JvmOption("-Djava.awt.headless=true", "readers use AWT classes; no display is ever needed"),
    JvmOption(
        "-XX:+UseSerialGC",
        "pixel arrays are large and short-lived: no collector threads compete with the readers' "
        "(two workers are 1.1 to 1.2 times as fast), and less memory is used",
    ),
    JvmOption(
        "-Xms64m",
        "the heap starts small and grows when needed: Java otherwise takes a 64th of memory, and "
        "every page of it is used once and then kept",
    ),
    JvmOption(
        "-Xrs",
        "leaves SIGINT, SIGTERM and SIGHUP to Python: Ctrl-C is a KeyboardInterrupt, and a "
        "terminated process does not dump a crash report",
    ),
    JvmOption(
        "--enable-native-access=ALL-UNNAMED",
        "JPype and Bio-Formats' codecs load native code; Java 24 and later warn on stderr without",
        since=22,
    ),
    JvmOption(
        "--sun-misc-unsafe-memory-access=allow",
        "the Zstandard codec in the jar uses Unsafe; Java 24 and later warn on stderr without",
        since=23,
    ),
    JvmOption(
        "-Djavax.xml.parsers.SAXParserFactory="
        "com.sun.org.apache.xerces.internal.jaxp.SAXParserFactoryImpl",
        "the jar contains an old Xerces that ignores Java's XML limits: use Java's own parser",
    ),
    JvmOption(
        "-Djavax.xml.parsers.DocumentBuilderFactory="
        "com.sun.org.apache.xerces.internal.jaxp.DocumentBuilderFactoryImpl",
        "as above, for documents read as a tree",
    ),
    JvmOption(
        "-Dorg.xml.sax.driver=com.sun.org.apache.xerces.internal.parsers.SAXParser",
        "as above, for code that creates a parser in the older way (style sheets do)",
    ),
    JvmOption(
        "-Djdk.xml.dtd.support=deny",
        "no image format needs a document type; refusing it stops entity bombs and fetching",
        since=22,
    ),
    JvmOption("-Djavax.xml.accessExternalDTD=", "an image file never makes a network request"),
    JvmOption("-Djavax.xml.accessExternalSchema=", "an image file never makes a network request"),
)


def jvm_arguments(feature: int | None, heap: int) -> list[str]:
    """Return the options for a Java release (None: options of all releases) and heap."""
    known = feature if feature is not None else 11
    flags = [option.flag for option in OPTIONS if option.since <= known]
    if any(_COLLECTOR.search(os.environ.get(name, "")) for name in _JAVAS_OWN):
        flags = [flag for flag in flags if not _COLLECTOR.search(flag)]
    return [*flags, f"-Xmx{max(heap, SMALLEST_HEAP) // MIB}m"]


def heap_bytes(requested: str | int | None = None) -> int:
    """Return the largest Java heap in bytes.

    Parameters
    ----------
    requested
        Bytes, or text such as "2g" or "800m". None: the environment variable ``BFBRIDGE_HEAP``,
        else a quarter of what this process may use (control group, else machine), at least
        512 MB but never more than half.

    Raises
    ------
    BadArgument
        The text is not a size, or below 64 MB.
    """
    where = "heap"
    if requested is None:
        requested = os.environ.get(HEAP_VARIABLE, "").strip() or None
        where = HEAP_VARIABLE
    if requested is None:
        memory = _memory_limit()
        return max(min(max(memory // 4, _DEFAULT_FLOOR), memory // 2), SMALLEST_HEAP)
    size = requested if isinstance(requested, int) else _parse(requested, where)
    if size < SMALLEST_HEAP:
        raise BadArgument(f"{where}={requested!r}: the Java heap needs at least 64m.")
    return size


def shared_heap(processes: int) -> tuple[int, int]:
    """Return the number of processes with Java, and the heap of each in bytes.

    Together they use at most half of the memory available to this process. ``BFBRIDGE_HEAP``, if
    set, is the heap of each.

    Parameters
    ----------
    processes
        Requested number of processes.
    """
    half = _memory_limit() // 2
    if os.environ.get(HEAP_VARIABLE, "").strip():
        heap = heap_bytes()
        return max(min(processes, half // heap), 1), heap
    count = max(min(processes, half // _DEFAULT_FLOOR), 1)
    return count, max(min(heap_bytes(), half // count), SMALLEST_HEAP)


def _parse(text: str, where: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    if found is None:
        raise BadArgument(f"{where}={text!r}: not a size. Write it as 2g, 800m or a byte count.")
    return int(float(found.group(1)) * _UNITS[found.group(2)])


def _memory_limit() -> int:
    """Return the memory available to this process: the least of control groups and machine."""
    return min([physical_memory() or 4 << 30, *_group_limits()])


def _group_limits(root: Path = Path("/sys/fs/cgroup")) -> Iterator[int]:
    """Yield the memory limits of this process' control groups, of both versions, up to the root."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            base, name = root, "memory.max"
        elif "memory" in controllers.split(","):
            base, name = root / "memory", "memory.limit_in_bytes"
        else:
            continue
        place = base / group.lstrip("/")
        while True:
            yield from _limit_in(place / name)
            if place == base or base not in place.parents:
                break
            place = place.parent


def _limit_in(file: Path) -> Iterator[int]:
    try:
        yield int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return
