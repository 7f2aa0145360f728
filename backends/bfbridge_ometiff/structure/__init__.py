"""The structure of TIFF files: header, directories, tags, and the grid of tiles or strips.

Everything that reads or writes TIFF headers uses it. Imports nothing else of this backend.
"""
