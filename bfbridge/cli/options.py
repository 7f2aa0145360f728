"""Command-line options made from the declared conversion options, and their values read back.

`bfbridge.convert.options` declares the flags, the help and the types; this module holds only what
differs between the command line and Python.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import MISSING, fields
from typing import Annotated, Any

import typer

from bfbridge.convert.options import TARGET_OPTIONS, ConvertOptions, Option, RunOptions, option_of
from bfbridge.errors import BadArgument

__all__ = ["chosen_options", "pairs", "with_options"]


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the conversion options to a command, whose ``**options`` receive them."""
    plain = inspect.signature(command, eval_str=True)
    first, *own = plain.parameters.values()
    added = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=default,
            annotation=Annotated[option.kind, _typer_option(option)],
        )
        for name, default, option in _declared()
    ]
    own = [p.replace(kind=p.KEYWORD_ONLY) for p in own if p.kind is not p.VAR_KEYWORD]
    # The order of parameters is that of the panels of --help.
    parameters = [first, *added, *own]
    command.__signature__ = plain.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def _declared() -> Iterator[tuple[str, Any, Option]]:
    """Yield the name, default and description of each option with a command-line name."""
    for kind in (ConvertOptions, RunOptions):
        for declared in fields(kind):
            option = option_of(declared)
            if option.flags:
                default = None if declared.default is MISSING else declared.default
                yield declared.name, default, option
    for name, option in TARGET_OPTIONS.items():
        if option.flags:
            yield name, None, option


def _typer_option(option: Option) -> Any:
    number = "N" if option.least is not None else None
    return typer.Option(
        *option.flags, help=option.help, metavar=option.metavar or number, min=option.least,
        rich_help_panel=option.panel,
    )  # fmt: skip


def chosen_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return command-line values as keyword arguments of `convert`; those not given are left out.

    Raises
    ------
    BadArgument
        A value of a NAME=VALUE option is not of that form.
    """
    found = dict(given)
    for name in ("storage_options", "target_storage_options"):
        found[name] = pairs(found[name]) if found.get(name) else None
    found["series"] = _series(found.get("series"))
    return {name: value for name, value in found.items() if value is not None}


def _series(given: list[str] | None) -> list[int | str] | None:
    """Read numbers separated by commas; any other text is one name."""
    if not given:
        return None
    chosen: list[int | str] = []
    for text in given:
        parts = text.split(",")
        if all(part.strip().isdigit() for part in parts):
            chosen.extend(int(part) for part in parts)
        else:
            chosen.append(text)
    return chosen


def pairs(given: list[str] | None) -> dict[str, Any]:
    """Read NAME=VALUE; integers, true and false become Python values."""
    pairs: dict[str, Any] = {}
    for text in given or []:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise BadArgument(f"{text!r}: give NAME=VALUE.")
        pairs[name] = {"true": True, "false": False}.get(value.lower(), value)
        with suppress(ValueError):
            pairs[name] = int(value)
    return pairs
