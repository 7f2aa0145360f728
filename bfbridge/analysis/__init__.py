"""Functions of one level of one image: regions, statistics, tiles, dask and xarray arrays, mosaics.

They know no file format. Imported by the views, whose methods call them, and by what lies above;
views are imported here for type checkers only.
"""
