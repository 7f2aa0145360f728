"""The end of a conversion by a signal, and the watcher of a batch that prints nothing."""

from __future__ import annotations

from bfbridge.convert.execute.run import Watcher

__all__ = ["Quiet", "Stopper"]


class Stopper:
    """A signal handler; after a signal, the next progress call raises `KeyboardInterrupt`."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self, number: int, frame: object) -> None:
        """Handle a signal."""
        del frame
        if self.signal is not None:
            # The second signal does not wait for the running block.
            raise KeyboardInterrupt
        self.signal = number

    def check(self) -> None:
        """Raise `KeyboardInterrupt` if a signal was received."""
        if self.signal is not None:
            raise KeyboardInterrupt


class Quiet(Watcher):
    """Prints nothing; a signal ends the run.

    Parameters
    ----------
    stopper
        Records whether a signal was received.
    """

    def __init__(self, stopper: Stopper) -> None:
        self._stopper = stopper

    def looked(self, done: int, total: int) -> None:
        """Record the number of files that were opened, unless a signal was received."""
        self._stopper.check()

    def started(self, number: int, name: str) -> None:
        """Record the start of a file, unless a signal was received."""
        self._stopper.check()

    def moved(self, number: int, done: int, total: int) -> None:
        """Record the bytes of pixels that are done, unless a signal was received."""
        self._stopper.check()
