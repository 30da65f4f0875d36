"""What runs in a TorchServe worker: requests, video decoding, batching, answers.

May import format, purifier and wire: they go into the archive with it.
"""
