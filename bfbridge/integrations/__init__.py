"""Plug-ins for napari and xarray, which load them by entry points of this distribution.

The package `large_image` contains the parts of `bfbridge.large_image`. No other module of the
library imports them.
"""
