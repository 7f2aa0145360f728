"""The structure of TIFF files: tags, field types, headers, image directories.

Everything that reads or writes TIFF headers uses this package: the OME-TIFF backend for pixels, the
Bio-Formats backend for its checks of files. Pixels are not decoded here. Imported by backends;
imports `bfbridge.storage`, `bfbridge.limits`, `bfbridge.runtime` and `bfbridge.errors`.
"""
