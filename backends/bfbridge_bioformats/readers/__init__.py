"""Bio-Formats' readers in this process: opening, a pool for parallel reads, records, pixels.

Imported by reader.py, writer.py and `isolation`.
"""
