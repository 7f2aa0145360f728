"""Images over HTTP: OME-Zarr, tiles, DeepZoom, IIIF, information, from any file that can be read.

`library` names files and keeps requests inside the folders that are served; `files` keeps a bounded
number of them open; `scheduler` decides which request is computed next; `pictures`, `raw` and
`describe` compute replies from an open file and know nothing of HTTP, so that other transports can
use them. `handlers` turns URLs into plans, `delivery` sends what they yield (ETag, Range, gzip),
`gate` checks every request, and `run` starts and stops processes. Needs aiohttp.

The package imports the views, `bfbridge.rendering` and `bfbridge.virtual`; the command line and
viewers may import it.
"""
