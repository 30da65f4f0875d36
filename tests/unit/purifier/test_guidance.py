"""The closed-form guided update against autograd, and what it must not depend on."""

import pytest
import torch
from torch import Tensor

from videopure.purifier.guidance import Guidance, guide, resize_flow, warp

pytestmark = pytest.mark.unit

ALPHA, LOG_VARIANCE = 0.9, -4.0


def example(
    batch: int = 1, frames: int = 5, size: tuple[int, int] = (6, 7)
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Random (latents, noise, encoded, flow), float64."""
    generator = torch.Generator().manual_seed(3)
    shape = (batch, 4, frames, *size)
    latents, noise, encoded = torch.randn((3, *shape), generator=generator, dtype=torch.float64)
    flow = 2 * torch.randn((batch, frames - 1, 2, *size), generator=generator, dtype=torch.float64)
    return latents, noise, encoded, flow


def guided_by_autograd(
    latents: Tensor, noise: Tensor, encoded: Tensor, flow: Tensor, weights: Guidance
) -> Tensor:
    """One clip's update with the gradient of the loss as the paper states it."""
    z = latents[0].transpose(0, 1).clone()  # [T, C, h, w]
    e, z0 = noise[0].transpose(0, 1), encoded[0].transpose(0, 1)
    for _ in range(weights.iterations):
        z = z.detach().requires_grad_()
        x0 = (z - (1 - ALPHA) ** 0.5 * e) / ALPHA**0.5
        loss = weights.fidelity * ((x0 - z0) ** 2).mean()
        for k in range(len(x0) - 1):
            with torch.no_grad():
                warped = warp(x0[k + 1 : k + 2], flow[:, k])
            loss = loss - weights.consistency * (warped[0] - x0[k]).abs().mean()
        gradient = torch.autograd.grad(loss, z)[0]
        z = z + weights.scale / weights.iterations * LOG_VARIANCE * gradient
    return z.detach().transpose(0, 1)[None]


@pytest.mark.parametrize("iterations", [1, 3])
def test_closed_form_is_the_gradient_step_of_the_loss(iterations: int) -> None:
    inputs = example()
    weights = Guidance(iterations=iterations, reference=None)
    ours = guide(*inputs, ALPHA, LOG_VARIANCE, weights)
    torch.testing.assert_close(ours, guided_by_autograd(*inputs, weights), rtol=1e-9, atol=1e-9)


def test_clips_of_a_batch_do_not_influence_each_other() -> None:
    inputs = example(batch=3)
    together = guide(*inputs, ALPHA, LOG_VARIANCE, Guidance(reference=None))
    for k in range(3):
        latents, noise, encoded, flow = (x[k : k + 1] for x in inputs)
        weights = Guidance(reference=None)
        alone = guide(latents, noise, encoded, flow, ALPHA, LOG_VARIANCE, weights)
        torch.testing.assert_close(together[k : k + 1], alone)


def test_strength_does_not_depend_on_the_clip_size_with_a_reference() -> None:
    """A clip and its tiling over a larger frame move by the same amount, element by element."""
    latents, noise, encoded, _ = example()
    flow = torch.zeros(1, 4, 2, 6, 7, dtype=torch.float64)
    weights = Guidance(reference=(32, 4, 28, 28))
    small = guide(latents, noise, encoded, flow, ALPHA, LOG_VARIANCE, weights)
    latents, noise, encoded, flow = (
        x.repeat(1, 1, 1, 2, 2) for x in (latents, noise, encoded, flow)
    )
    large = guide(latents, noise, encoded, flow, ALPHA, LOG_VARIANCE, weights)
    torch.testing.assert_close(large, small.repeat(1, 1, 1, 2, 2))


def test_reference_equals_the_published_arithmetic_at_the_reference_shape() -> None:
    inputs = example()
    published = guide(*inputs, ALPHA, LOG_VARIANCE, Guidance(reference=None))
    scaled = guide(*inputs, ALPHA, LOG_VARIANCE, Guidance(reference=(5, 4, 6, 7)))
    torch.testing.assert_close(scaled, published)


def test_no_iterations_leave_the_latents_alone() -> None:
    inputs = example()
    assert guide(*inputs, ALPHA, LOG_VARIANCE, Guidance(iterations=0)) is inputs[0]


def test_update_is_differentiable() -> None:
    latents, noise, encoded, flow = example()
    latents.requires_grad_()
    guide(latents, noise, encoded, flow, ALPHA, LOG_VARIANCE, Guidance()).sum().backward()
    assert latents.grad is not None
    assert latents.grad.abs().min() > 0


@pytest.mark.parametrize("size", [(5, 6), (1, 6), (5, 1), (1, 1)])
def test_warp_samples_where_the_flow_points(size: tuple[int, int]) -> None:
    frames = torch.rand(1, 2, *size)
    flow = torch.zeros(1, 2, *size)
    torch.testing.assert_close(warp(frames, flow), frames)
    flow[:, 0] = 1  # one pixel to the right: out of the grid in the last column
    expected = torch.zeros_like(frames)
    expected[..., :-1] = frames[..., 1:]
    torch.testing.assert_close(warp(frames, flow), expected)


def test_resized_flow_keeps_its_direction_and_is_in_latent_pixels() -> None:
    flow = torch.zeros(1, 3, 2, 64, 48)
    flow[:, :, 0], flow[:, :, 1] = 8.0, -4.0
    resized = resize_flow(flow, (8, 6))
    assert resized.shape == (1, 3, 2, 8, 6)
    torch.testing.assert_close(resized[:, :, 0], torch.full((1, 3, 8, 6), 1.0))
    torch.testing.assert_close(resized[:, :, 1], torch.full((1, 3, 8, 6), -0.5))


@pytest.mark.parametrize("reference", [(1, 2, 3), (0, 4, 28, 28)])
def test_bad_reference_is_named(reference: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"reference must be four positive sizes.*got \("):
        Guidance(reference=reference)  # type: ignore[arg-type]
