"""CUDA graphs give what the denoiser gives, and UNets and Wan can be recorded."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet3DConditionModel
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.parity import FIXTURE, load_pipeline
from tests.support.pipelines import TEXT_TO_VIDEO, tiny_motion_unet
from tests.support.transformer_pipelines import PIPELINES
from videopure.purifier import VideoPurePipeline
from videopure.purifier.cuda_graphs import CUDAGraphs

pytestmark = pytest.mark.unit

FRAMES = 4
# What makes the host wait for a GPU to read a number from it, which no graph can hold.
WAITING = {"aten::_local_scalar_dense", "aten::item", "aten::nonzero", "aten::is_nonzero"}


class Watch(TorchDispatchMode):
    """Notes the names of all operators."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.names.add(func._schema.name)
        return func(*args, **(kwargs or {}))


def unets() -> dict[str, nn.Module]:
    unet3d = UNet3DConditionModel.from_pretrained(TEXT_TO_VIDEO / "unet")
    return {"UNet3DConditionModel": unet3d, "UNetMotionModel": tiny_motion_unet(FRAMES)}


@pytest.mark.parametrize("kind", ["UNet3DConditionModel", "UNetMotionModel"])
def test_a_unet_can_be_recorded(kind: str) -> None:
    """With the step as a tensor nothing is read back, and the answer is that of a number."""
    unet = unets()[kind].eval()
    torch.manual_seed(0)
    latents = torch.randn(1, 4, FRAMES, 8, 8)
    prompts = 1 if kind == "UNet3DConditionModel" else FRAMES
    prompt = torch.randn(prompts, 3, unet.config.cross_attention_dim)

    def call(timestep: int | Tensor) -> Tensor:
        return unet(latents, timestep, encoder_hidden_states=prompt).sample

    with torch.no_grad(), Watch() as watch:
        recorded = call(torch.tensor([7]))
    assert len(watch.names) > 10
    assert not watch.names & WAITING
    with torch.no_grad():
        torch.testing.assert_close(recorded, call(7), rtol=0, atol=0)


@torch.no_grad()
def test_wan_can_be_recorded() -> None:
    """As above, through the family's own call."""
    model = PIPELINES["wan"]().model
    latents = torch.randn(1, 4, 3, 2, 4, generator=torch.Generator().manual_seed(9))
    with Watch() as watch:
        recorded = model.predict(latents, torch.tensor([257.25]))
    assert len(watch.names) > 10
    assert not watch.names & WAITING
    torch.testing.assert_close(recorded, model.predict(latents, 257.25), rtol=0, atol=0)


def test_on_a_cpu_nothing_changes() -> None:
    pipeline = load_pipeline(FIXTURE)
    latents = torch.randn(1, 4, FRAMES, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = pipeline.predict_noise(latents, 7)
        pipeline.cuda_graphs = True
        torch.testing.assert_close(pipeline.predict_noise(latents, 7), plain, rtol=0, atol=0)


def test_shapes_beyond_the_bound_are_called_and_said(caplog: pytest.LogCaptureFixture) -> None:
    graphs = CUDAGraphs(lambda latents, timestep: latents * timestep, most=0)
    one, two = torch.ones(1, 4, 2, 8, 8), torch.ones(1, 4, 3, 8, 8)
    for latents in (one, one, two):
        torch.testing.assert_close(graphs(latents, 7), 7 * latents, rtol=0, atol=0)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "(1, 4, 2, 8, 8)" in said[0]
    assert "(1, 4, 3, 8, 8)" in said[1]


@pytest.fixture
def on_gpu() -> VideoPurePipeline:
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    return load_pipeline(FIXTURE).to("cuda")


@pytest.mark.gpu
def test_replays_give_what_calls_give(on_gpu: VideoPurePipeline) -> None:
    torch.manual_seed(0)
    # More shapes than are recorded, each met again after the others with other numbers.
    calls = [(torch.randn(1, 4, n, 8, 8, device="cuda"), t) for t in (7, 901) for n in range(2, 8)]
    with torch.no_grad():
        plain = [on_gpu.predict_noise(latents, t) for latents, t in calls]
        on_gpu.cuda_graphs = True
        graphed = [on_gpu.predict_noise(latents, t) for latents, t in calls]
    torch.testing.assert_close(graphed, plain)


@pytest.mark.gpu
def test_gradients_go_around_the_graphs(on_gpu: VideoPurePipeline) -> None:
    on_gpu.cuda_graphs = True
    latents = torch.randn(1, 4, FRAMES, 8, 8, device="cuda", requires_grad=True)
    on_gpu.predict_noise(latents, 7).sum().backward()
    assert latents.grad is not None
    assert latents.grad.abs().sum() > 0
