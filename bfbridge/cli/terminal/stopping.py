"""An orderly end by a signal, and the watcher of a batch that shows nothing."""

from __future__ import annotations

from bfbridge.convert.execute.run import Watcher

__all__ = ["Quiet", "Stopper"]


class Stopper:
    """Turns a signal into an orderly end: the next progress call raises `KeyboardInterrupt`."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self, number: int, frame: object) -> None:
        """Take a signal."""
        del frame
        if self.signal is not None:
            # Asked twice: do not wait for the block under way.
            raise KeyboardInterrupt
        self.signal = number

    def check(self) -> None:
        """Raise `KeyboardInterrupt` if a signal was received."""
        if self.signal is not None:
            raise KeyboardInterrupt


class Quiet(Watcher):
    """Shows nothing; a signal ends the run.

    Parameters
    ----------
    stopper
        Records whether a signal was received.
    """

    def __init__(self, stopper: Stopper) -> None:
        self._stopper = stopper

    def looked(self, done: int, total: int) -> None:
        """Take how many files were looked at, unless the run is to end."""
        self._stopper.check()

    def started(self, number: int, name: str) -> None:
        """Note that a file is begun, unless the run is to end."""
        self._stopper.check()

    def moved(self, number: int, done: int, total: int) -> None:
        """Take the bytes of pixels that are done, unless the run is to end."""
        self._stopper.check()
