"""Images formed by the frames of an ND2 file: its attributes, and the loops of its experiment.

A frame contains all channels of one plane, interleaved by pixel. Frames are numbered along the
loops, the innermost fastest; each stage position is a separate image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import numpy as np

from bfbridge.errors import Unsupported

__all__ = ["Loop", "Nd2Frames", "read_frames", "read_loops"]

# ELxExperimentType: time loops with equal steps, positions, Z, spectra, time phases.
_TIME, _POSITIONS, _DEPTH, _SPECTRUM, _PHASES = 1, 2, 4, 6, 8
_LOSSLESS, _UNCOMPRESSED = 0, 2
_TYPES: Final[dict[int, np.dtype[Any]]] = {
    8: np.dtype("u1"),
    16: np.dtype("<u2"),
    32: np.dtype("<f4"),
}


@dataclass(frozen=True, slots=True)
class Loop:
    """One loop of the experiment.

    Attributes
    ----------
    axis
        T, Z, or P for stage positions.
    length
        Number of repetitions.
    parameters
        Its parameters.
    """

    axis: str
    length: int
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Nd2Frames:
    """Size, type and encoding of stored frames.

    Attributes
    ----------
    width, height, components
        Size in pixels, and number of channels.
    dtype
        As stored.
    row
        Bytes from one row to the next.
    compressed
        Whether frames are zlib streams.
    significant_bits
        Significant bits of a pixel.
    loops
        The outermost first.
    """

    width: int
    height: int
    components: int
    dtype: np.dtype[Any]
    row: int
    compressed: bool
    significant_bits: int
    loops: Sequence[Loop]

    @property
    def size(self) -> int:
        """Bytes of one frame."""
        return self.row * self.height

    @property
    def count(self) -> int:
        """Number of frames."""
        return prod(loop.length for loop in self.loops)

    def length(self, axis: str) -> int:
        """Return the length of T, Z or P."""
        return next((loop.length for loop in self.loops if loop.axis == axis), 1)

    def number(self, position: int, z: int, t: int) -> int:
        """Return the number of a frame."""
        places = {"P": position, "Z": z, "T": t}
        number = 0
        for loop in self.loops:
            number = number * loop.length + places[loop.axis]
        return number


def read_frames(attributes: Mapping[str, Any], planes: int, loops: Sequence[Loop]) -> Nd2Frames:
    """Return how frames are stored.

    Parameters
    ----------
    attributes
        SLxImageAttributes.
    planes
        Number of channels in the metadata.
    loops
        Loops of the experiment.

    Raises
    ------
    Unsupported
        They are stored in a form that is left to Bio-Formats.
    """
    width, height, components, row, bits, significant, count = (
        _integer(attributes, key)
        for key in (
            "uiWidth", "uiHeight", "uiComp", "uiWidthBytes", "uiBpcInMemory", "uiBpcSignificant",
            "uiSequenceCount",
        )
    )  # fmt: skip
    if bits not in _TYPES:
        raise Unsupported(f"an ND2 file with {bits} bits per pixel")
    dtype = _TYPES[bits]
    if min(width, height, components) < 1 or row < width * components * dtype.itemsize:
        raise Unsupported(f"ND2 frames of {width} x {height}, {components} channels, {row} bytes")
    if not 0 < significant <= bits:
        raise Unsupported(f"{significant} significant bits of {bits} in an ND2 file")
    if components != planes:
        raise Unsupported(f"{components} components in {planes} channels of an ND2 file")
    for key, whole in (("uiTileWidth", width), ("uiTileHeight", height)):
        if attributes.get(key, 0) not in (0, whole):
            raise Unsupported("ND2 frames in tiles")
    compression = attributes.get("eCompression", _UNCOMPRESSED)
    if compression not in (_LOSSLESS, _UNCOMPRESSED):
        raise Unsupported(f"compression {compression} of an ND2 file")
    frames = Nd2Frames(
        width, height, components, dtype, row, compression == _LOSSLESS, significant, loops
    )
    if count != frames.count:
        raise Unsupported(f"{count} frames where the experiment has {frames.count}")
    return frames


def read_loops(experiment: Any) -> list[Loop]:
    """Return the loops of an experiment, the outermost first.

    Parameters
    ----------
    experiment
        SLxExperiment, or {} for a single frame.

    Raises
    ------
    Unsupported
        It has loops that are left to Bio-Formats.
    """
    loops: list[Loop] = []
    while experiment:
        if not isinstance(experiment, Mapping):
            raise Unsupported("an ND2 experiment of several parts")
        kind = _integer(experiment, "eType")
        parameters = experiment.get("uLoopPars")
        if not isinstance(parameters, Mapping):
            raise Unsupported("a loop without parameters in an ND2 file")
        if kind != _SPECTRUM:
            loop = _read_loop(kind, parameters, experiment)
            if loop.length < 1 or any(loop.axis == other.axis for other in loops):
                raise Unsupported(f"{loop.length} runs of a loop over {loop.axis} in an ND2 file")
            loops.append(loop)
        inner = experiment.get("ppNextLevelEx") or []
        inner = list(inner.values()) if isinstance(inner, Mapping) else inner
        if not isinstance(inner, list) or len(inner) > 1:
            raise Unsupported("an ND2 experiment of several parts")
        experiment = inner[0] if inner else None
    return loops


def _read_loop(kind: int, parameters: Mapping[str, Any], experiment: Mapping[str, Any]) -> Loop:
    if kind == _TIME:
        return Loop("T", _integer(parameters, "uiCount"), parameters)
    if kind == _DEPTH:
        return Loop("Z", _integer(parameters, "uiCount"), parameters)
    valid = experiment.get("pItemValid", b"")
    if kind == _POSITIONS:
        points = parameters.get("Points")
        if not isinstance(points, list) or not isinstance(valid, bytes) or 0 in valid:
            raise Unsupported("positions that were left out in an ND2 file")
        if parameters.get("uiCount", len(points)) != len(points):
            raise Unsupported(f"{len(points)} positions of {parameters['uiCount']} in an ND2 file")
        return Loop("P", len(points), parameters)
    if kind == _PHASES:
        return Loop("T", _length_of_phases(parameters), parameters)
    raise Unsupported(f"an ND2 experiment with a loop of type {kind}")


def _length_of_phases(parameters: Mapping[str, Any]) -> int:
    phases, valid = parameters.get("pPeriod"), parameters.get("pPeriodValid")
    if not isinstance(phases, list) or not isinstance(valid, bytes) or len(phases) != len(valid):
        raise Unsupported("phases of time of another form in an ND2 file")
    return sum(
        _integer(phase, "uiCount") for phase, used in zip(phases, valid, strict=True) if used
    )


def _integer(values: Any, key: str) -> int:
    value = values.get(key) if isinstance(values, Mapping) else None
    if not isinstance(value, int):
        raise Unsupported(f"an ND2 file without a value of {key}")
    return value
