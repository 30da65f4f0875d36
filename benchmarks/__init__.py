"""Benchmarks of the purifier and of the server; see docs/benchmarks.md."""
