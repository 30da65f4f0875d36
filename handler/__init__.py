"""What runs in a TorchServe worker: requests, video decoding, batching, answers."""

__version__ = "1.0.0"
