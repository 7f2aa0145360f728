"""Files of any format as OME-Zarr, without converting anything.

`pyramid` gives any chunk of any level of an image: levels that the file stores, and the missing
ones made by halving. `hierarchy` names groups, arrays and chunks as a store does and makes their
documents; `chunks` encodes; `store` is all that as a zarr-python store, `references` as a file of
byte ranges. `pyramid_cache` keeps made levels of large images on disk. It stands on the views,
`bfbridge.rendering` (contrast) and `bfbridge.ngff` (documents); servers may import it. Only `store`
needs zarr-python.
"""
