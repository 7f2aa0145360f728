"""The command-line options of a conversion, created from `bfbridge.convert.options`.

That module declares the flags, the help and the types. This module contains only the differences
between the command line and Python.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields
from typing import Annotated, Any

import typer

from bfbridge.cli.options.help import GroupedHelp
from bfbridge.cli.options.values import pairs
from bfbridge.convert.options import (
    PANELS,
    TARGET_OPTIONS,
    ConvertOptions,
    Option,
    RunOptions,
    option_of,
)

__all__ = ["ConvertHelp", "chosen_options", "with_options"]


class ConvertHelp(GroupedHelp):
    """The help of the command: options that few conversions need are only named."""

    brief = frozenset({
        "--group",
        "--factors", "--downsample-z", "--smallest", "--report", "--level", "--shards",
        "--ngff-version", "--hcs", "--drop-axes", "--resolutions",
        "--swap", "--flip-stage", "--autostitch", "--split-rgb", "--merge-channels",
        "--position-unit", "--time-step", "--name", "--channel-color", "--fill-value",
        "--original-metadata", "--strict-metadata",
        "--compare-metadata", "--checksum", "--durable", "--dask", "--json",
        "--target-storage-option",
        "--recompress", "--target-backend", "--tile-width", "--tile-height", "--chunk-depth",
        "--wipp", "--set", "--option",
    })  # fmt: skip


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
    # --help lists options in the order of the parameters.
    parameters = [first, *sorted([*added, *own], key=_panel_number)]
    command.__signature__ = plain.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def _panel_number(parameter: inspect.Parameter) -> int:
    panel = parameter.annotation.__metadata__[0].rich_help_panel
    return PANELS.index(panel) if panel else len(PANELS)


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
    return typer.Option(
        *option.flags, help=option.help, metavar=option.metavar, min=option.least,
        rich_help_panel=option.panel, show_default=option.kind is not bool,
    )  # fmt: skip


def chosen_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return command-line values as keyword arguments of `convert`; without those not given.

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
