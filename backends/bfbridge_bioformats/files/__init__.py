"""The files that Java may see, and checks that they are whole and read correctly.

Imported by reader.py and `readers`.
"""
