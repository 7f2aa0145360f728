"""Programs that run as processes of their own, started by name.

Imported by nothing.
"""
