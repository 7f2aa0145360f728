"""Files at URLs: chained URLs, repeated requests, objects without renames, and uploads.

It depends on the modules of `bfbridge.storage` for locks and owners of targets, and never on
`bfbridge.storage.source`, which opens URLs with it. Imported by `bfbridge.storage.source`,
`bfbridge.files`, `bfbridge.convert` and the backends.
"""
