"""Zarr arrays: their documents, chunks, shards and codecs.

Imported by reader.py and writer.py.
"""
