"""Required file lengths, for formats that do not store them as a few numbers of a header.

Each function returns what is missing, or None. `bfbridge_bioformats.files.truncation` calls them.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from math import prod
from typing import Final

from bfbridge.errors import UnreadableFile, Unsupported
from bfbridge.limits import Limits, check
from bfbridge.storage.source import RandomAccess, Source
from bfbridge_bioformats.files.dicom import UNDEFINED, read_header

__all__ = ["dicom", "eps", "hdf5", "imod", "itex", "jpeg2000", "netcdf", "png", "psd", "sif", "tga"]

_HDF5: Final = b"\x89HDF\r\n\x1a\n"
_NC_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8}
_NC_PIXELS: Final = frozenset({b"image", b"image-min", b"image-max"})
_MOST_NETCDF: Final = 16 << 20
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_STEP: Final = 8 << 20
# Bytes per pixel, by the pixel type of an ITEX file.
_ITEX_PIXELS: Final = {0: 1, 2: 2, 3: 4}
_JP2: Final = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
_J2K: Final = b"\xff\x4f\xff\x51"
_MOST_BOXES: Final = 10_000
# DICOM: item, and end of a sequence.
_ITEM: Final = b"\xfe\xff\x00\xe0"
_SEQUENCE_END: Final = b"\xfe\xff\xdd\xe0\0\0\0\0"
# Number of Frames (0028,0008), explicit or implicit.
_DICOM_FRAMES: Final = re.compile(rb"\x28\x00\x08\x00(?:IS..|..\0\0) *(\d{1,12})", re.DOTALL)
_MOST_DICOM_HEADER: Final = 1 << 20
# Pixels of one Targa packet; larger images are not checked.
_TGA_RUN: Final = 128
# A packet header that TargaRLECodec skips, as in PackBits.
_TGA_RUN_OF_ONE: Final = 0x80
_MOST_TGA: Final = 1 << 26


def sif(source: Source, access: RandomAccess, head: bytes, limits: Limits) -> str | None:
    """Andor SIF: a line about further images is last; newer files have an appendix with a marker.

    SIFReader locates the pixels by counting back from the end.
    """
    del source, limits
    if not head.startswith(b"Andor Technology"):
        return None
    end = bytes(access.read_at(max(access.size - 4, 0), 4))
    if end in (b"0\n0\n", b"SIFX"):
        return None
    return "the end marker of SIF files is missing"


def itex(source: Source, access: RandomAccess, head: bytes, limits: Limits) -> str | None:
    """Hamamatsu HiPic and HPD-TA images (ITEX), which Bio-Formats reads as JEOL images.

    "IM", lengths of the comment, rows and columns, offsets, and the pixel type; the comment from
    byte 64, then the pixels. JEOLReader reads rows of 1024 bytes from any such file.
    """
    del limits
    if head[:2] != b"IM" or head.startswith(b"IMOD") or len(head) < 64:
        return None
    comment, width, height, _, _, kind = struct.unpack_from("<6h", head, 2)
    needed = 64 + comment + width * height * _ITEX_PIXELS.get(kind, 0)
    sized = kind in _ITEX_PIXELS and min(width, height) > 0 and needed == access.size
    if sized or head[64:77] == b"[Application]":
        raise Unsupported(
            f"{source.name}: this is a Hamamatsu image (ITEX, {width} x {height} "
            "pixels), which Bio-Formats would read as JEOL, with wrong pixels. Export it as "
            "TIFF from that software."
        )
    return None


def imod(source: Source, access: RandomAccess, head: bytes, limits: Limits) -> str | None:
    """IMOD model, version 1.2: the chunk IEOF ends it."""
    del source, limits
    if not head.startswith(b"IMODV1.2"):
        return None
    if b"IEOF" in bytes(access.read_at(max(access.size - 64, 0), 64)):
        return None
    return "the end marker of IMOD models (IEOF) is missing"


def hdf5(source: Source, access: RandomAccess, head: bytes, limits: Limits) -> str | None:
    """HDF5 (MINC 2, Imaris, CellH5): the end-of-file address of the superblock."""
    del source, limits
    if not head.startswith(_HDF5) or len(head) < 96:
        return None
    version = head[8]
    # HDF5 file format 3.0, II.A: widths of addresses at 13 or 9, base address and end of file.
    width, base = (head[13], 24 + 4 * version) if version < 2 else (head[9], 12)
    end = base + 2 * width
    if version > 3 or width not in (4, 8):
        return None
    start = int.from_bytes(head[base : base + width], "little")
    needed = int.from_bytes(head[end : end + width], "little")
    if needed >= 1 << (8 * width - 1) or start + needed <= access.size:
        return None
    return f"it should end at byte {start + needed:,}"


def netcdf(source: Source, access: RandomAccess, head: bytes, limits: Limits) -> str | None:
    """Classic netCDF (MINC 1): the end of the variables that contain pixels."""
    del source, limits
    if head[:3] != b"CDF" or head[3:4] not in (b"\x01", b"\x02"):
        return None
    length = min(access.size, _MOST_NETCDF)
    try:
        return _Netcdf(bytes(access.read_at(0, length)), wide=head[3] == 2).missing(access.size)
    except (struct.error, IndexError, ValueError):
        return "its header of variables is truncated" if length == access.size else None


class _Netcdf:
    """The header of a classic netCDF file: NetCDF Users Guide, file format specification."""

    def __init__(self, data: bytes, *, wide: bool) -> None:
        self._data = data
        self._at = 4
        self._offset = "q" if wide else "i"

    def missing(self, size: int) -> str | None:
        """Return which variable is truncated, or None."""
        records = self._number()
        lengths = [length for _, length in self._dimensions()]
        for _ in range(self._list()):
            self._attribute()
        variables = list(self._variables(lengths))
        step = sum(padded for _, _, _, padded, record in variables if record)
        for name, begin, needed, _, record in variables:
            last = begin + (max(records - 1, 0) * step if record else 0)
            if name in _NC_PIXELS and last + needed > size and not (record and records <= 0):
                return f"its variable {name.decode()!r} should end at byte {last + needed:,}"
        return None

    def _number(self, form: str = "i") -> int:
        (number,) = struct.unpack_from(">" + form, self._data, self._at)
        self._at += struct.calcsize(form)
        return int(number)

    def _list(self) -> int:
        self._number()
        return self._count()

    def _count(self) -> int:
        count = self._number()
        if not 0 <= count <= len(self._data):
            raise ValueError(count)
        return count

    def _bytes(self, length: int) -> bytes:
        found = self._data[self._at : self._at + length]
        if len(found) < length:
            raise ValueError(length)
        self._at += -(-length // 4) * 4
        return found

    def _dimensions(self) -> list[tuple[bytes, int]]:
        return [(self._bytes(self._count()), self._number()) for _ in range(self._list())]

    def _attribute(self) -> None:
        self._bytes(self._count())
        kind = self._number()
        self._bytes(_NC_SIZES.get(kind, 1) * self._count())

    def _variables(self, lengths: list[int]) -> Iterator[tuple[bytes, int, int, int, bool]]:
        """Yield name, position, bytes, bytes with padding, and whether each record has one."""
        for _ in range(self._list()):
            name = self._bytes(self._count())
            shape = [lengths[self._number()] for _ in range(self._count())]
            for _ in range(self._list()):
                self._attribute()
            kind = self._number()
            padded = self._number() & 0xFFFFFFFF
            begin = self._number(self._offset)
            record = bool(shape) and shape[0] == 0
            needed = prod(shape[1:] if record else shape) * _NC_SIZES.get(kind, 1)
            yield name, begin, needed, padded, record


def psd(source: Source, access: RandomAccess, head: bytes, limits: Limits) -> str | None:
    """Photoshop: four sections with their lengths, then the merged image."""
    if head[:4] != b"8BPS" or len(head) < 26:
        return None
    version, channels, height, width, depth = struct.unpack_from(">H6xHIIH", head, 4)
    if version not in (1, 2):
        return None
    at = 26
    for form in (">I", ">I", ">Q" if version == 2 else ">I"):
        length = struct.calcsize(form)
        raw = bytes(access.read_at(at, length)) if at < access.size else b""
        if len(raw) < length:
            return f"a section should begin at byte {at:,}"
        at += length + struct.unpack(form, raw)[0]
    if at + 2 > access.size:
        return f"the image should begin at byte {at:,}"
    compression = struct.unpack(">H", bytes(access.read_at(at, 2)))[0]
    at += 2
    if compression == 0:
        needed = at + channels * height * -(-width * depth // 8)
    elif compression == 1:
        form, rows = (">I" if version == 2 else ">H"), channels * height
        table = struct.calcsize(form) * rows
        check(table, limits.tag_bytes, "length of the table of rows", source.name)
        raw = bytes(access.read_at(at, table))
        if len(raw) < table:
            return f"the table of its rows should end at byte {at + table:,}"
        needed = at + table + sum(each for (each,) in struct.iter_unpack(form, raw))
    else:
        return None
    return None if access.size >= needed else f"the image should end at byte {needed:,}"


def tga(source: Source, access: RandomAccess, head: bytes, limits: Limits) -> str | None:
    """Targa 2.0: header of 18 bytes, identification, colour map, pixels."""
    del limits
    if not source.filename.lower().endswith((".tga", ".tga.gz", ".tga.bz2")) or len(head) < 18:
        return None
    kind, _, colors, bits, _, _, width, height, depth = struct.unpack_from("<BHHBHHHHB", head, 2)
    pixel = -(-depth // 8)
    start = 18 + head[0] + (colors * -(-bits // 8) if head[1] == 1 else 0)
    pixels = width * height
    if kind not in (9, 10, 11):
        # TargaReader reads all other types as uncompressed pixels.
        end = start + pixels * pixel
        return None if access.size >= end else f"its pixels should end at byte {end:,}"
    if pixel > (3 if kind == 10 else 1):
        raise Unsupported(
            f"{source.name}: its pixels are compressed with {depth} bits; Bio-Formats "
            "decompresses the first part only. The pictures backend reads it; other software "
            "can convert them."
        )
    if pixels > _MOST_TGA:
        return None
    most = pixels * pixel + pixels // _TGA_RUN + pixels
    data = bytes(access.read_at(start, min(most, access.size)))
    found = _tga_runs(data, pixels, pixel, source.name)
    return None if found >= pixels else f"only {found:,} of {pixels:,} pixels are present"


def eps(source: Source, access: RandomAccess, head: bytes, limits: Limits) -> str | None:
    """Encapsulated PostScript with a TIFF preview; bytes 20 and 24 hold its offset and length."""
    del limits
    if not source.filename.lower().endswith((".eps", ".epsi", ".ps")) or b"%!PS" in head[:64]:
        return None
    if len(head) < 28:
        return "its header needs 28 bytes"
    start, length = struct.unpack_from("<ii", head, 20)
    if start >= 0 and 0 < length <= access.size - start:
        return None
    return f"its preview should be {length:,} bytes from byte {start:,} on"


def _tga_runs(data: bytes, wanted: int, pixel: int, name: str) -> int:
    """Return the number of pixels in run-length packets, at most `wanted`."""
    at = found = 0
    while found < wanted and at < len(data):
        packet = data[at]
        if packet == _TGA_RUN_OF_ONE:
            raise Unsupported(
                f"{name}: its pixels have runs of one pixel, which Bio-Formats skips: "
                "the following pixels would be at wrong positions. Convert it with other software."
            )
        count = (packet & 0x7F) + 1
        at += 1 + (pixel if packet & 0x80 else count * pixel)
        if at > len(data):
            break
        found += count
    return found


def png(source: Source, access: RandomAccess, head: bytes, limits: Limits) -> str | None:
    """PNG and APNG: chunks, each with a checksum, up to IEND (PNG specification, clause 5.3).

    APNGReader does not return for pixels that are missing because of a damaged chunk.
    """
    if not head.startswith(_PNG):
        return None
    at = len(_PNG)
    for _ in range(limits.directories):
        raw = bytes(access.read_at(at, 8))
        if len(raw) < 8:
            return f"a chunk should begin at byte {at:,}"
        length, kind = struct.unpack(">I4s", raw)
        end = at + 12 + length
        if end > access.size:
            return f"its chunk {kind.decode('latin-1')!r} should end at byte {end:,}"
        found = zlib.crc32(raw[4:])
        for start in range(at + 8, end - 4, _STEP):
            found = zlib.crc32(access.read_at(start, min(_STEP, end - 4 - start)), found)
        if found != struct.unpack(">I", bytes(access.read_at(end - 4, 4)))[0]:
            raise UnreadableFile(
                f"{source.name}: its chunk {kind.decode('latin-1')!r} at byte {at:,} is damaged: "
                "its checksum does not match. Copy or download the file again."
            )
        if kind == b"IEND":
            return None
        at = end
    return None


def jpeg2000(source: Source, access: RandomAccess, head: bytes, limits: Limits) -> str | None:
    """JPEG 2000, part 1: boxes (annex I) and tile-parts (annex A) are inside the file."""
    del source, limits
    if head.startswith(_J2K):
        return _tile_parts(access, 0)
    if not head.startswith(_JP2):
        return None
    at = 0
    for _ in range(_MOST_BOXES):
        raw = bytes(access.read_at(at, 16))
        if len(raw) < 8:
            return None if at == access.size else f"a box should begin at byte {at:,}"
        length, kind = struct.unpack_from(">I4s", raw)
        header = 8
        if length == 1 and len(raw) == 16:
            length, header = struct.unpack_from(">Q", raw, 8)[0], 16
        end = access.size if length == 0 else at + length
        if end > access.size:
            return f"its box {kind.decode('latin-1')!r} should end at byte {end:,}"
        if kind == b"jp2c":
            return _tile_parts(access, at + header)
        if end < at + header:
            return None
        at = end
        if at >= access.size:
            return "there is no box with pixels"
    return None


def _tile_parts(access: RandomAccess, at: int) -> str | None:
    """Read the segments of the main header, then the tile-parts (marker SOT, Psot)."""
    at += 2
    for _ in range(_MOST_BOXES):
        raw = bytes(access.read_at(at, 12))
        if raw[:2] == b"\xff\xd9":
            return None
        if len(raw) < 12:
            return f"a segment of its code stream should begin at byte {at:,}"
        marker, length = struct.unpack_from(">HH", raw)
        if marker == 0xFF90:
            (length,) = struct.unpack_from(">I", raw, 6)
            if length == 0:
                tail = bytes(access.read_at(max(access.size - 2, 0), 2))
                return None if tail == b"\xff\xd9" else "the end marker is missing"
        else:
            length += 2
        if length < 12 and marker == 0xFF90:
            return None
        at += length
        if at > access.size:
            return f"a part of its code stream should end at byte {at:,}"
        if at == access.size and marker == 0xFF90:
            # Some writers omit the end marker: the last part is complete.
            return None
    return None


def dicom(source: Source, access: RandomAccess, head: bytes, limits: Limits) -> str | None:
    """DICOM: the pixels (7FE0,0010), or the fragments of compressed pixels (PS3.5, annex A.4)."""
    if head[128:132] != b"DICM" or source.url is not None:
        return None
    frames = _DICOM_FRAMES.search(bytes(access.read_at(0, _MOST_DICOM_HEADER)))
    if frames is not None:
        # DicomReader allocates memory for each frame that is declared.
        check(int(frames.group(1)), limits.planes, "number of frames", source.name)
    if bytes(access.read_at(max(access.size - 8, 0), 8)) == _SEQUENCE_END:
        return None
    header = read_header(access, limits)
    if header is None or not header.at:
        return None
    at = header.at
    if header.length != UNDEFINED:
        end = at + header.length
        return None if end <= access.size else f"its pixels should end at byte {end:,}"
    for _ in range(limits.directories):
        raw = bytes(access.read_at(at, 8))
        if raw[:4] == _SEQUENCE_END[:4]:
            return None
        if len(raw) < 8:
            return f"a part of its pixels should begin at byte {at:,}"
        if raw[:4] != _ITEM:
            return None
        at += 8 + struct.unpack_from("<I", raw, 4)[0]
        if at > access.size:
            return f"a part of its pixels should end at byte {at:,}"
    return None
