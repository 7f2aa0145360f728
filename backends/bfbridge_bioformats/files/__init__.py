"""The files that Java can open, and checks that they are complete and read correctly.

Imported by reader.py and `readers`.
"""
