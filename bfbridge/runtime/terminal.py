"""Text for terminals and logs. Names and metadata from files may contain any character."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["printable"]


def printable(text: str) -> str:
    r"""Return a text on one line, with escapes for characters that control a terminal.

    Line breaks become spaces. Other control characters, marks that change the direction of text,
    and halves of surrogate pairs become Python escapes.

    >>> printable("a\x1b[31m\nb")
    'a\\x1b[31m b'
    """
    line = re.sub(r"[ \t]*[\r\n]+[ \t]*", " ", text.strip("\r\n")).replace("\t", " ")
    return "".join(_escaped(ch) for ch in line)


def _escaped(ch: str) -> str:
    if ch.isprintable() or unicodedata.category(ch) == "Zs":
        return ch
    return ch.encode("unicode_escape").decode("ascii")
