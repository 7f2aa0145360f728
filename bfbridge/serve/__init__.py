"""A server of images over HTTP: OME-Zarr, tiles, DeepZoom, IIIF and metadata of every format.

`files` names files, keeps requests inside the served folders, and keeps a bounded number of files
open. `content` computes replies from an open file, without HTTP. `http` maps URLs to content,
checks requests, schedules the computation and sends the replies. `run` starts and stops the
processes. The other modules are used by all three: `options` has the settings, `replies` the types
of a reply and of a refusal, `faults` maps errors to refusals, and `metrics` has the counters.

Imports the views, `bfbridge.rendering` and `bfbridge.virtual`. Imported by `bfbridge.viewer` and
`bfbridge.cli`. `http` and `run` need aiohttp.
"""
