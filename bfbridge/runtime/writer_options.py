"""Forms of writer options that all backends share.

``compression`` is a name, a name with a level ("zstd:5"), or a pair ("zstd", 5); ``level`` is the
level alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import Any

from bfbridge.errors import BadArgument

__all__ = ["refuse_unknown", "split_compression"]


def refuse_unknown(
    given: Iterable[str], known: Iterable[str], writer: str, others: Iterable[str] = ()
) -> None:
    """Raise for option names that are not known.

    Parameters
    ----------
    given, known
        The names that were given, and those that the writer has.
    writer
        Name of the writer, for the message.
    others
        Further names that the caller accepts; they are suggested where they are similar.

    Raises
    ------
    BadArgument
        The message contains the first unknown name, similar names, and the known names.
    """
    known = list(dict.fromkeys(known))
    for name in given:
        if name not in known:
            import difflib

            near = difflib.get_close_matches(name, {*known, *others}, 3)
            meant = f" Did you mean {' or '.join(near)}?" if near else ""
            raise BadArgument(
                f"{name}: there is no such option.{meant} Options of the {writer} writer: "
                f"{', '.join(known)}."
            )


def split_compression(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options that are not None, with ``compression`` and ``level`` as separate entries.

    Raises
    ------
    BadArgument
        The level in ``compression`` is not an integer, or differs from ``level``.
    """
    found = {name: value for name, value in options.items() if value is not None}
    value = found.get("compression")
    if isinstance(value, str) and ":" in value:
        name, _, text = value.partition(":")
        try:
            inside = int(text)
        except ValueError:
            raise BadArgument(
                f"compression={value!r}: a level is a number, such as {name}:5."
            ) from None
    elif isinstance(value, (tuple, list)) and len(value) == 2:
        name, inside = value
    else:
        return found
    level = found.get("level", inside)
    # Values of other types are refused by the backend.
    whole = isinstance(level, Integral) and isinstance(inside, Integral)
    if level is not inside and inside is not None and not (whole and level == inside):
        raise BadArgument(f"level={level!r}, and compression={value!r} has another. Give one.")
    found["compression"] = name
    if level is not None:
        found["level"] = level
    return {name: value for name, value in found.items() if value is not None}
