"""``python -m bfbridge``: the command line."""

from __future__ import annotations

from bfbridge.cli import main

__all__: list[str] = []

main()
