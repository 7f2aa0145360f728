"""Data sets of OME-TIFF and plain tiled TIFF: which planes there are, and how they are read.

Imported by reader.py.
"""
