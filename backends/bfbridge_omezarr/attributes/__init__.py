"""Metadata of images in NGFF documents: axes, sizes, names, channels, and values unknown to OME.

Imported by reader.py and writer.py.
"""
