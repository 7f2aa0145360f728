"""HTTP: routes, checks of requests, scheduling, and delivery with ETag, Range and gzip.

`app` assembles the application from the other modules. Imported by `bfbridge.serve.run`. Needs
aiohttp.
"""
