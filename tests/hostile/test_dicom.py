"""Damaged DICOM files, corrected for Java: a BfbridgeError or bytes, within seconds."""

from __future__ import annotations

import contextlib
import random
import struct
import time

import imagecodecs
import numpy as np
import pytest

from bfbridge.errors import BfbridgeError, LimitExceeded, UnreadableFile
from bfbridge.limits import Limits
from bfbridge.storage.source import as_source
from bfbridge_bioformats.files.dicom import corrected
from tests.support.dicoms import (
    BIG_ENDIAN,
    JPEG,
    RUN_LENGTHS,
    dicom,
    plain_dicom,
    run_lengths,
)
from tests.support.peak import peak_memory

RNG = np.random.default_rng(31)
FRAMES = RNG.integers(0, 256, (3, 40, 56, 3)).astype(np.uint8)
CUTS = [(300, 400), (), (2,)]
STREAMS = [imagecodecs.jpeg2k_encode(frame, level=0, codecformat="j2k") for frame in FRAMES]
JPEGS = [imagecodecs.jpeg8_encode(frame) for frame in FRAMES]
PACKED = [run_lengths(frame) for frame in FRAMES]
SHAPE = (40, 56, 3)
SOUND = {
    "jpeg2000": dicom(STREAMS, SHAPE, cuts=CUTS),
    "jpeg2000 with a table": dicom(STREAMS, SHAPE, cuts=CUTS, table=True),
    "jpeg": dicom(JPEGS, SHAPE, syntax=JPEG, cuts=CUTS),
    "run lengths": dicom(PACKED, SHAPE, syntax=RUN_LENGTHS),
    "big-endian words": plain_dicom(FRAMES, syntax=BIG_ENDIAN),
}


def read(data: bytes, limits: Limits) -> None:
    """Read a file as Java would, in pieces."""
    access = as_source(data).open()
    file = corrected(access, "a.dcm", limits)
    if file is None:
        return
    for start in range(0, min(file.size, 1 << 20), 50_000):
        piece = file.read_at(start, 50_000)
        assert len(piece) == min(50_000, file.size - start)
    file.close()


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("kind", SOUND)
def test_changed_files(kind: str) -> None:
    data = SOUND[kind]
    rng = random.Random(kind)
    head = data.index(b"\xe0\x7f\x10\0") if b"\xe0\x7f\x10\0" in data else 900
    begun = time.monotonic()
    with peak_memory() as peak:
        for number in range(300):
            made = bytearray(data)
            for _ in range(rng.choice((1, 1, 3))):
                at = (
                    rng.randrange(132, head + 60)
                    if rng.random() < 0.7
                    else rng.randrange(len(made))
                )
                made[at] = rng.choice((0, 0xFF, made[at] ^ 1 << rng.randrange(8)))
            cut = bytes(made[: rng.randrange(len(made))]) if number % 10 == 0 else bytes(made)
            with contextlib.suppress(BfbridgeError):
                read(cut, Limits(chunk_bytes=64 << 20))
    assert peak.nbytes < 256 << 20
    assert time.monotonic() - begun < 60


def test_items_without_end_are_counted() -> None:
    head = SOUND["jpeg2000"]
    at = head.rindex(b"\xe0\x7f\x10\0") + 12
    items = (b"\xfe\xff\0\xe0" + struct.pack("<I", 2) + b"\xff\x4f") * 5000
    with pytest.raises(LimitExceeded, match="fragments"):
        read(head[:at] + items + bytes(8), Limits(directories=4000))
    with pytest.raises(UnreadableFile, match="it is unknown"):
        read(head[:at] + items + b"\xfe\xff\xdd\xe0\0\0\0\0", Limits())
