"""How `--help` shows options: one name each, so that nothing is cut off at 80 columns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from typer.core import TyperCommand

__all__ = ["ShortHelp", "aliases"]


class ShortHelp(TyperCommand):
    """A command whose help leaves out aliases and the type of flags; they work all the same."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        with _shortened(self.params):
            super().format_help(ctx, formatter)


@contextmanager
def _shortened(params: list[Any]) -> Iterator[None]:
    kept = [(param, param.opts, param.metavar) for param in params]
    try:
        for param in params:
            param.opts = _main_names(param)
            if getattr(param, "is_flag", False):
                param.metavar = " "
        yield
    finally:
        for param, opts, metavar in kept:
            param.opts, param.metavar = opts, metavar


def _main_names(param: Any) -> list[str]:
    """The first long name, and the names of one letter."""
    if param.param_type_name != "option":
        return list(param.opts)
    long = [name for name in param.opts if name.startswith("--")]
    short = [name for name in param.opts if not name.startswith("--") and len(name) == 2]
    return [*long[:1], *short] or list(param.opts)


def aliases(command: Any) -> dict[str, list[str]]:
    """Return the names that the help leaves out, by the name that it shows."""
    found = {}
    for param in command.params:
        shown = _main_names(param)
        others = [name for name in param.opts if name not in shown]
        if others:
            found[shown[0]] = others
    return found
