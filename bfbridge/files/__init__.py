"""Open files, new files, file series as one image, and changes of files in place.

Imported by reader.py, writer.py, the views and the layers above them.
"""
