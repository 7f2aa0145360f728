"""The documents of OME-Zarr stores (NGFF 0.4 and 0.5), for writers and virtual stores.

Imported by backends that write NGFF and by `bfbridge.virtual`.
"""
