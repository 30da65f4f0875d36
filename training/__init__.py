"""Trains the small models: one loop with progress, checkpoints and resuming, and what runs in it.

May import evaluation, motions, archive, handler, format, purifier and wire.
"""
