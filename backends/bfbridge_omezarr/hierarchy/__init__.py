"""Zarr stores and their groups: folders, zip files, object stores, documents, layouts.

Imported by the other packages of this backend.
"""
