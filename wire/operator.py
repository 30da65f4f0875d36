"""The operator's key: how a request says that it is the operator's, and where the key lies.

A worker reads the key from a file that an environment variable names, so that it is in no archive.
"""

from __future__ import annotations

__all__ = ["KEY_FILE_VARIABLE", "OPERATOR_HEADER", "OPERATOR_KEY_FILE", "SHORTEST_KEY"]

# A proxy in front of the server takes this header away from its clients' requests.
OPERATOR_HEADER = "X-VideoPure-Operator"
# What `videopure serve` calls the file, beside TorchServe's key_file.json.
OPERATOR_KEY_FILE = "operator_key"
# Environment variable of the server: path of the file.
KEY_FILE_VARIABLE = "VIDEOPURE_OPERATOR_KEY_FILE"
SHORTEST_KEY = 32  # characters
