"""The errors that exceptions of Java become, without Java."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
from bfbridge.storage.source import as_source
from bfbridge_bioformats.readers.failures import open_failure, read_failure, write_failure
from bfbridge_bioformats.runtime.machine import machine

ALONE = "It was opened as bytes or an open file, without the other files of its folder"


@pytest.fixture(autouse=True)
def no_java(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Python classes that replace the Java classes of these tests."""
    calls: list[str] = []
    monkeypatch.setattr(machine, "text", str)
    monkeypatch.setattr(machine, "revive", lambda: calls.append("revive"))
    monkeypatch.setattr(machine, "max_memory", lambda: 512 << 20)
    return calls


def java(kind: str, message: str | None = "", cause: Any = None, base: str = "") -> Exception:
    """Make an exception as JPype does: its class has the name of Java's, with the package."""
    bases: tuple[type, ...] = (type(base, (Exception,), {}),) if base else (Exception,)
    members = {"getMessage": lambda self: message, "getCause": lambda self: cause}
    error: Exception = type(kind, bases, members)()
    return error


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (java("loci.formats.UnknownFormatException", "no"), UnknownFormat, "knows no format"),
        (
            java("loci.formats.UnsupportedCompressionException", "LZ9\n is\nnew."),
            Unsupported,
            r"cannot decode its compression \(UnsupportedCompressionException: LZ9 is new\)",
        ),
        (
            java("loci.formats.MissingLibraryException", "x"), Unsupported,
            r"lacks a library this format needs \(MissingLibraryException: x\)",
        ),
        (
            java("java.io.FileNotFoundException", "/a/b.dat"), UnreadableFile,
            r"a file that belongs to it is missing \(FileNotFoundException: /a/b\.dat\)",
        ),
        (java("java.lang.StackOverflowError", None), UnreadableFile, "is nested too deeply"),
        (
            java("a.NullPointerException", None), UnreadableFile,
            "cannot open the file: NullPointerException. It is damaged, cut short, or a variant",
        ),
        (ValueError("of Python"), UnreadableFile, "cannot open the file: ValueError: of Python"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_opened(
    error: Exception, expected: type[BfbridgeError], message: str
) -> None:
    found = open_failure(error, as_source(b"data", name="a.xyz"))
    assert type(found) is expected
    with pytest.raises(expected, match=f"^a.xyz: .*{message}"):
        raise found
    # Bytes have no folder with the other files of the format.
    assert (ALONE in str(found)) == (expected in (UnknownFormat, UnreadableFile))


def test_a_limit_that_java_found_exceeded_is_named() -> None:
    from bfbridge_bioformats.readers import failures

    error = java(failures._EXCEEDED, "planes:1000000")
    found = open_failure(error, as_source(b"data", name="a.xyz"))
    assert type(found) is LimitExceeded
    assert "it declares more than 1,000,000 planes" in str(found)
    assert "limits=Limits(planes=...)" in str(found)


def test_a_file_that_is_gone_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    path.write_bytes(b"data")
    source = as_source(path)
    error = java("java.nio.file.NoSuchFileException", "b.dat")
    assert type(open_failure(error, source)) is UnreadableFile
    assert ALONE not in str(open_failure(error, source))
    path.unlink()
    assert type(open_failure(error, source)) is FileMissing


@pytest.mark.parametrize("suffix", ["mlf", "MES", "wpp"])
def test_parts_of_a_plate_name_the_file_to_open(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(b"data")
    found = open_failure(java("loci.formats.UnknownFormatException"), as_source(path))
    assert str(found).endswith("Yokogawa plate, open the .wpi file in its folder.")


OF_MEMORY: list[Callable[[], Exception]] = [
    lambda: java("java.lang.OutOfMemoryError", "Java heap space"),
    lambda: java("a.Special", "", base="java.lang.OutOfMemoryError"),
    lambda: java("a.Outer", "", java("a.Inner", "", java("java.lang.OutOfMemoryError"))),
    MemoryError,
    lambda: RuntimeError("Fatal error occurred"),
]


@pytest.mark.parametrize("make", OF_MEMORY)
def test_memory_that_ran_out_says_how_to_get_more(
    make: Callable[[], Exception], no_java: list[str]
) -> None:
    made = (
        open_failure(make(), as_source(b"data", name="a.xyz")),
        read_failure(make(), "a.xyz", "plane 3"),
        write_failure(make(), "a.xyz", "plane 3"),
    )
    for found, what in zip(made, ("opening it", "plane 3", "plane 3"), strict=True):
        assert type(found) is OutOfMemory
        assert str(found).startswith(f"a.xyz: {what} needs more than Java's heap of 512 MB.")
        assert "=4g" in str(found)
    assert no_java == ["revive"] * 3


def test_pixels_that_cannot_be_read_or_written() -> None:
    error = java("loci.formats.FormatException", "bad  strip.")
    found = read_failure(error, "a.xyz", "plane 3")
    assert type(found) is ReadFailed
    expected = "a.xyz: plane 3: Bio-Formats cannot read these pixels: FormatException: bad strip."
    assert str(found) == expected
    found = write_failure(error, "a.xyz", "plane 3")
    assert type(found) is WriteFailed
    assert str(found).endswith("Bio-Formats cannot write this: FormatException: bad strip.")


def test_causes_that_go_round_end() -> None:
    error = java("a.First")
    type(error).getCause = lambda self: self
    assert type(read_failure(error, "a", "it")) is ReadFailed
