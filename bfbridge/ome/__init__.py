"""The OME data model: documents and their XML, metadata of images, units, roles, extras.

`documents` has OME-XML itself, `checks` the comparison and the validation of documents.

Imported by backends and by everything above `bfbridge.backend`.
"""
