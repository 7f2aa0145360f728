"""Open files, new files, file series as one image, and changes of files in place.

`writing` makes new files, `growing` images without a size, `rearranged` other axes of a file.

Imported by reader.py, writer.py, the views and the layers above them.
"""
