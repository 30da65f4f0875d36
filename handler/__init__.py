"""What runs in a TorchServe worker: requests, video decoding, batching, answers.

Imports `videopure.format`, `videopure.purifier` and `videopure.wire`.
"""
