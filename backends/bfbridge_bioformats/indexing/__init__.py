"""The index: what Bio-Formats said of a file when it was opened, kept for the next opening.

Imported by reader.py when a file is opened with ``index=``, and for ``bfbridge cache``.
"""
