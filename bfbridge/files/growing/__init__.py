"""Images that grow: tiles at any position, of a size that is known when the last one has arrived.

Tiles are assembled to chunks on a grid that extends in all directions. The chunks are encoded and
kept in a private folder (`tile_store`, `chunk_files`). When the image is closed, its size is that
of the tiles, and the chunks become those of a new file (`delivery`): unchanged, if both grids and
encodings agree. `growing_file` connects this to `bfbridge.files.writing.new_file`; `sink` is the
part of `BioWriter`'s interface; `named_axes` folds further axes into T, Z and C.
"""
