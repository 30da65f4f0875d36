"""Changes and signatures that an operator adds to a built archive."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from videopure.archive.model_config import render_model_config
from videopure.format.manifest import CHANGES_NAME, CONFIG_NAME, SIGNATURE_NAME
from videopure.format.opening import ArchiveSummary, open_archive
from videopure.format.operator import OperatorChanges, record_of, replace_files
from videopure.format.settings import ModelConfig, flat_keys
from videopure.format.signature import sign_digests

__all__ = ["configure_archive", "sign_archive"]


def configure_archive(path: Path, changes: Mapping[str, Any] | None = None) -> ArchiveSummary:
    """Change the settings of an archive, and record the changes next to what was built.

    An existing signature is no longer valid and is removed.

    Args:
        path: path of the archive, a `.mar` or a folder.
        changes: keys of model-config.yaml to set, nested as in the file; None records the edited
            file of a folder archive.

    Raises:
        ManifestError: if it is not an archive.
        SettingsError: if a key or value cannot be used.
    """
    with open_archive(path) as archive:
        text = archive.read(CONFIG_NAME).decode("utf-8")
        current = archive.chosen
        if changes is not None:
            current = _merged(current, changes)
            text = render_model_config(current)
        ModelConfig.parse(current)
        before, after = archive.manifest.settings, flat_keys(current)
    data = text.encode()
    changed = {
        key: (before.get(key), after.get(key))
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    }
    record = OperatorChanges(config=record_of(data), changed=changed)
    replace_files(
        path,
        {
            CONFIG_NAME: data,
            CHANGES_NAME: record.model_dump_json(indent=2).encode(),
            SIGNATURE_NAME: None,
        },
    )
    with open_archive(path) as archive:
        return archive.summary()


def sign_archive(path: Path, private_key: Path) -> None:
    """Sign an intact archive; the signature replaces an older one.

    Args:
        path: path of the archive.
        private_key: PEM file of an unencrypted Ed25519 key.

    Raises:
        ManifestError: if the archive is not intact, or the key cannot be used.
    """
    with open_archive(path) as archive:
        archive.verify()
        content = sign_digests(archive.signed_digests(), private_key)
    replace_files(path, {SIGNATURE_NAME: content})


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        inner = merged.get(key)
        if isinstance(value, Mapping) and isinstance(inner, Mapping | None):
            merged[key] = _merged(inner or {}, value)
        else:
            merged[key] = value
    return merged
