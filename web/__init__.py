"""The page to try a clip: a small web server next to a running TorchServe.

May import demo, evaluation, motions, handler, format, purifier, client and wire.
"""
