"""Java in a process of its own, so that a crash or a hang of a decoder cannot hurt this one.

Imported by the backend's `__init__` only.
"""
