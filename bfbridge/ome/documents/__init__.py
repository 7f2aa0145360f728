"""OME-XML documents: parsed, built, repaired and serialized; XML of vendors as element trees.

It imports `bfbridge.ome.pixel_types` only. Imported by the other modules of `bfbridge.ome`, by
backends and by everything above `bfbridge.backend`.
"""
