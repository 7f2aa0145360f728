"""Plug-ins for bioio, napari and xarray, which load them by entry points of this distribution."""
