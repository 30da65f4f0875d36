"""A new kind of recogniser is one file."""

import json
from pathlib import Path

import pytest
import torch

from tests.support.added_files import add_file
from videopure.purifier import recognisers
from videopure.purifier.recognisers.loading import families, load_recogniser

pytestmark = pytest.mark.unit

BRIGHTNESS = '''
"""Tells bright clips from dark ones."""

import torch
from torch import nn

from videopure.purifier.recognisers import NetworkRecogniser


class Brightness(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, frames):
        mean = self.gain * frames.mean(dim=(1, 2, 3, 4))
        return torch.stack((1 - mean, mean), dim=1)


def load(folder):
    config = folder.config
    return NetworkRecogniser(
        Brightness(), config["name"], config["num_frames"], config["frame_size"], config["labels"]
    )
'''


def test_a_new_family_is_found_and_loaded_by_its_kind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    add_file(monkeypatch, tmp_path, recognisers.__name__, "brightness_models", BRIGHTNESS)
    assert "brightness" in families()
    folder = tmp_path / "recogniser"
    folder.mkdir()
    config = {
        "kind": "brightness.mean",
        "name": "bright",
        "num_frames": 2,
        "frame_size": [8, 8],
        "labels": ["dark", "light"],
    }
    (folder / "config.json").write_text(json.dumps(config))
    recogniser = load_recogniser(folder)
    assert recogniser.labels == ["dark", "light"]
    logits = recogniser.logits(torch.full((1, 2, 3, 8, 8), 0.75))
    torch.testing.assert_close(logits, torch.tensor([[0.25, 0.75]]))
