"""Programs that run as separate processes, started by name.

Imported by nothing.
"""
