"""The demo's recipe: what comes of it is what is in the bundle."""

import json

import pytest
import torch
from accelerate import PartialState
from torch import Generator, Tensor

from videopure.demo.train import TRAINING_CLIPS, UNET
from videopure.motions import BUNDLE
from videopure.motions.clips import Stream
from videopure.motions.dataset import vary
from videopure.purifier.networks.patch_codec import PatchCodec
from videopure.training.compact import assemble
from videopure.training.unet import UNetTrainer

pytestmark = pytest.mark.integration


class Drawn:
    """The demo's training clips, of which only those that are asked for are drawn."""

    def batch(self, size: int, generator: Generator) -> tuple[Tensor, None]:
        """As of `TrainingClips`, which draws all of them first."""
        stream, clips = Stream("train"), []
        for number in torch.randint(TRAINING_CLIPS, (size,), generator=generator).tolist():
            frames, label = stream.clip(number)
            video = torch.from_numpy(frames).permute(0, 3, 1, 2)  # [T, 3, H, W]
            clips.append(vary(video, torch.tensor(label), generator)[0])
        return torch.stack(clips).float() / 255, None


@pytest.mark.slow
def test_training_begins_as_that_of_the_bundle_did() -> None:
    """The first sixtieth of the run, which was computed in bfloat16."""
    log = json.loads((BUNDLE / "training_log.json").read_text())["unet"]
    first = log["curve"][0]
    assert log["recipe"]["seed"] == UNET.seed
    codec = PatchCodec.from_pretrained(BUNDLE / "pipeline" / "vae", torch_dtype=torch.float32)
    torch.manual_seed(UNET.seed)
    pipeline = assemble(codec, "M")
    nothing = torch.zeros(0, 16, 3, 64, 64)
    trainer = UNetTrainer(pipeline, Drawn(), nothing, UNET, PartialState(cpu=True), threads=0)
    losses = [trainer.step(step)["loss"] for step in range(first["step"])]
    assert sum(losses) / len(losses) == pytest.approx(first["loss"], rel=0.01)
