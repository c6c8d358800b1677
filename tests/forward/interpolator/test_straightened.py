"""A learned latent map around another interpolator."""

import pytest
import torch

from interp_refiner.core import BadValue, save_weights
from interp_refiner.data.codec import PatchDCT
from interp_refiner.forward.interpolator import FlowWarp, InPixels, Linear, Sinkhorn, Straightened

SMALL = {"channels": 4, "straight_channels": 6, "width": 8}


def random_weights(inner, seed=0, std=0.2):
    """A map that has left its start, and is far from the inverse of its way back."""
    torch.manual_seed(seed)
    module = Straightened(inner, **SMALL)
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(torch.randn_like(weight) * std)
    return module


def clip(seed=0, frames=7):
    return torch.randn(2, 4, frames, 6, 8, generator=torch.Generator().manual_seed(seed))


def mask(*frames, length=7):
    known = torch.zeros(2, length, dtype=torch.bool)
    known[:, list(frames)] = True
    return known


def test_untrained_it_loses_nothing_and_is_linear_around_linear():
    straightened, values, known = Straightened(Linear(), **SMALL), clip(), mask(0, 3, 6)
    mapped = straightened.straighten(values)
    assert torch.equal(mapped[:, :4], values)
    assert mapped[:, 4:].var() > 0
    assert torch.equal(straightened.restore(mapped), values)
    torch.testing.assert_close(straightened(values, known).latents, Linear()(values, known).latents)


@pytest.mark.parametrize("frames", [(0, 3, 6), (1, 4), (5,)])
def test_any_weights_are_the_equation(frames):
    """zbar = linear(z) + R(inner(S z)) - linear(R S z), though R S is nothing like the identity."""
    inner = Sinkhorn(patch=1, distance_weight=0.02)
    module, values, known = random_weights(inner), clip(), mask(*frames)
    mapped = module.straighten(values)
    assert (module.restore(mapped) - values).square().mean() > 0.1
    linear = Linear()
    expected = (
        linear(values, known).latents
        + module.restore(inner(mapped, known).latents)
        - linear(module.restore(mapped), known).latents
    )
    result = module(values, known)
    torch.testing.assert_close(result.latents, expected, atol=1e-5, rtol=1e-4)
    assert torch.equal(result.confidence, inner(mapped, known).confidence)
    assert torch.equal(result.latents[:, :, list(frames)], values[:, :, list(frames)])


def test_any_weights_return_stills():
    module, known = random_weights(Linear()), mask(0, 4, 6)
    still = clip(frames=1).expand(2, 4, 7, 6, 8)
    assert torch.equal(module(still, known).latents, still)
    assert not torch.equal(module(clip(), known).latents, Linear()(clip(), known).latents)


def test_penalties_are_relative_so_that_a_small_space_is_no_straighter():
    module, values, known = random_weights(Linear()), clip(), mask(0, 3, 6)
    filled = module(values, known)
    penalties = module.penalties(values, known, filled)
    assert set(penalties) == set(module.penalised)
    with torch.no_grad():
        module.straighten.matrix.mul_(1e-2)
        module.straighten.network[-1].weight.mul_(1e-2)
        module.straighten.network[-1].bias.mul_(1e-2)
    shrunk = module.penalties(values, known, filled)
    torch.testing.assert_close(shrunk["curvature"], penalties["curvature"], rtol=0.02, atol=0)
    lost = (module.restore(module.straighten(values)) - values).square().mean() / values.var((0, 2, 3, 4)).mean()
    torch.testing.assert_close(shrunk["reconstruction"], lost, rtol=1e-3, atol=0)


def test_what_moves_along_straight_lines_has_no_curvature():
    module, known = Straightened(Linear(), **SMALL), mask(0, 3, 6)
    with torch.no_grad():
        module.straighten.network[-1].zero()
        module.straighten.matrix.normal_(generator=torch.Generator().manual_seed(5))
    straight = clip(1, 1) + clip(2, 1) * torch.arange(7.0).view(1, 1, 7, 1, 1)
    penalties = module.penalties(straight, known, module(straight, known))
    assert penalties["curvature"] < 1e-6 < module.penalties(clip(), known, module(clip(), known))["curvature"]


def test_a_checkpoint_brings_the_map_back_around_another_interpolator(tmp_path):
    source, values, known = random_weights(Linear()), clip(), mask(0, 3, 6)
    save_weights(source, tmp_path / "map.safetensors")
    loaded = Straightened(Linear(), **SMALL, checkpoint=str(tmp_path / "map.safetensors"))
    assert torch.equal(loaded(values, known).latents, source(values, known).latents)
    other = Straightened(Sinkhorn(patch=1), **SMALL, checkpoint=str(tmp_path / "map.safetensors"))
    assert not torch.equal(other(values, known).latents, source(values, known).latents)
    assert not any(weight.requires_grad for weight in other.parameters())


def test_bad_settings_are_named():
    with pytest.raises(BadValue, match="width=0: expected at least 1"):
        Straightened(Linear(), width=0)
    with pytest.raises(BadValue, match="straight_channels=8: expected at least channels=16"):
        Straightened(Linear(), straight_channels=8)
    with pytest.raises(BadValue, match="inner=InPixels: expected one in latents"):
        Straightened(InPixels(FlowWarp(channels=3, stride=2), PatchDCT()))
    with pytest.raises(BadValue, match=r"latents=\(2, 4, 7, 6, 8\): expected video \[b, 16, t, h, w\]"):
        Straightened(Linear())(clip(), mask(0, 6))
