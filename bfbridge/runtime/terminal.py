"""Text for terminals and logs: names and metadata come from files, and may hold anything."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["printable"]


def printable(text: str) -> str:
    r"""Return a text on one line, with escapes for what a terminal would act upon.

    Line breaks become spaces. Other control characters, marks that change the direction of text,
    and halves of surrogate pairs become escapes as Python writes them.

    >>> printable("a\x1b[31m\nb")
    'a\\x1b[31m b'
    """
    line = re.sub(r"[ \t]*[\r\n]+[ \t]*", " ", text.strip("\r\n")).replace("\t", " ")
    return "".join(_escaped(ch) for ch in line)


def _escaped(ch: str) -> str:
    if ch.isprintable() or unicodedata.category(ch) == "Zs":
        return ch
    return ch.encode("unicode_escape").decode("ascii")
