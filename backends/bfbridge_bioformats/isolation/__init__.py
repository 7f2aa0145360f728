"""Java in separate processes, so that a crash or a hang of a decoder cannot affect this process.

Imported by the backend's `__init__` only.
"""
