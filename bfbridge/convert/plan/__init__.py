"""What a conversion will do: sources, selections of pixels, names and metadata of the new files.

Imported by the other parts of `bfbridge.convert`.
"""
