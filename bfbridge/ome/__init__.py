"""The OME data model: documents and their XML, metadata of images, units, roles, extras.

Imported by backends and by everything above `bfbridge.backend`.
"""
