"""Measurements of the purifier and of the server around it; see docs/benchmarks.md."""
