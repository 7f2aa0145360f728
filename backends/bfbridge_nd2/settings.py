"""ND2 metadata of channels, of the microscope and of each frame."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np

from bfbridge.backend import Channel, Quantity
from bfbridge.errors import Unsupported
from bfbridge.ome.documents.build import wavelength
from bfbridge_nd2.chunks import Nd2File
from bfbridge_nd2.layout import Loop, Nd2Frames

__all__ = [
    "ChannelSettings",
    "FrameNotes",
    "Nd2Settings",
    "planes_of",
    "read_notes",
    "read_settings",
]

# Day number of 1970-01-01 in Julian dates.
_JULIAN_1970: Final = 2440587.5
_BLACK, _WHITE = 0, 0xFFFFFF
# Spectrum points of single lines.
_LINE: Final = 4


@dataclass(frozen=True, slots=True)
class ChannelSettings:
    """One channel.

    Attributes
    ----------
    name
        Name of the channel.
    color
        Blue, green, red, from the highest of 24 bits.
    emission, excitation
        In nm.
    pinhole
        Diameter in µm.
    exposure
        In seconds.
    """

    name: str | None
    color: int
    emission: float | None
    excitation: float | None
    pinhole: float | None
    exposure: float | None

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Red, green, blue."""
        return self.color & 255, self.color >> 8 & 255, self.color >> 16 & 255

    @property
    def is_tinted(self) -> bool:
        """Whether the colour is neither black nor white."""
        return self.color not in (_BLACK, _WHITE)

    @property
    def record(self) -> Channel:
        """The channel as a record of `Image`; black means no colour, as in ND2Reader."""
        return Channel(
            name=self.name,
            color=(*self.rgb, 255) if self.color != _BLACK else None,
            emission=wavelength(self.emission),
            excitation=wavelength(self.excitation),
        )


@dataclass(frozen=True, slots=True)
class Nd2Settings:
    """Settings of the microscope; sizes in µm."""

    channels: tuple[ChannelSettings, ...]
    pixel_size: float | None
    z_step: float | None
    objective: str | None
    aperture: float | None
    magnification: float | None
    refractive_index: float | None
    camera: str | None
    acquired: datetime | None
    positions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FrameNotes:
    """Times in seconds and positions in µm of all frames, or None if a file has none."""

    times: Sequence[float] | None
    x: Sequence[float] | None
    y: Sequence[float] | None
    z: Sequence[float] | None


def planes_of(picture: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the description of each channel in SLxPictureMetadata.

    Raises
    ------
    Unsupported
        They are described in another form, or a channel has colours (RGB).
    """
    described = _level(picture, "sPicturePlanes")
    planes = described.get("sPlaneNew") or described.get("sPlane") or {}
    found = list(planes.values()) if isinstance(planes, Mapping) else planes
    if not found or not all(isinstance(plane, Mapping) for plane in found):
        raise Unsupported("an ND2 file without channels")
    if described.get("uiCount") != len(found):
        raise Unsupported(f"{described.get('uiCount')} channels where {len(found)} are described")
    if any(plane.get("uiCompCount", 1) != 1 for plane in found):
        raise Unsupported("an ND2 file in colours (RGB)")
    return found


def read_settings(
    picture: Mapping[str, Any], calibration: Mapping[str, Any], loops: Sequence[Loop]
) -> Nd2Settings:
    """Read the settings of a file.

    Parameters
    ----------
    picture, calibration
        SLxPictureMetadata and SLxCalibration; the second may be empty.
    loops
        Loops of the experiment.
    """
    by_axis = {loop.axis: loop for loop in loops}
    settings = _level(_level(picture, "sPicturePlanes"), "sSampleSetting")
    samples = list(settings.values())
    camera = _level(samples[0] if samples else {}, "pCameraSetting")
    positions = _names(by_axis["P"].parameters) if "P" in by_axis else ()
    return Nd2Settings(
        channels=tuple(
            _channel(plane, index, settings) for index, plane in enumerate(planes_of(picture))
        ),
        pixel_size=_positive(calibration, "dCalibration") or _positive(picture, "dCalibration"),
        z_step=_step(by_axis["Z"]) if "Z" in by_axis else None,
        objective=_text(calibration, "sObjective") or _text(picture, "wsObjectiveName"),
        aperture=_positive(picture, "dObjectiveNA"),
        magnification=_positive(picture, "dObjectiveMag"),
        refractive_index=_positive(picture, "dRefractIndex1"),
        camera=_text(camera, "CameraUniqueName"),
        acquired=_time(_positive(picture, "dTimeAbsolute")),
        positions=positions,
    )


def _channel(plane: Mapping[str, Any], index: int, settings: Mapping[str, Any]) -> ChannelSettings:
    sample = _level(settings, f"a{plane.get('uiSampleIndex') or 0}")
    name = _text(plane, "sDescription")
    color = plane.get("uiColor", 0)
    spectra = list(_spectra(plane))
    # The camera's wavelength of a channel, otherwise the maximum transmission of its filter.
    camera = next((one for one in _camera_channels(sample) if _text(one, "Name") == name), {})
    return ChannelSettings(
        name=name,
        color=color & 0xFFFFFF if isinstance(color, int) else 0,
        emission=_positive(camera, "EmWavelength") or _peak(spectra, "m_EmissionSpectrum"),
        excitation=_positive(camera, "ExWavelength") or _line(spectra, index),
        pinhole=_positive(plane, "dPinholeDiameter"),
        exposure=_seconds(_positive(sample, "dExposureTime")),
    )


def _camera_channels(sample: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    metadata = _level(_level(sample, "pCameraSetting"), "Metadata")
    return [one for one in _level(metadata, "Channels").values() if isinstance(one, Mapping)]


def _spectra(plane: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the objects with spectra: the probe, then the first filter."""
    yield _level(plane, "pFluorescentProbe")
    filters = _level(plane, "pFilterPath").get("m_pFilter")
    if isinstance(filters, list) and filters and isinstance(filters[0], Mapping):
        yield filters[0]


def _points(owner: Mapping[str, Any], spectrum: str) -> list[Mapping[str, Any]]:
    points = _level(_level(owner, spectrum), "pPoint")
    return [point for point in points.values() if isinstance(point, Mapping)]


def _peak(owners: Sequence[Mapping[str, Any]], spectrum: str) -> float | None:
    """Return the wavelength of the maximum of a spectrum."""
    for owner in owners:
        points = _points(owner, spectrum)
        if points:
            highest = max(points, key=lambda point: _number(point, "dTValue") or 0.0)
            found = _positive(highest, "dWavelength")
            if found is not None:
                return found
    return None


def _line(owners: Sequence[Mapping[str, Any]], index: int) -> float | None:
    """Return the excitation wavelength of a channel: its own laser line, or the maximum."""
    for owner in owners:
        points = _points(owner, "m_ExcitationSpectrum")
        if index < len(points) > 1 and all(point.get("eType") == _LINE for point in points):
            found = _positive(points[index], "dWavelength")
            if found is not None:
                return found
    return _peak(owners, "m_ExcitationSpectrum")


def _step(loop: Loop) -> float | None:
    step = abs(_number(loop.parameters, "dZStep") or 0.0)
    if not step and loop.length > 1:
        low, high = (
            _number(loop.parameters, "dZLow") or 0.0,
            _number(loop.parameters, "dZHigh") or 0.0,
        )
        step = abs(high - low) / (loop.length - 1)
    return step or None


def _names(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    points = parameters.get("Points") or []
    return tuple(
        _text(point, "dPosName") or _text(point, "pPosName") or "" if isinstance(point, Mapping)
        else "" for point in points
    )  # fmt: skip


def read_notes(file: Nd2File, frames: Nd2Frames) -> FrameNotes:
    """Read the values of each frame."""
    heights = sorted(
        (offset, name) for name, offset in file.chunks.items() if name.startswith("CustomData|Z")
    )
    # If there are several Z drives, ND2Reader uses the one that is stored first.
    z = heights[0][1] if heights else ""
    times = _numbers(file, "CustomData|AcqTimesCache!", frames.count)
    return FrameNotes(
        times=None if times is None else [time / 1000 for time in times],
        x=_numbers(file, "CustomData|X!", frames.count),
        y=_numbers(file, "CustomData|Y!", frames.count),
        z=_numbers(file, z, frames.count),
    )


def _numbers(file: Nd2File, chunk: str, count: int) -> list[float] | None:
    """Return one finite number for each frame, or None."""
    if chunk not in file.chunks:
        return None
    data = file.read(chunk)
    if len(data) != 8 * count:
        return None
    values = np.frombuffer(data, "<f8")
    return [float(value) for value in values] if np.isfinite(values).all() else None


def _time(julian: float | None) -> datetime | None:
    """Return a Julian date as a time."""
    if julian is None or julian < 1:
        return None
    try:
        seconds = round((julian - _JULIAN_1970) * 86400, 3)
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    except OverflowError:
        return None


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _level(values: Any, key: str) -> Mapping[str, Any]:
    value = values.get(key) if isinstance(values, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _number(values: Mapping[str, Any], key: str) -> float | None:
    value = values.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _positive(values: Mapping[str, Any], key: str) -> float | None:
    value = _number(values, key)
    return value if value is not None and value > 0 else None


def _text(values: Mapping[str, Any], key: str) -> str | None:
    value = values.get(key)
    return value if isinstance(value, str) and value else None


def quantity(value: float | None, unit: str) -> Quantity | None:
    """Return a quantity, or None."""
    return None if value is None else Quantity(value, unit)
