"""Trains the small models: one loop with progress, checkpoints and resuming, and its stages.

May import evaluation, motions, archive, handler, format, purifier and wire.
"""
