"""DICOM files, packed and cut into fragments in any way, or not packed."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

__all__ = [
    "BIG_ENDIAN", "EXPLICIT", "JPEG", "JPEG2000", "RUN_LENGTHS", "dicom", "plain_dicom",
    "run_lengths",
]  # fmt: skip

EXPLICIT = "1.2.840.10008.1.2.1"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
JPEG = "1.2.840.10008.1.2.4.50"
JPEG2000 = "1.2.840.10008.1.2.4.90"
RUN_LENGTHS = "1.2.840.10008.1.2.5"
_LONG = ("OB", "OW", "SQ", "UN")


def element(group: int, number: int, kind: str, value: bytes, order: str = "<") -> bytes:
    """Make one explicit element."""
    pad = b"\0" if kind in ("UI", "OB") else b" "
    value += pad * (len(value) % 2)
    form = order + ("HH2sxxI" if kind in _LONG else "HH2sH")
    return struct.pack(form, group, number, kind.encode(), len(value)) + value


def _head(
    shape: tuple[int, int, int],
    count: int,
    syntax: str,
    bits: int,
    stored: int | None,
    signed: bool,
    instance: int,
) -> bytes:
    """Return everything before the pixels."""
    order = ">" if syntax == BIG_ENDIAN else "<"
    height, width, samples = shape
    meta = b"".join(
        (
            element(2, 1, "OB", b"\0\1"),
            element(2, 2, "UI", b"1.2.840.10008.5.1.4.1.1.7"),
            element(2, 3, "UI", b"1.2.3.%d" % instance),
            element(2, 0x10, "UI", syntax.encode()),
        )
    )
    texts = [
        (8, 8, "CS", rb"ORIGINAL\PRIMARY\AXIAL"),
        (8, 0x16, "UI", b"1.2.840.10008.5.1.4.1.1.7"),
        (8, 0x18, "UI", b"1.2.3.%d" % instance),
        (8, 0x22, "DA", b"20200102"),
        (8, 0x32, "TM", b"030405"),
        (8, 0x60, "CS", b"OT"),
        (0x20, 0xD, "UI", b"1.2.3"),
        (0x20, 0xE, "UI", b"1.2.3.4"),
        (0x20, 0x11, "IS", b"1"),
        (0x20, 0x13, "IS", b"%d" % instance),
        (0x20, 0x32, "DS", rb"0\0\%d" % instance),
        (0x28, 4, "CS", b"RGB" if samples == 3 else b"MONOCHROME2"),
    ]
    if count > 1:
        texts.append((0x28, 8, "IS", b"%d" % count))
    stored = bits if stored is None else stored
    numbers = {
        2: samples, 0x10: height, 0x11: width, 0x100: bits, 0x101: stored, 0x102: stored - 1,
        0x103: int(signed),
    }  # fmt: skip
    if samples == 3:
        numbers[6] = 0
    elements = [(*text[:2], element(*text, order)) for text in texts]
    for number, value in numbers.items():
        made = element(0x28, number, "US", struct.pack(order + "H", value), order)
        elements.append((0x28, number, made))
    body = b"".join(made for *_, made in sorted(elements))
    return bytes(128) + b"DICM" + element(2, 0, "UL", struct.pack("<I", len(meta))) + meta + body


def dicom(
    frames: Sequence[bytes],
    shape: tuple[int, int, int],
    *,
    syntax: str = JPEG2000,
    cuts: Sequence[Sequence[int]] = (),
    table: bool = False,
    declared: int | None = None,
    instance: int = 1,
    bits: int = 8,
    stored: int | None = None,
    signed: bool = False,
) -> bytes:
    """Make a file of packed frames.

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
    instance
        What tells files of one series.
    bits, stored, signed
        Of a sample: bits allocated and stored, and whether it has a sign.
    """
    count = len(frames) if declared is None else declared
    items: list[bytes] = []
    offsets = []
    for number, frame in enumerate(frames):
        offsets.append(sum(map(len, items)))
        ends = [*(cuts[number] if cuts else ()), len(frame)]
        for start, stop in zip([0, *ends], ends, strict=False):
            part = frame[start:stop] + b"\0" * ((stop - start) % 2)
            items.append(b"\xfe\xff\x00\xe0" + struct.pack("<I", len(part)) + part)
    told = b"".join(struct.pack("<I", offset) for offset in offsets) if table else b""
    pixels = struct.pack("<HH2sxxI", 0x7FE0, 0x10, b"OB", 0xFFFFFFFF)
    pixels += b"\xfe\xff\x00\xe0" + struct.pack("<I", len(told)) + told + b"".join(items)
    head = _head(shape, count, syntax, bits, stored, signed, instance)
    return head + pixels + b"\xfe\xff\xdd\xe0\0\0\0\0"


def plain_dicom(frames: np.ndarray, *, syntax: str = EXPLICIT, kind: str = "OW") -> bytes:
    """Make a file of frames (T, Y, X, samples) that are not packed."""
    dtype = frames.dtype
    count, *shape = frames.shape
    order = ">" if syntax == BIG_ENDIAN else "<"
    raw = frames.astype(dtype.newbyteorder(order)).tobytes()
    if kind == "OW" and dtype.itemsize == 1 and order == ">":
        # Bytes two by two in words, the first one low.
        raw = np.frombuffer(raw + bytes(len(raw) % 2), "<u2").astype(">u2").tobytes()
    bits = 8 * dtype.itemsize
    head = _head(tuple(shape), count, syntax, bits, None, dtype.kind == "i", 1)  # type: ignore[arg-type]
    return head + element(0x7FE0, 0x10, kind, raw, order)


def run_lengths(frame: np.ndarray) -> bytes:
    """Pack a frame (Y, X, samples) as annex G of PS3.5 has it: a segment for each byte."""
    segments = []
    for sample in np.moveaxis(frame, -1, 0):
        planes = sample.astype(sample.dtype.newbyteorder(">")).tobytes()
        for byte in range(sample.dtype.itemsize):
            packed = _packbits(planes[byte :: sample.dtype.itemsize], frame.shape[1])
            segments.append(packed + b"\0" * (len(packed) % 2))
    offsets = np.cumsum([64, *map(len, segments)])[:-1]
    header = struct.pack("<I", len(segments)) + offsets.astype("<u4").tobytes()
    return header.ljust(64, b"\0") + b"".join(segments)


def _packbits(data: bytes, width: int) -> bytes:
    made = bytearray()
    for start in range(0, len(data), width):
        row = data[start : start + width]
        at = 0
        while at < len(row):
            run = 1
            while at + run < len(row) and run < 128 and row[at + run] == row[at]:
                run += 1
            if run > 1:
                made += bytes([257 - run, row[at]])
            else:
                made += bytes([0, row[at]])
            at += run
    return bytes(made)
