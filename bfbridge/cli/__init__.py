"""The command line.

`app` has the group of all commands, which imports a command when it is used. `commands` has one
module for each command, `options` what their options are made of, and `terminal` what is printed.
`main` is the entry point. Imported by `bfbridge.__main__` only.
"""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line; every failure is one line on stderr and a non-zero exit code."""
    from bfbridge.cli.app import run_app

    run_app()
