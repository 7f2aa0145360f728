"""The Bio-Formats jar: where it is, and downloading it on request.

Imported by `runtime` and by the command line's entry point.
"""
