"""DICOM files with packed frames, cut into fragments in any way."""

from __future__ import annotations

import struct
from collections.abc import Sequence

__all__ = ["JPEG", "JPEG2000", "dicom"]

JPEG = "1.2.840.10008.1.2.4.50"
JPEG2000 = "1.2.840.10008.1.2.4.90"
_LONG = ("OB", "OW", "SQ", "UN")


def element(group: int, number: int, kind: str, value: bytes) -> bytes:
    """Make one element, explicit and little-endian."""
    pad = b"\0" if kind in ("UI", "OB") else b" "
    value += pad * (len(value) % 2)
    form = "<HH2sxxI" if kind in _LONG else "<HH2sH"
    return struct.pack(form, group, number, kind.encode(), len(value)) + value


def dicom(
    frames: Sequence[bytes],
    shape: tuple[int, int, int],
    *,
    syntax: str = JPEG2000,
    cuts: Sequence[Sequence[int]] = (),
    table: bool = False,
    declared: int | None = None,
    instance: int = 1,
    series: str = "1.2.3.4",
) -> bytes:
    """Make a file.

    Parameters
    ----------
    frames
        Packed, one stream each.
    shape
        Rows, columns, samples.
    syntax
        Transfer syntax.
    cuts
        For each frame, where it is cut into fragments: even numbers.
    table
        Whether the basic offset table tells where each frame begins.
    declared
        Frames that the header declares; None for as many as there are.
    instance, series
        What tells files of one series.
    """
    height, width, samples = shape
    count = len(frames) if declared is None else declared
    meta = b"".join(
        (
            element(2, 1, "OB", b"\0\1"),
            element(2, 2, "UI", b"1.2.840.10008.5.1.4.1.1.7"),
            element(2, 3, "UI", b"1.2.3.%d" % instance),
            element(2, 0x10, "UI", syntax.encode()),
        )
    )
    elements = [
        element(8, 8, "CS", rb"ORIGINAL\PRIMARY\AXIAL"),
        element(8, 0x16, "UI", b"1.2.840.10008.5.1.4.1.1.7"),
        element(8, 0x18, "UI", b"1.2.3.%d" % instance),
        element(8, 0x22, "DA", b"20200102"),
        element(8, 0x32, "TM", b"030405"),
        element(8, 0x60, "CS", b"OT"),
        element(0x20, 0xD, "UI", b"1.2.3"),
        element(0x20, 0xE, "UI", series.encode()),
        element(0x20, 0x11, "IS", b"1"),
        element(0x20, 0x13, "IS", b"%d" % instance),
        element(0x20, 0x32, "DS", rb"0\0\%d" % instance),
        element(0x28, 2, "US", struct.pack("<H", samples)),
        element(0x28, 4, "CS", b"RGB" if samples == 3 else b"MONOCHROME2"),
    ]
    if samples == 3:
        elements.append(element(0x28, 6, "US", struct.pack("<H", 0)))
    if count > 1:
        elements.append(element(0x28, 8, "IS", b"%d" % count))
    for number, value in (
        (0x10, height),
        (0x11, width),
        (0x100, 8),
        (0x101, 8),
        (0x102, 7),
        (0x103, 0),
    ):
        elements.append(element(0x28, number, "US", struct.pack("<H", value)))
    items, offsets = [], []
    for number, frame in enumerate(frames):
        offsets.append(sum(map(len, items)))
        ends = [*(cuts[number] if cuts else ()), len(frame)]
        for start, stop in zip([0, *ends], ends, strict=False):
            part = frame[start:stop] + b"\0" * ((stop - start) % 2)
            items.append(b"\xfe\xff\x00\xe0" + struct.pack("<I", len(part)) + part)
    told = b"".join(struct.pack("<I", offset) for offset in offsets) if table else b""
    pixels = struct.pack("<HH2sxxI", 0x7FE0, 0x10, b"OB", 0xFFFFFFFF)
    pixels += b"\xfe\xff\x00\xe0" + struct.pack("<I", len(told)) + told + b"".join(items)
    return b"".join(
        (
            bytes(128), b"DICM", element(2, 0, "UL", struct.pack("<I", len(meta))), meta, *elements,
            pixels, b"\xfe\xff\xdd\xe0\0\0\0\0",
        )
    )  # fmt: skip
