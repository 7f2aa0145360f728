"""Functions of one level of one image: regions, statistics, tiles, dask and xarray arrays, mosaics.

They are independent of file formats. Imported by the views, whose methods call them, and by the
layers above; views are imported here for type checkers only.
"""
