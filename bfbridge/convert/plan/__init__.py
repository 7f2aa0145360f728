"""The plan of a conversion: sources, selections of pixels, names and metadata of new files.

Imported by the other parts of `bfbridge.convert`.
"""
