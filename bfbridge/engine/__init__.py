"""From keys to chunks to pixels, and back: selections, tiles, assembly, pyramids, casting.

Knows shapes and dtypes only. Imported by `bfbridge.files` and everything above it, never by
backends.
"""
