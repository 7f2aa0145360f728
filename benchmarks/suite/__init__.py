"""Benchmarks that asv runs for every release; see benchmarks/README.md."""
