"""Functions that several benchmarks use; the scripts in the folder above are run by their path."""
