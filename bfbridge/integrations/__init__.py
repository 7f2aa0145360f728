"""Plug-ins for other programs: napari and xarray call them by entry points of this distribution.

Imported by nothing in the library but `bfbridge.large_image`, whose parts are in `large_image`.
"""
