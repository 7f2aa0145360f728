"""The window for people who do not use a terminal: a page that lists, shows and converts files.

`window` adds the routes to a server of `bfbridge.serve`, next to those of `bfbridge.viewer`; the
page in ``static`` uses them. Imported by `bfbridge.cli` only.
"""
