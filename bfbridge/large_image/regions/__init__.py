"""Regions in large_image's terms: in pixels, lengths and magnifications, and on the Earth.

Imported by the other modules of `bfbridge.large_image`.
"""
