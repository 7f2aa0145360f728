"""Commands about the installation rather than images: its formats, its jar, its cache.

Each module is a command as in `bfbridge.cli.commands`, and imported by `bfbridge.cli.lazy_group`
only.
"""
