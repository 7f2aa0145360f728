"""NGFF (OME-Zarr) metadata: units, groups of a hierarchy, documents, compression settings.

It builds the documents that make an image an OME-Zarr image, without any file or store. The
OME-Zarr backend writes them to disks and URLs; `bfbridge.virtual` serves them for files of other
formats. Backends and every module in ``bfbridge/`` may import it; it imports the backend contract
only.
"""
