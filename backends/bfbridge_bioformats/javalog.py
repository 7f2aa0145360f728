"""Java's log, handed to Python's logger "bfbridge.java" instead of standard output and error."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import Any

__all__ = ["JavaLog"]

LOGGER = logging.getLogger("bfbridge.java")

# Of logback: ERROR 40000, WARN 30000, INFO 20000, DEBUG 10000, TRACE 5000; Python's are 1/1000.
_SCALE = 1000
# Said of every file that is not on disk; empty ones are refused before Java sees them.
_UNTRUE = "File has length 0 and may be corrupt"


class JavaLog:
    """Routes logback's events to Python's logging.

    The Java level follows Python's: events that nobody would see are not even built. Where the jar
    has another logging library, that is left as it is.
    """

    def __init__(self) -> None:
        self._root: Any = None
        self._level_class: Any = None
        self._appender: Any = None
        self._level = -1

    def attach(self) -> None:
        """Take over the log; called once, before any reader class is loaded."""
        import jpype

        # Without a handler of the user's, Python would print warnings to stderr.
        LOGGER.addHandler(logging.NullHandler())
        try:
            appender_class = jpype.JClass("ch.qos.logback.core.Appender")
            self._level_class = jpype.JClass("ch.qos.logback.classic.Level")
            context = jpype.JClass("org.slf4j.LoggerFactory").getILoggerFactory()
            self._root = context.getLogger("ROOT")
        except (TypeError, AttributeError, jpype.JException):
            self._root = None
            return
        self._root.detachAndStopAllAppenders()
        self.follow()
        self._appender = jpype.JProxy(appender_class, inst=_Appender())
        self._root.addAppender(self._appender)

    def follow(self) -> None:
        """Set Java's level to what Python's logger lets through now."""
        level = LOGGER.getEffectiveLevel()
        if self._root is None or level == self._level:
            return
        self._level = level
        self._root.setLevel(self._level_class.toLevel(level * _SCALE))

    def detach(self) -> None:
        """Give up the log: from now on Java's events are dropped."""
        root, self._root = self._root, None
        if root is not None:
            root.detachAppender(self._appender)


class _Appender:
    """The interface ch.qos.logback.core.Appender, in Python."""

    def doAppend(self, event: Any) -> None:  # noqa: N802
        """Hand one event to Python. Never raises: Java code is what called."""
        if sys.is_finalizing():
            return
        with contextlib.suppress(Exception):
            text = str(event.getFormattedMessage())
            if text.startswith(_UNTRUE):
                return
            LOGGER.log(
                int(event.getLevel().toInt()) // _SCALE,
                "%s: %s",
                str(event.getLoggerName()).rpartition(".")[2],
                text,
            )

    def getName(self) -> str:
        """Name of this appender among others."""
        return "bfbridge"

    def isStarted(self) -> bool:
        """Always."""
        return True

    def start(self) -> None:
        """Nothing to start."""

    def stop(self) -> None:
        """Nothing to stop."""
