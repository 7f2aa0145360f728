"""Execution of conversions: in this process, in several processes, or on a Dask cluster.

`search` finds the jobs; `choose` selects the executor; `batch` runs a batch with it. Imported by
`bfbridge.convert.conversion` and `bfbridge.convert.preview` only.
"""
