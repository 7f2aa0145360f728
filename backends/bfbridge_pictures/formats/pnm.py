"""PBM, PGM, PPM and PAM (Netpbm's format descriptions), as text or as bytes.

Like Bio-Formats' PGMReader, it returns the stored values, not scaled to the type's range, and
bitmaps as int8 with 1 for black. It also reads packed bitmaps and PAM.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from bfbridge.errors import Unsupported
from bfbridge_pictures.cursor import Cursor, DamagedPicture
from bfbridge_pictures.picture import (
    Array,
    DecodedPlanes,
    Picture,
    PictureFile,
    RawRows,
    band_of,
    check_decoded,
    describe,
)

__all__ = ["open_picture"]

_MAGIC: Final = re.compile(rb"P[1-7][\s#]")
_MOST_HEADER: Final = 1 << 16
_COMMENT: Final = re.compile(rb"#[^\r\n]*")
_NOT_TEXT: Final = re.compile(rb"[^0-9\s]")
_LONG_NUMBER: Final = re.compile(rb"[0-9]{10}")
# Samples of the types P1 to P6.
_SAMPLES: Final = {1: 1, 2: 1, 3: 3, 4: 1, 5: 1, 6: 3}
_PAM_KEYS: Final = (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL")
_MOST_VALUE: Final = 65535


@dataclass(frozen=True, slots=True)
class _PnmHeader:
    """The header before the pixels."""

    kind: int
    width: int
    height: int
    samples: int
    most: int
    offset: int

    @property
    def bitmap(self) -> bool:
        """Whether pixels are black or white."""
        return self.kind in (1, 4)

    @property
    def text(self) -> bool:
        """Whether values are written as decimal numbers."""
        return self.kind <= 3

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a value, as in Bio-Formats."""
        if self.bitmap:
            return np.dtype(np.int8)
        return np.dtype(np.uint8 if self.most < 256 else np.uint16)

    @property
    def stride(self) -> int:
        """Bytes of a binary row."""
        if self.bitmap:
            return -(-self.width // 8)
        return self.width * self.samples * self.dtype.itemsize


def open_picture(file: PictureFile) -> Picture:
    """Return a PNM or PAM file as a picture.

    Raises
    ------
    Unsupported
        It starts with P, but has another format.
    DamagedPicture
        It is truncated, or contains several images.
    """
    header = _read_header(file)
    shape = (header.height, header.width, header.samples)
    image = describe(
        file,
        shape,
        header.dtype,
        order=">" if header.dtype.itemsize > 1 else "<",
        band=None if header.text else band_of(header.stride),
    )
    details = {"Black and white": header.bitmap}
    if header.text:
        stored = file.access.size - header.offset
        check_decoded(file, shape, header.dtype.itemsize, stored)
        return DecodedPlanes(
            image, details, plane=lambda level, t: _from_text(file, header, stored)
        )
    end = header.offset + header.stride * header.height
    if end > file.access.size:
        raise DamagedPicture(
            f"the file is cut short: its pixels should end at byte {end:,}, and the file has "
            f"{file.access.size:,} bytes"
        )
    if _MAGIC.match(Cursor(file.access, end).peek(16).lstrip()):
        raise DamagedPicture(
            "it contains several images, of which one can be read; split it (pamsplit)"
        )
    return RawRows(
        image, details,
        access=file.access, offset=header.offset, stride=header.stride,
        decode=lambda rows: _from_bytes(rows, header),
    )  # fmt: skip


def _read_header(file: PictureFile) -> _PnmHeader:
    cursor = Cursor(file.access)
    if not _MAGIC.match(cursor.peek(3)):
        raise Unsupported("not a supported picture format")
    kind = cursor.read(2)[1] - ord("0")
    if kind == 7:
        return _read_pam(cursor)
    width, height = _number(cursor), _number(cursor)
    most = 1 if kind in (1, 4) else _number(cursor)
    # One white space character, or a comment line, separates the header from the pixels.
    if cursor.byte() == ord("#"):
        _skip_comment(cursor)
    return _checked(_PnmHeader(kind, width, height, _SAMPLES[kind], most, cursor.position))


def _read_pam(cursor: Cursor) -> _PnmHeader:
    cursor.read(1)
    found: dict[bytes, int] = {}
    while cursor.position < _MOST_HEADER:
        line = _line(cursor).split()
        if line[:1] == [b"ENDHDR"]:
            missing = [key.decode() for key in _PAM_KEYS if key not in found]
            if missing:
                raise DamagedPicture(f"its header has no {', '.join(missing)}")
            width, height, samples, most = (found[key] for key in _PAM_KEYS)
            return _checked(_PnmHeader(7, width, height, samples, most, cursor.position))
        if line and line[0] in _PAM_KEYS:
            if len(line) != 2 or not line[1].isdigit() or len(line[1]) > 9:
                raise DamagedPicture(f"its header has {line[0].decode()} without a number")
            found[line[0]] = int(line[1])
    raise DamagedPicture("its header does not end")


def _line(cursor: Cursor) -> bytes:
    """Return the text before the next line feed."""
    text = bytearray()
    while (byte := cursor.byte()) != ord("\n"):
        text.append(byte)
        if len(text) > _MOST_HEADER:
            raise DamagedPicture("a line of its header does not end")
    return bytes(text)


def _number(cursor: Cursor) -> int:
    """Return the next number of the header, without the byte after it."""
    digits = b""
    while cursor.position < _MOST_HEADER:
        byte = cursor.peek(1)
        if byte.isdigit() and len(digits) < 10:
            digits += byte
        elif digits:
            return int(digits)
        elif byte == b"#":
            _skip_comment(cursor)
            continue
        elif not byte.isspace():
            break
        cursor.position += 1
    raise DamagedPicture("its header has no number where a size or the largest value should be")


def _skip_comment(cursor: Cursor) -> None:
    while cursor.byte() not in b"\r\n":
        if cursor.position > _MOST_HEADER:
            raise DamagedPicture("a comment in its header does not end")


def _checked(header: _PnmHeader) -> _PnmHeader:
    if not 0 < header.most <= _MOST_VALUE:
        raise DamagedPicture(f"its largest value is {header.most}, which is not from 1 to 65535")
    return header


def _from_bytes(rows: Array, header: _PnmHeader) -> Array:
    if header.bitmap:
        bits = np.unpackbits(rows, axis=1)[:, : header.width]
        return bits.view(np.int8)[:, :, np.newaxis]
    stored: Array = rows.view(">u2") if header.dtype.itemsize == 2 else rows
    values: Array = stored.reshape(len(rows), header.width, header.samples)
    return values.astype(header.dtype, copy=False)


def _from_text(file: PictureFile, header: _PnmHeader, stored: int) -> Array:
    text = _COMMENT.sub(b"", file.bytes_at(header.offset, stored))
    wanted = header.height * header.width * header.samples
    if header.bitmap:
        # White space between the digits may be missing.
        digits = np.frombuffer(text, np.uint8)
        values = digits[(digits == ord("0")) | (digits == ord("1"))] - ord("0")
    elif wrong := _NOT_TEXT.search(text):
        raise DamagedPicture(f"its pixels are numbers, but contain {wrong.group()!r}")
    elif _LONG_NUMBER.search(text):
        raise DamagedPicture("a value has ten digits or more")
    else:
        values = np.fromstring(text, np.int64, sep=" ")
    if len(values) < wanted:
        raise DamagedPicture(
            f"the file is cut short: {len(values):,} of {wanted:,} values are present"
        )
    shown: Array = values[:wanted].reshape(header.height, header.width, header.samples)
    if int(shown.max()) > header.most:
        raise DamagedPicture(f"a value is larger than {header.most}, the declared maximum")
    return shown.astype(header.dtype)
