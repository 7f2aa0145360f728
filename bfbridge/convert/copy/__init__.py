"""The conversion of one source to its new files: by blocks of pixels, or by encoded chunks.

Imported by `bfbridge.convert.execute`.
"""
