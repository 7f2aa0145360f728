"""Signals during critical sections: handlers run at safe points of the main thread only.

Python runs signal handlers in the main thread, between any two bytecodes. A handler that raises,
such as that of Ctrl-C, can leave objects of `threading` and `concurrent.futures` locked forever,
and the state of a file inconsistent. Inside a `deferred` block handlers wait for the next
`checkpoint`, or for the end of the block, but at most `LONGEST` seconds.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from _thread import get_ident, start_new_thread
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

__all__ = ["LONGEST", "checkpoint", "deferred"]

LONGEST: Final = 1.0
"""Seconds after which a signal is delivered at any point of the main thread."""

_SIGNALS: Final = tuple(
    int(getattr(signal, name))
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGBREAK")
    if hasattr(signal, name)
)
# The functions of `signal` convert numbers and handlers to enumerations, which takes longer than
# everything else here.
_plain: Any = import_module("_signal" if "_signal" in sys.builtin_module_names else "signal")


class _Section:
    """A critical section of the main thread: replaced handlers, and signals that arrived."""

    def __init__(self) -> None:
        self.handlers: dict[int, Callable[[int, FrameType | None], object]] = {}
        self.pending: list[int] = []
        self.since = 0.0
        self.reminded = False

    def take_over(self) -> None:
        """Replace each handler written in Python by `_note`."""
        for number in _SIGNALS:
            handler = _plain.getsignal(number)
            if handler is _note:  # an earlier section was interrupted before restoring it
                self.handlers[number] = _originals[number]
            elif callable(handler):
                self.handlers[number] = _originals[number] = handler
                _plain.signal(number, _note)

    def give_back(self) -> None:
        for number, handler in self.handlers.items():
            # The program may have replaced a handler in the meantime.
            if _plain.getsignal(number) is _note:
                _plain.signal(number, handler)

    def deliver(self) -> None:
        """Run the handlers of the signals that arrived; if one raises, the others run later."""
        while self.pending:
            number = self.pending.pop(0)
            _originals[number](number, None)


_current: _Section | None = None
_originals: dict[int, Callable[[int, FrameType | None], object]] = {}


def _note(number: int, frame: FrameType | None) -> None:
    """Handle a signal: record it for later, or deliver it if it has waited long enough."""
    section = _current
    if section is None:
        _originals[number](number, frame)
        return
    now = time.monotonic()
    if section.reminded:  # not a new signal, but the reminder of an earlier one
        section.reminded = False
    else:
        if not section.pending:
            section.since = now
            with suppress(RuntimeError):  # no thread can be started: the next signal is delivered
                start_new_thread(_remind, (section, number))
        section.pending.append(number)
    if section.pending and now - section.since >= LONGEST:
        section.deliver()


def _leave_in_child() -> None:
    """In a forked child: end the section of a main thread that the fork did not copy."""
    global _current
    section, _current = _current, None
    if section is not None:
        section.give_back()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_in_child)


def _remind(section: _Section, number: int) -> None:
    """Send a signal again that was not delivered in time."""
    time.sleep(LONGEST)
    if section is _current and section.pending:
        section.reminded = True
        main = threading.main_thread().ident
        if hasattr(signal, "pthread_kill") and main is not None:
            signal.pthread_kill(main, number)
        else:
            signal.raise_signal(number)


class deferred:  # noqa: N801 - used as `with deferred():`
    """A block of code that signal handlers do not interrupt; nested blocks are one.

    Off the main thread, where Python runs no handlers, it does nothing.
    """

    __slots__ = ("_section",)

    def __enter__(self) -> None:
        global _current
        self._section: _Section | None = None
        if _current is not None or get_ident() != threading.main_thread().ident:
            return
        section = _Section()
        _current = section
        try:
            section.take_over()
        except ValueError:  # the main thread of a subinterpreter
            _current = None
        except BaseException:
            _current = None
            section.give_back()
            raise
        else:
            self._section = section

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        global _current
        section = self._section
        if section is None:
            return
        _current = None
        try:
            section.give_back()
        finally:
            section.deliver()


def checkpoint() -> None:
    """Deliver the signals that arrived: a point where an exception from a handler is safe.

    Off the main thread, and outside `deferred` blocks, it does nothing.
    """
    section = _current
    if section is not None and section.pending and get_ident() == threading.main_thread().ident:
        section.deliver()
