"""The changes that may be requested."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bfbridge.errors import BadArgument

if TYPE_CHECKING:
    from bfbridge.backend import ReaderBackend

__all__ = ["OVERLAPS", "PROJECTIONS", "Changes", "Rearranged"]

PROJECTIONS = ("max", "min", "mean")
OVERLAPS = ("last", "mean", "max")


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes that rearrange the images of a file, in the order of their execution.

    Attributes
    ----------
    position_unit
        Unit of length of stage positions whose unit the file does not know; None if not known.
    flip_stage
        Axes of the stage, of "x" and "y", that run against those of the pixels.
    stitch
        How pixels are made where fields overlap: "last", "mean" or "max"; None without stitching.
    fill_value
        Value of pixels between fields.
    swap
        Pairs of axes of "z", "c", "t" whose meanings are exchanged, one after the other.
    split_rgb, merge_channels
        Whether samples become channels, and whether each three channels become the samples of one.
    project
        Method and axis of a projection, or None.
    wrapper
        Returns a reader backend around another one, after all other changes; None without one.
    """

    position_unit: str | None = None
    flip_stage: str = ""
    stitch: str | None = None
    fill_value: float = 0
    swap: tuple[str, ...] = ()
    split_rgb: bool = False
    merge_channels: bool = False
    project: tuple[str, str] | None = None
    wrapper: Callable[[ReaderBackend], ReaderBackend] | None = None

    def __post_init__(self) -> None:
        if self.split_rgb and self.merge_channels:
            raise BadArgument("split_rgb and merge_channels exclude each other: give one of them.")
        if self.flip_stage and self.stitch is None:
            raise BadArgument(
                "flip_stage= (--flip-stage) describes how fields are placed: give stitch= "
                "(--stitch) too."
            )

    def __bool__(self) -> bool:
        axes = self.swap or self.project
        return bool(
            axes
            or self.position_unit
            or self.stitch
            or self.split_rgb
            or self.merge_channels
            or self.wrapper
        )


@dataclass(frozen=True, slots=True)
class Rearranged:
    """A source with changes, in the place of a file."""

    source: Any
    changes: Changes

    def __str__(self) -> str:
        return str(self.source)
