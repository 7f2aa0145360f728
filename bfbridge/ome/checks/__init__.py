"""Checks of OME documents: comparison of two, and validation of one.

Imported by `bfbridge.convert`, `bfbridge.curation` and by backends.
"""
