"""The format of ``--help``: plain text, options under headings, one name for each option."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Collection, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

__all__ = ["GroupedHelp", "HelpAll", "aliases", "format_options", "new_app"]

ARGUMENTS = "Arguments"
OPTIONS = "Options"
# In `Context.meta`: whether all options are described.
_ALL = f"{__name__}.all"
# Typer adds the range of a number; the error for a number outside of it states it too.
_RANGE = re.compile(r"  \[x[<>]=\d+\]$|; x[<>]=\d+(?=\]$)")


def new_app(help: str | None = None) -> typer.Typer:  # noqa: A002 - typer's word
    """Return an application for one command, or for a group of commands if it has a help text."""
    return typer.Typer(
        help=help,
        no_args_is_help=help is not None,
        add_completion=False,
        # Plain text: importing what formats help with rich takes longer than all other imports.
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )


class GroupedHelp(TyperCommand):
    """A command whose help has a heading for each group of options.

    Aliases and the type of flags are left out.

    Attributes
    ----------
    brief
        Long names of the options that ``--help`` lists without their description. A command that
        has such options also has `HelpAll`.
    """

    brief: Collection[str] = ()

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return what follows the name of the command in its usage line."""
        found = [p.metavar or "" for p in self.get_params(ctx) if p.param_type_name == "argument"]
        return ["[OPTIONS]", *found]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and options."""
        brief = () if ctx.meta.get(_ALL) else self.brief
        format_options(self.get_params(ctx), ctx, formatter, brief)


def _show_all(ctx: typer.Context, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        ctx.meta[_ALL] = True
        typer.echo(ctx.get_help())
        raise typer.Exit


HelpAll = Annotated[
    bool,
    typer.Option(
        "--help-all", is_eager=True, callback=_show_all,
        help="Show this message with the descriptions of all options.",
    ),
]  # fmt: skip


def format_options(
    params: Sequence[Any], ctx: Any, formatter: Any, brief: Collection[str] = ()
) -> None:
    """Write arguments and options under their headings, in the order of their declaration.

    Options whose long name is in `brief` are listed by name below the others of their heading.
    """
    groups: dict[str, tuple[list[tuple[str, str]], list[str]]] = {}
    for param in params:
        record = _record(param, ctx)
        if record is not None:
            is_argument = param.param_type_name == "argument"
            heading = getattr(param, "rich_help_panel", None)
            heading = heading or (ARGUMENTS if is_argument else OPTIONS)
            described, named = groups.setdefault(heading, ([], []))
            if not is_argument and _main_names(param)[-1] in brief:
                named.append("/".join([_main_names(param)[-1], *param.secondary_opts]))
            else:
                described.append(record)
    # The general options, --help among them, are last.
    general = groups.pop(OPTIONS, None)
    if general is not None:
        groups[OPTIONS] = general
    for heading, (described, named) in groups.items():
        with formatter.section(heading):
            if described:
                formatter.write_dl(described)
            _write_names(named, formatter)


def _write_names(names: Sequence[str], formatter: Any) -> None:
    """Write names of options on lines of the formatter's width."""
    if names:
        indent = " " * formatter.current_indent
        text = textwrap.fill(
            f"Also: {', '.join(names)}", formatter.width, break_on_hyphens=False,
            initial_indent=indent, subsequent_indent=indent + " " * len("Also: "),
        )  # fmt: skip
        formatter.write(text + "\n")


def _record(param: Any, ctx: Any) -> tuple[str, str] | None:
    """Return the names and the description of a parameter, without its aliases."""
    if param.param_type_name == "argument":
        return param.metavar, param.help
    names = param.opts
    try:
        param.opts = _main_names(param)
        record = param.get_help_record(ctx)
    finally:
        param.opts = names
    return record and (record[0], _RANGE.sub("", record[1]))


def _main_names(param: Any) -> list[str]:
    """Return the first long name, and the names of one letter."""
    if param.param_type_name != "option":
        return list(param.opts)
    long = [name for name in param.opts if name.startswith("--")]
    short = [name for name in param.opts if not name.startswith("--") and len(name) == 2]
    return [*short, *long[:1]] or list(param.opts)


def aliases(command: Any) -> dict[str, list[str]]:
    """Return the names that the help leaves out, by the long name that it shows."""
    found = {}
    for param in command.params:
        shown = _main_names(param)
        others = [name for name in param.opts if name not in shown]
        if others:
            found[shown[-1]] = others
    return found
