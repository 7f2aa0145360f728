"""File patterns: names with variables in braces, the part of filepattern 2 that conversion needs.

``img_x{x:ddd}_c{c:d+}_{stain:c+}.ome.tif`` matches names and returns the values of x, c and stain.
In braces, after a name and a colon: ``d`` is a digit, ``c`` a letter, ``f`` a character of a
decimal number; repeated for a fixed width, or once with ``+`` for one or more. The older ``{xxx}``
and ``{x+}`` mean digits. Text outside braces is a regular expression, so ``.*`` matches anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from bfbridge.errors import BadArgument
from bfbridge.runtime.cached_property import cached_property

__all__ = ["FilePattern", "is_pattern"]

Value = int | float | str

_VARIABLE = re.compile(r"\{([A-Za-z]\w*):(d+|c+|f+)(\+?)\}")
_OLD = re.compile(r"\{([A-Za-z])(\1*)(\+?)\}")
_CLASSES = {"d": "[0-9]", "c": "[A-Za-z]", "f": "[0-9.]"}


def is_pattern(text: str) -> bool:
    """Return whether a text has a variable in braces: then it is a pattern, not a file name."""
    return isinstance(text, str) and bool(_VARIABLE.search(text) or _OLD.search(text))


@dataclass(frozen=True)
class FilePattern:
    """A pattern of file names.

    Parameters
    ----------
    pattern
        A regular expression with variables in braces.

    Raises
    ------
    BadArgument
        `pattern` is not a text, or is not valid (raised on first use).
    """

    pattern: str

    def __post_init__(self) -> None:
        """Check that the pattern is a text."""
        if not isinstance(self.pattern, str):
            raise BadArgument(f"file pattern {self.pattern!r}: give a text.")

    @cached_property
    def kinds(self) -> dict[str, str]:
        """Kind of each variable: "d" (digits), "c" (letters) or "f" (decimal number)."""
        kinds = {name: "d" for name, _, _ in _OLD.findall(self.pattern)}
        kinds.update({name: code[0] for name, code, _ in _VARIABLE.findall(self.pattern)})
        return kinds

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """Regular expression that a whole name must match."""
        seen: set[str] = set()

        def group(name: str, kind: str, width: int, more: str) -> str:
            if name in seen:
                return f"(?P={name})"
            seen.add(name)
            count = "+" if more else f"{{{width}}}"
            return f"(?P<{name}>{_CLASSES[kind]}{count})"

        text = _VARIABLE.sub(
            lambda m: group(m.group(1), m.group(2)[0], len(m.group(2)), m.group(3)), self.pattern
        )
        text = _OLD.sub(lambda m: group(m.group(1), "d", 1 + len(m.group(2)), m.group(3)), text)
        left = re.search(r"(?<!\\)\{(?![0-9,]+\})[^}]*\}?", text)
        if left is not None:
            raise BadArgument(
                f"file pattern {self.pattern!r}: {left.group()!r} is not a variable. Write "
                "{name:ddd} for digits, {name:d+} for one or more, c for letters, f for decimals."
            )
        try:
            return re.compile(text)
        except re.error as error:
            raise BadArgument(
                f"file pattern {self.pattern!r} is not a regular expression ({error})."
            ) from error

    def match(self, name: str) -> dict[str, Value] | None:
        """Return the values of the variables in a file name, or None if it does not match."""
        found = self.regex.fullmatch(name)
        if found is None:
            return None
        values: dict[str, Value] = {}
        for variable, text in found.groupdict().items():
            kind = self.kinds.get(variable, "c")
            try:
                values[variable] = {"d": int, "f": float, "c": str}[kind](text)
            except ValueError:
                return None
        return values

    def select(self, names: Iterable[str]) -> list[str]:
        """Return the names that match, sorted by the values of their variables, then by name."""
        found = [(name, values) for name in names if (values := self.match(name)) is not None]
        return [name for name, _ in sorted(found, key=lambda pair: (_order(pair[1]), pair[0]))]


def _order(values: dict[str, Value]) -> tuple[tuple[bool, float, str], ...]:
    return tuple(
        (isinstance(v, str), 0.0 if isinstance(v, str) else float(v), str(v))
        for v in values.values()
    )
