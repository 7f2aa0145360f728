"""The command line. ``main`` is the entry point; everything else is loaded when it runs."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line; every failure is one line on stderr and a non-zero exit."""
    from bfbridge.cli.app import run_app

    run_app()
