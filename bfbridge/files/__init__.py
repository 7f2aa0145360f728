"""Files as users see them: an open file, a file being written, many files as one, changes in place.

Imported by reader.py, writer.py, the views and what lies above them.
"""
