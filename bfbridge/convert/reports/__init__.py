"""Results of a run: records, reports on disk, and the history that `resume` reads.

Imported by the other parts of `bfbridge.convert`.
"""
