"""Bytes: reading them from paths, URLs and memory, and committing files durably.

Imported by backends, by `bfbridge.registry` and by everything above it.
"""
