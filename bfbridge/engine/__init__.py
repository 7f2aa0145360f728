"""Conversion between keys, chunks and pixels: selections, tiles, assembly, pyramids, casting.

It knows shapes and dtypes only. Imported by `bfbridge.files` and everything above it, never by
backends.
"""
