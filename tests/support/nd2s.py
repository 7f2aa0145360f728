"""Small ND2 files, for there is no library that writes them.

What comes out is read by nd2 and Bio-Formats in the tests that use it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["U32", "Nd2Channel", "Nd2Loop", "lite", "nd2_bytes", "write_nd2"]

MARK = 0x0ABECEDA
_FILL = 4096
_NAME = _FILL - 24
_CAMERA = """<?xml version="1.0" encoding="UTF-8"?><variant version="1.0"><no_name
runtype="CLxListVariant"><vGrabberCameraSettings runtype="CLxListVariant"><CameraUniqueName
runtype="CLxStringW" value="Camera"/></vGrabberCameraSettings></no_name></variant>"""


class U32(int):
    """An int of 32 bits without a sign, as most numbers of ND2 files are."""


@dataclass
class Nd2Loop:
    """One loop of the experiment: "T", "Z", "P" for positions, or "N" for phases of time."""

    axis: str
    length: int
    step: float = 0.5
    points: Sequence[tuple[str, float, float, float]] = ()
    phases: Sequence[int] = ()

    def level(self, inner: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return SLxExperiment."""
        pars: dict[str, Any] = {"uiCount": U32(self.length)}
        valid: dict[str, Any] = {}
        if self.axis == "T":
            pars |= {"dStart": 0.0, "dPeriod": 1000.0, "dDuration": 1000.0 * self.length}
        elif self.axis == "Z":
            pars |= {
                "dZLow": 0.0, "dZHigh": self.step * (self.length - 1), "dZStep": self.step,
                "dZHome": 0.0, "bZInverted": False, "iType": 0,
            }  # fmt: skip
        elif self.axis == "P":
            points = self.points or [(f"#{n}", 10.0 * n, 5.0 * n, 0.0) for n in range(self.length)]
            pars["bUseZ"] = False
            pars["Points"] = [
                {"dPosName": name, "dPosX": x, "dPosY": y, "dPosZ": z} for name, x, y, z in points
            ]
            valid["pItemValid"] = bytes([1]) * self.length
        else:
            del pars["uiCount"]
            pars["pPeriod"] = [
                {"uiCount": U32(n), "dStart": 0.0, "dPeriod": 10.0, "dDuration": 10.0 * n}
                for n in self.phases
            ]
            pars["pPeriodValid"] = bytes([1]) * len(self.phases)
        kinds = {"T": 1, "P": 2, "Z": 4, "N": 8}
        return {
            "eType": U32(kinds[self.axis]), "wsApplicationDesc": "", **valid, "uLoopPars": pars,
            "uiNextLevelCount": U32(inner is not None),
            **({} if inner is None else {"ppNextLevelEx": [inner]}),
        }  # fmt: skip


@dataclass
class Nd2Channel:
    """One channel: the colour has red in its lowest byte."""

    name: str = "DAPI"
    color: int = 0xFF0000
    emission: float = 460.0
    exposure: float = 100.0


@dataclass
class Nd2Parts:
    """What `nd2_bytes` puts together, for tests to change."""

    chunks: list[tuple[str, bytes]] = field(default_factory=list)

    def replace(self, name: str, data: bytes) -> None:
        """Change one chunk."""
        self.chunks = [(one, data if one == name else old) for one, old in self.chunks]

    def remove(self, name: str) -> None:
        """Leave one chunk out."""
        self.chunks = [(one, old) for one, old in self.chunks if one != name]

    def bytes(self, version: str = "Ver3.0") -> bytes:
        """Return the file."""
        out = bytearray(
            struct.pack("<IIQ", MARK, 32, 64)
            + b"ND2 FILE SIGNATURE CHUNK NAME01!"
            + version.encode().ljust(64, b"\0")
        )
        places = []
        for name, data in self.chunks:
            out += bytes(-len(out) % _FILL)
            places.append((name, len(out), len(data)))
            raw = name.encode()
            # Pixels of frames begin 4,096 bytes after the chunk, their time 8 bytes before.
            out += struct.pack("<IIQ", MARK, _NAME, len(data)) + raw.ljust(_NAME, b"\0") + data
        out += bytes(-len(out) % _FILL)
        begin = len(out)
        table = b"".join(name.encode() + struct.pack("<QQ", at, size) for name, at, size in places)
        table += b"ND2 CHUNK MAP SIGNATURE 0000001!" + struct.pack("<Q", begin)
        name = b"ND2 FILEMAP SIGNATURE NAME 0001!"
        return bytes(out) + struct.pack("<IIQ", MARK, len(name), len(table)) + name + table


def lite(name: str, value: Any) -> bytes:
    """Return one item of the lite variant."""
    raw = (name + "\0").encode("utf-16-le")
    units = len(raw) // 2

    def item(kind: int, data: bytes) -> bytes:
        return bytes([kind, units]) + raw + data

    if isinstance(value, bool):
        return item(1, struct.pack("<?", value))
    if isinstance(value, U32):
        return item(3, struct.pack("<I", value))
    if isinstance(value, int):
        return item(2, struct.pack("<i", value))
    if isinstance(value, float):
        return item(6, struct.pack("<d", value))
    if isinstance(value, str):
        return item(8, (value + "\0").encode("utf-16-le"))
    if isinstance(value, bytes):
        return item(9, struct.pack("<Q", len(value)) + value)
    pairs = list(value.items()) if isinstance(value, Mapping) else [("", one) for one in value]
    head = 2 + len(raw) + 12
    inside, index = b"", b""
    for key, one in pairs:
        index += struct.pack("<Q", head + len(inside))
        inside += lite(key, one)
    return item(11, struct.pack("<IQ", len(pairs), head + len(inside)) + inside + index)


def nd2_parts(
    frames: np.ndarray[Any, Any],
    loops: Sequence[Nd2Loop],
    channels: Sequence[Nd2Channel],
    *,
    compress: bool = False,
    calibration: float = 0.25,
    significant: int | None = None,
    attributes: Mapping[str, Any] | None = None,
    picture: Mapping[str, Any] | None = None,
) -> Nd2Parts:
    """Return the chunks of a file.

    Parameters
    ----------
    frames
        Of shape (frames, Y, X, channels); loops count them, the last one fastest.
    loops, channels
        What the metadata say.
    compress
        Whether frames are streams of zlib.
    calibration
        Size of a pixel in µm.
    significant
        Bits of a pixel.
    attributes, picture
        Changed entries of SLxImageAttributes and SLxPictureMetadata.
    """
    count, height, width, components = frames.shape
    bits = 8 * frames.dtype.itemsize
    row = -(-width * components * frames.dtype.itemsize // 4) * 4
    told = {
        "uiWidth": U32(width), "uiWidthBytes": U32(row), "uiHeight": U32(height),
        "uiComp": U32(components), "uiBpcInMemory": U32(bits),
        "uiBpcSignificant": U32(significant or bits), "uiSequenceCount": U32(count),
        "uiTileWidth": U32(width), "uiTileHeight": U32(height),
        "eCompression": 0 if compress else 2, "dCompressionParam": 0.0, "ePixelType": U32(1),
        "uiVirtualComponents": U32(components), **(attributes or {}),
    }  # fmt: skip
    parts = Nd2Parts()
    experiment: dict[str, Any] | None = None
    for loop in reversed(loops):
        experiment = loop.level(experiment)
    if experiment is not None:
        parts.chunks.append(("ImageMetadataLV!", lite("SLxExperiment", experiment)))
    parts.chunks.append(
        (
            "ImageCalibrationLV|0!",
            lite("SLxCalibration", {"dCalibration": calibration, "sObjective": "Plan Apo 60x"}),
        )
    )
    parts.chunks.append(
        ("ImageMetadataSeqLV|0!", lite("SLxPictureMetadata", _picture(channels, picture or {})))
    )
    for number, frame in enumerate(frames):
        data = _rows(frame, row)
        stamp = struct.pack("<d", 100.0 * number)
        parts.chunks.append(
            (f"ImageDataSeq|{number}!", stamp + (zlib.compress(data) if compress else data))
        )
    lines = ["Camera Name: Test", "Numerical Aperture: 0.95", "Refractive Index: 1.515"]
    text = {"TextInfoItem_5": "\r\n".join(lines)}
    parts.chunks.append(("ImageTextInfoLV!", lite("SLxImageTextInfo", text)))
    position = np.arange(count)
    for loop in reversed(loops):
        if loop.axis == "P":
            position %= loop.length
            break
        position //= max(loop.length or sum(loop.phases), 1)
    else:
        position[:] = 0
    for key, start, step in (("X", -100.5, 20.0), ("Y", 7.25, 30.0), ("Z1", 30.0, 1.0)):
        values = start + step * position
        parts.chunks.append((f"CustomData|{key}!", values.astype("<f8").tobytes()))
    times = (250.0 + 100.0 * np.arange(count)).astype("<f8")
    parts.chunks.append(("CustomData|AcqTimesCache!", times.tobytes()))
    parts.chunks.append(("CustomDataVar|GrabberCameraSettingsV1_0!", _CAMERA.encode()))
    parts.chunks.append(("ImageAttributesLV!", lite("SLxImageAttributes", told)))
    return parts


def _picture(channels: Sequence[Nd2Channel], changed: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "dTimeMSec": 250.0, "dTimeAbsolute": 2456827.080131852, "dCalibration": 0.25,
        "bCalibrated": True, "dObjectiveMag": 60.0, "dObjectiveNA": 0.95, "dRefractIndex1": 1.515,
        "sPicturePlanes": {
            "uiCount": U32(len(channels)), "uiCompCount": U32(len(channels)),
            "sPlaneNew": {
                f"a{n}": {
                    "uiCompCount": U32(1), "uiSampleIndex": U32(n), "uiModalityMask": U32(1),
                    "pFluorescentProbe": {"m_sName": ""}, "uiColor": U32(channel.color),
                    "sDescription": channel.name, "dPinholeDiameter": -1.0,
                }
                for n, channel in enumerate(channels)
            },
            "uiSampleCount": U32(len(channels)),
            "sSampleSetting": {
                f"a{n}": {
                    "pCameraSetting": {
                        "CameraUniqueName": "Camera",
                        "Metadata": {
                            "ChannelCount": U32(1),
                            "Channels": {
                                "Channel_0": {
                                    "Color": U32(channel.color), "Name": channel.name,
                                    "EmWavelength": channel.emission,
                                }
                            },
                        },
                    },
                    "dExposureTime": channel.exposure,
                }
                for n, channel in enumerate(channels)
            },
        },
        **changed,
    }  # fmt: skip


def _rows(frame: np.ndarray[Any, Any], row: int) -> bytes:
    raw = np.zeros((frame.shape[0], row), np.uint8)
    line = np.ascontiguousarray(frame.astype(frame.dtype.newbyteorder("<")))
    line = line.reshape(frame.shape[0], -1).view(np.uint8)
    raw[:, : line.shape[1]] = line
    return raw.tobytes()


def nd2_bytes(
    frames: np.ndarray[Any, Any],
    loops: Sequence[Nd2Loop],
    channels: Sequence[Nd2Channel],
    **more: Any,
) -> bytes:
    """Return a file; see `nd2_parts`."""
    return nd2_parts(frames, loops, channels, **more).bytes()


def write_nd2(
    path: Path,
    frames: np.ndarray[Any, Any],
    loops: Sequence[Nd2Loop],
    channels: Sequence[Nd2Channel],
    **more: Any,
) -> Path:
    """Write a file; see `nd2_parts`."""
    path.write_bytes(nd2_bytes(frames, loops, channels, **more))
    return path
