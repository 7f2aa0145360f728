"""Conversion of Java's exceptions to bfbridge's errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bfbridge.errors import (
    BfbridgeError,
    FileMissing,
    LimitExceeded,
    OutOfMemory,
    ReadFailed,
    UnknownFormat,
    UnreadableFile,
    Unsupported,
    WriteFailed,
)
from bfbridge_bioformats.runtime.settings import HEAP_VARIABLE

if TYPE_CHECKING:
    from bfbridge.storage.source import Source

__all__ = ["open_failure", "read_failure", "write_failure"]

_DEEPEST_CAUSE = 8
# Raised by bfbridge's Java code (handles/Handle.java) if a file is read without end.
_ENDLESS = "bfbridge.Endless"
# Raised if a file declares more than the limits allow (handles/Bounded.java).
_EXCEEDED = "bfbridge.Exceeded"
_NO_MEMORY = frozenset({"java.lang.OutOfMemoryError", "bfbridge.OutOfHeap", "MemoryError"})
# Message of JPype's RuntimeError if Java has no memory to report its error to Python.
_NOT_REPORTED = "Fatal error occurred"
_MISSING = frozenset({"java.io.FileNotFoundException", "java.nio.file.NoSuchFileException"})


def open_failure(error: BaseException, source: Source) -> BfbridgeError:
    """Return the error for an exception that occurred while a file was opened."""
    kinds = _kinds(error)
    cause = _cause(error)
    name = source.name
    if _is_memory(kinds):
        return _out_of_memory(f"{name}: opening it")
    if _EXCEEDED in kinds:
        what, _, limit = _message(error).partition(":")
        return LimitExceeded(
            f"{name}: it declares more than {int(limit):,} {what}; the file is damaged or hostile. "
            f"If it is correct, raise the limit with BioReader(..., limits=Limits({what}=...))."
        )
    if "loci.formats.UnknownFormatException" in kinds:
        return UnknownFormat(
            f"{name}: Bio-Formats knows no format that this file could be."
            f"{_alone(source)}{_part_of_plate(source)}"
        )
    if "loci.formats.UnsupportedCompressionException" in kinds:
        return Unsupported(f"{name}: Bio-Formats cannot decode its compression ({cause})")
    if "loci.formats.MissingLibraryException" in kinds:
        return Unsupported(f"{name}: Bio-Formats lacks a library this format needs ({cause})")
    if kinds & _MISSING and source.path is not None and not source.path.exists():
        return FileMissing(f"{name}: no such file.")
    if kinds & _MISSING:
        return UnreadableFile(
            f"{name}: a file that belongs to it is missing ({cause}).{_alone(source)}"
        )
    if _ENDLESS in kinds:
        cause = "its structure contains a cycle, or points past the end of the file"
    if "java.lang.StackOverflowError" in kinds:
        cause = "its structure is nested too deeply"
    return UnreadableFile(
        f"{name}: Bio-Formats recognises the format but cannot open the file: {cause}. "
        f"It is damaged, cut short, or a variant that is not supported.{_alone(source)}"
    )


def _part_of_plate(source: Source) -> str:
    """Return a hint for files that CV7000Reader reads only through another file."""
    if source.filename.lower().endswith((".mlf", ".mrf", ".mes", ".wpp")):
        return " If it is part of a Yokogawa plate, open the .wpi file in its folder."
    return ""


def _alone(source: Source) -> str:
    """Return the addition to a message for bytes and open files, which have no folder."""
    if source.path is not None or source.url is not None:
        return ""
    return (
        " It was opened as bytes or an open file, without the other files of its folder: if the "
        "format has several files, open it by path or URL."
    )


def read_failure(error: BaseException, name: str, what: str) -> BfbridgeError:
    """Return the error for an exception that occurred while pixels (`what`) of `name` were read."""
    if _is_memory(_kinds(error)):
        return _out_of_memory(f"{name}: {what}")
    return ReadFailed(f"{name}: {what}: Bio-Formats cannot read these pixels: {_cause(error)}.")


def write_failure(error: BaseException, name: str, what: str) -> BfbridgeError:
    """Return the error for an exception that occurred while `what` of `name` was written."""
    if _is_memory(_kinds(error)):
        return _out_of_memory(f"{name}: {what}")
    return WriteFailed(f"{name}: {what}: Bio-Formats cannot write this: {_cause(error)}.")


def _is_memory(kinds: frozenset[str]) -> bool:
    return bool(kinds & _NO_MEMORY)


def _out_of_memory(what: str) -> OutOfMemory:
    from bfbridge_bioformats.runtime.machine import machine

    machine.revive()
    heap = machine.max_memory() >> 20
    return OutOfMemory(
        f"{what} needs more than Java's heap of {heap} MB. Ask for smaller regions, or give Java "
        f"more: set {HEAP_VARIABLE}=4g (or as much as the machine has) before the first file is "
        "opened."
    )


def _kinds(error: BaseException) -> frozenset[str]:
    """Return the class names of a Java exception, its base classes and its causes."""
    names: set[str] = set()
    current: Any = error
    if type(error) is RuntimeError and str(error) == _NOT_REPORTED:
        names.add("java.lang.OutOfMemoryError")
    for _ in range(_DEEPEST_CAUSE):
        if current is None:
            break
        # JPype names its classes as Java does, including the package.
        names.update(kind.__name__ for kind in type(current).__mro__)
        current = getattr(current, "getCause", lambda: None)()
    return frozenset(names)


def _cause(error: BaseException) -> str:
    """Return Java's message as one line."""
    kind = type(error).__name__.rpartition(".")[2]
    text = " ".join(_message(error).split()).rstrip(".")
    return f"{kind}: {text}" if text else kind


def _message(error: BaseException) -> str:
    get = getattr(error, "getMessage", None)
    if get is None:
        return str(error)
    from bfbridge_bioformats.runtime.machine import machine

    text = get()
    return "" if text is None else machine.text(text)
