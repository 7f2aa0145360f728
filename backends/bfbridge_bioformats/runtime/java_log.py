"""Java's log, sent to Python's logger "bfbridge.java" instead of standard output and error."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import Any

__all__ = ["JavaLog"]

LOGGER = logging.getLogger("bfbridge.java")

# Levels of logback: ERROR 40000, WARN 30000, INFO 20000, DEBUG 10000, TRACE 5000; Python: 1/1000.
_SCALE = 1000
# Logged for every file that is not on disk; empty files are refused before Java opens them.
_UNTRUE = "File has length 0 and may be corrupt"


class JavaLog:
    """Routes logback's events to Python's logging.

    The Java level follows Python's: events that would be discarded are not created. If the jar
    contains another logging library, that is left unchanged.
    """

    def __init__(self) -> None:
        self._log: Any = None
        self._level = -1

    def attach(self) -> None:
        """Take over the log; called once, before any reader class is loaded."""
        import jpype

        # Without a handler of the user, Python would print warnings to stderr.
        LOGGER.addHandler(logging.NullHandler())
        level = LOGGER.getEffectiveLevel()
        try:
            listener = jpype.JProxy(jpype.JClass("bfbridge.Log$Listener"), inst=_LogListener())
            self._log = jpype.JClass("bfbridge.Log").install(listener, level * _SCALE)
        except (TypeError, AttributeError, jpype.JException):
            return
        self._level = level

    def follow(self) -> None:
        """Set Java's level to the level of Python's logger."""
        level = LOGGER.getEffectiveLevel()
        if self._log is None or level == self._level:
            return
        self._level = level
        self._log.follow(level * _SCALE)

    def detach(self) -> None:
        """Stop logging: from now on Java's events are dropped."""
        found, self._log = self._log, None
        if found is not None:
            found.detach()


class _LogListener:
    """The interface bfbridge.Log.Listener, in Python."""

    def said(self, level: Any, logger: Any, message: Any) -> None:
        """Pass one event to Python. Never raises, because Java is the caller."""
        if sys.is_finalizing():
            return
        with contextlib.suppress(Exception):
            text = str(message)
            if text.startswith(_UNTRUE):
                return
            LOGGER.log(int(level) // _SCALE, "%s: %s", str(logger).rpartition(".")[2], text)
