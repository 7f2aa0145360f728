"""Where conversions run: in this process, in several processes, or on a Dask cluster.

Imported by `bfbridge.convert` only.
"""
