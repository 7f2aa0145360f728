"""The command line.

`app` has the group of all commands, which imports a command when it is used. `commands` has one
module for each command, `options` what their options are made of, and `terminal` what is printed.
`main` is the entry point of the command line, and `gui` that of the window without a terminal.
Imported by `bfbridge.__main__` only.
"""

from __future__ import annotations

__all__ = ["gui", "main"]


def main() -> None:
    """Run the command line; every failure is one line on stderr and a non-zero exit code."""
    from bfbridge.cli.app import run_app

    run_app()


def gui() -> None:
    """Open the window: ``bfbridge gui`` with the arguments of this process.

    Without a terminal, an error is shown as a page in the browser.
    """
    import sys

    sys.argv.insert(1, "gui")
    if sys.stderr is not None and sys.stderr.isatty():
        main()
        return
    from bfbridge.cli.terminal.error_page import shown_errors

    with shown_errors():
        main()
