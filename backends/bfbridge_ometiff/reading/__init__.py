"""Data sets of OME-TIFF and plain tiled TIFF: which planes they contain, and how to read them.

Imported by reader.py.
"""
