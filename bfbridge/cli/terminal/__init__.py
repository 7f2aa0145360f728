"""Output on a terminal: escaped text, tables, progress bars and lines, and signals.

Imported by `bfbridge.cli.commands` and `bfbridge.cli.app`.
"""
