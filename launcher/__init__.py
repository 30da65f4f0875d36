"""Starts, watches and stops a TorchServe that serves one archive.

May import client and wire: it needs no torch of its own.
"""
