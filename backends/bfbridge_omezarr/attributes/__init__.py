"""What NGFF documents say of images: axes, sizes, names, channels, and what OME has no place for.

Imported by reader.py and writer.py.
"""
