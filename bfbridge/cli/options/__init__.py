"""Options of the commands: declared types, values read from text, and the format of ``--help``.

Imported by `bfbridge.cli.commands` and `bfbridge.cli.app`.
"""
