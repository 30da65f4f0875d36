"""Starts, watches and stops a TorchServe that serves one archive.

Imports `videopure.client` alone; the command line and the demo are built on it.
"""
