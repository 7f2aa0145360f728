"""Encoding tiles and placing metadata of new OME-TIFF files.

Imported by writer.py.
"""
