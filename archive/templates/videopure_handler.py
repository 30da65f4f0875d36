"""The entry file of a VideoPure archive: TorchServe wants exactly one class in it."""

import os

# Threads that spin while they wait steal the cores from those that work.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from videopure.handler.torchserve import TorchServeHandler


class VideoPureHandler(TorchServeHandler):
    """Decodes, purifies and recognises; see `videopure.handler.torchserve`."""
