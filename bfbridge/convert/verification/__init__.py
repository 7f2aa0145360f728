"""Verification of a conversion, computed independently of the code that converts.

Imported by `bfbridge.convert.copy`.
"""
