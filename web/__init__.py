"""The page to try a clip: a small web server beside a running TorchServe.

May import demo, evaluation, motions, handler, format, purifier, client and wire.
"""
