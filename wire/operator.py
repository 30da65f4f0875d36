"""The operator's key: how a request shows that it is the operator's, and where the key is.

A worker reads the key from a file that an environment variable names, so that it is in no archive.
"""

from __future__ import annotations

__all__ = ["KEY_FILE_VARIABLE", "OPERATOR_HEADER", "OPERATOR_KEY_FILE", "SHORTEST_KEY"]

# A proxy in front of the server removes this header from its clients' requests.
OPERATOR_HEADER = "X-VideoPure-Operator"
# The name that `videopure serve` gives the file, next to TorchServe's key_file.json.
OPERATOR_KEY_FILE = "operator_key"
# Environment variable of the server: path of the file.
KEY_FILE_VARIABLE = "VIDEOPURE_OPERATOR_KEY_FILE"
SHORTEST_KEY = 32  # characters
