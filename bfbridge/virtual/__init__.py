"""Files of any format as OME-Zarr, without conversion.

`pyramid` returns any chunk of any level of an image: levels that the file stores, and missing
levels computed by halving. `hierarchy` maps keys of a store to groups, arrays and chunks and builds
their documents; `chunks` encodes; `store` makes it a zarr-python store, `references` writes
reference files with byte ranges. `pyramid_cache` keeps computed levels of large images on disk. The
package imports the views, `bfbridge.rendering` (contrast) and `bfbridge.ngff` (documents); servers
may import it. Only `store` needs zarr-python.
"""
