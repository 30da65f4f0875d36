"""Trains the small models: one loop with progress, checkpoints and resuming, and what runs in it.

May import everything below the evaluation, and the evaluation's attacks.
"""
