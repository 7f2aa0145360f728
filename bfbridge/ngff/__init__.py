"""NGFF (OME-Zarr) as documents: units, groups of a hierarchy, metadata, compression settings.

What has to be written about an image so that it is an OME-Zarr image, without any file or store:
the OME-Zarr backend writes these documents to disks and URLs, `bfbridge.virtual` hands them out for
files of other formats. Backends and everything in ``bfbridge/`` may import it; it imports the
backend contract only.
"""
