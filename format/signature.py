"""signature.json: an Ed25519 signature over everything in an archive.

It signs the digests of videopure.json, which records most files, and of the few files that are not
recorded there. `cryptography` is an extra, imported where a signature is made or checked.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videopure.format.manifest import SIGNATURE_NAME, ManifestError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

__all__ = ["SignatureFile", "check_signature", "fingerprint", "read_public_key", "sign_digests"]

_PURPOSE = "videopure archive 1"
_NEEDED = (
    "signatures need the package cryptography; run: "
    f"{sys.executable} -m pip install 'cryptography>=42'"
)
_MAKE_ONE = "make one with `openssl genpkey -algorithm ed25519`"
SignatureFile = dict[str, Any]


def sign_digests(digests: Mapping[str, str], private_key: Path) -> bytes:
    """The content of signature.json.

    Args:
        digests: SHA-256 (hex) of each signed file, by its name.
        private_key: PEM file of an unencrypted Ed25519 key.

    Raises:
        ManifestError: if the key cannot be used.
    """
    key = _read_private_key(private_key)
    signature = key.sign(_message(digests))
    public = key.public_key().public_bytes_raw()
    content = {"algorithm": "ed25519", "public_key": public.hex(), "signature": signature.hex()}
    return (json.dumps(content, indent=2) + "\n").encode()


def check_signature(content: bytes | None, digests: Mapping[str, str], public_key: Path) -> None:
    """Check that an archive was signed with the key that belongs to `public_key`.

    Args:
        content: content of signature.json; None if the archive has none.
        digests: SHA-256 (hex) of each file that must be signed, by its name.
        public_key: PEM file of an Ed25519 key.

    Raises:
        ManifestError: if it was not signed, was signed by another key, or has changed since.
    """
    key = read_public_key(public_key)
    from cryptography.exceptions import InvalidSignature

    if content is None:
        raise ManifestError(
            f"the archive is not signed, and a signature by {fingerprint(key)} is required: sign "
            "it with `videopure sign`"
        )
    try:
        told = json.loads(content)
        signer, signature = bytes.fromhex(told["public_key"]), bytes.fromhex(told["signature"])
    except (ValueError, KeyError, TypeError):
        raise ManifestError(f"{SIGNATURE_NAME} is malformed") from None
    if signer != key.public_bytes_raw():
        raise ManifestError(
            f"the archive is signed by the key {signer.hex()[:16]}, but one by "
            f"{fingerprint(key)} is required"
        )
    try:
        key.verify(signature, _message(digests))
    except InvalidSignature:
        raise ManifestError(
            "the archive has changed since it was signed: its signature does not match"
        ) from None


def read_public_key(file: Path) -> Ed25519PublicKey:
    """The Ed25519 key in a PEM file.

    Raises:
        ManifestError: if there is none.
    """
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError as error:
        raise ManifestError(_NEEDED) from error
    try:
        key = load_pem_public_key(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ManifestError(f"{file} does not hold a public key: {error}") from None
    if not isinstance(key, Ed25519PublicKey):
        raise ManifestError(f"{file} does not hold an Ed25519 key: {_MAKE_ONE}")
    return key


def fingerprint(key: Ed25519PublicKey) -> str:
    """The first 16 hex digits of a public key, to identify it."""
    return key.public_bytes_raw().hex()[:16]


def _read_private_key(file: Path) -> Ed25519PrivateKey:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError as error:
        raise ManifestError(_NEEDED) from error
    try:
        key = load_pem_private_key(file.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise ManifestError(f"{file} does not hold a private key: {error}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ManifestError(f"{file} does not hold an Ed25519 key: {_MAKE_ONE}")
    return key


def _message(digests: Mapping[str, str]) -> bytes:
    """The signed text, with its purpose, so that the key's other signatures are not valid here."""
    return json.dumps([_PURPOSE, sorted(digests.items())], separators=(",", ":")).encode()
