"""Animations: frames drawn over each other, and composed again from any frame on demand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum

from bfbridge_pictures.picture import Array, DecodedPlanes

__all__ = ["Box", "Composer", "Disposal", "kept_planes"]

_KEPT_BYTES = 64 << 20

Box = tuple[slice, slice]


class Disposal(Enum):
    """Change of a frame's area before the next frame is drawn."""

    NONE = 0
    BACKGROUND = 1
    PREVIOUS = 2


class Composer(ABC):
    """Draws frames in order, and keeps drawn frames for reads in another order.

    `DecodedPlanes.plane` of an animation is `plane`.
    """

    planes: DecodedPlanes

    def __init__(self) -> None:
        self._canvas: Array | None = None
        self._saved: Array | None = None
        self._at = -1

    @abstractmethod
    def blank(self) -> Array:
        """Return the canvas before the first frame, shape (Y, X, samples)."""

    @abstractmethod
    def draw(self, number: int, canvas: Array) -> None:
        """Draw one frame on the canvas."""

    @abstractmethod
    def box(self, number: int) -> Box:
        """Rows and columns of a frame."""

    @abstractmethod
    def disposal(self, number: int) -> Disposal:
        """The disposal of a frame after it was shown."""

    @abstractmethod
    def covers(self, number: int) -> bool:
        """Whether a frame hides everything that was drawn before."""

    def plane(self, level: int, number: int) -> Array:
        """Return the canvas as it is when a frame is shown."""
        first = number
        while first > 0 and not (
            self.covers(first)
            and (first == number or self.disposal(first) is not Disposal.PREVIOUS)
        ):
            first -= 1
        if not first <= self._at + 1 <= number or self._canvas is None:
            self._canvas, self._saved, self._at = self.blank(), None, first - 1
        canvas = shown = self._canvas
        try:
            for step in range(self._at + 1, number + 1):
                self._dispose(step - 1, canvas)
                if self.disposal(step) is Disposal.PREVIOUS:
                    self._saved = canvas[self.box(step)].copy()
                self.draw(step, canvas)
                self._at = step
                shown = canvas.copy()
                self.planes.hold(level, step, shown)
        except BaseException:
            # Do not draw on a canvas with an incomplete frame.
            self._canvas = None
            raise
        return shown

    def _dispose(self, number: int, canvas: Array) -> None:
        if number < 0 or number != self._at:
            return
        kind = self.disposal(number)
        if kind is Disposal.BACKGROUND:
            canvas[self.box(number)] = self.blank()[self.box(number)]
        elif kind is Disposal.PREVIOUS and self._saved is not None:
            canvas[self.box(number)] = self._saved


def kept_planes(nbytes: int, workers: int) -> int:
    """Return how many composed planes are kept.

    Workers request planes almost in order: a plane that one of them has composed on the way must be
    available to the others.
    """
    return max(_KEPT_BYTES // max(nbytes, 1), workers + 1)
