"""One module for each command of ``bfbridge``; each has a Typer application named ``app``.

A module is imported when its command is used, by `bfbridge.cli.lazy_group`. No command imports
another one.
"""
