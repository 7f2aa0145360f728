"""One module for each picture format, loaded when a file of it is opened.

Imported by reader.py by name.
"""
