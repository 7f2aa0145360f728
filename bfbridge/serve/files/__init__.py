"""Served files: their names, the check that a name is inside a served folder, and open readers.

Imports nothing of `bfbridge.serve.content` and `bfbridge.serve.http`. Imported by both, and by the
notebook widget of `bfbridge.viewer`.
"""
