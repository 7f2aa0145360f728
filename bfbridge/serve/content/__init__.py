"""The content of replies: JSON documents, pixel values, tiles and pictures of an open file.

The modules do not import `bfbridge.serve.http` or aiohttp. Imported by `bfbridge.serve.http`, and
by the notebook widget of `bfbridge.viewer`, which sends the same content over another transport.
"""
