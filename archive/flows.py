"""Stores the weights of an optical flow network."""

from __future__ import annotations

import json

from videopure.archive.hub import Source
from videopure.archive.sources import check_file
from videopure.archive.spec import BuildError, BuildSpec
from videopure.archive.staging import Staging
from videopure.purifier import load_flow

__all__ = ["find_flow", "store_flow"]


def find_flow(spec: BuildSpec) -> Source | None:
    """The file of RAFT's weights; None if flow needs none."""
    if spec.flow is None or spec.flow_weights is None:
        return None
    file = spec.flow_weights
    if not file.is_file():
        raise BuildError(f"flow_weights {file} is not a file")
    return Source(file, spec.flow, f"torchvision:{spec.flow} {file.name}")


def store_flow(staging: Staging, source: Source) -> None:
    """Store `flow/`, in float32 regardless of the other dtypes.

    Raises:
        BuildError: if the weights are damaged, or those of another network.
    """
    target = staging.root / "flow"
    target.mkdir()
    config = {"kind": f"torchvision.{source.name}"}
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    if source.path.suffix == ".safetensors":
        check_file("flow_weights", source.path)
    plain = Staging(staging.root, None, staging.thin, staging.report)
    plain.add_weights("flow", source, [source.path], target, "model")
    staging.located |= plain.located
    staging.external_weights |= plain.external_weights
    if plain.located:
        return  # loaded in the trial
    try:
        load_flow(target)
    except ImportError as error:
        raise BuildError(
            "torchvision cannot be imported: install the torchvision that belongs to your torch"
        ) from error
    except ValueError as error:
        raise BuildError(f"flow_weights {source.path}: {error}") from error
