"""The structure of TIFF directories in this backend: the grid of tiles or strips, JPEG headers.

Everything that decodes or encodes segments uses it. Imports nothing else of this backend.
"""
