"""What the base class does for every interpolator."""

from typing import ClassVar

import pytest
import torch

from interp_refiner.core import Neighbours
from interp_refiner.forward.interpolator import Interpolation, Interpolator


class Careless(Interpolator):
    """Fills every frame with 7 and is sure of it; records what it was called with."""

    segment_local: ClassVar[bool] = True

    def fill(self, values: torch.Tensor, near: Neighbours) -> Interpolation:
        self.dtype, self.autocast = values.dtype, torch.is_autocast_enabled("cpu")
        return Interpolation(torch.full_like(values, 7.0), values.new_full((*near.known.shape, 1, 1), 0.3))


@pytest.fixture
def known():
    return torch.tensor([[True, False, True], [False, True, False]])


@pytest.mark.parametrize(
    ("given", "inside"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
    ids=str,
)
def test_half_precision_is_computed_in_float32_also_under_autocast(known, given, inside):
    careless = Careless()
    with torch.autocast("cpu", torch.bfloat16):
        result = careless(torch.randn(2, 4, 3, 5, 6).to(given), known)
    assert (careless.dtype, careless.autocast) == (inside, False)
    assert result.latents.dtype == given


def test_known_frames_and_their_confidence_are_restored(known):
    latents = torch.randn(2, 4, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    result = Careless()(latents, known)
    frames = known.view(2, 1, 3, 1, 1)
    assert torch.equal(result.latents, torch.where(frames, latents, 7.0))
    assert torch.equal(result.confidence, torch.where(known, 1.0, 0.3).view(2, 3, 1, 1))


def test_there_is_no_interpolator_without_a_formula():
    with pytest.raises(TypeError, match="fill"):
        Interpolator()


class Guesses(Careless):
    """A second hypothesis of 5 and a third of NaN, with shares of trust that know nothing of keyframes."""

    num_hypotheses = 3

    def fill(self, values: torch.Tensor, near: Neighbours) -> Interpolation:
        sevens = super().fill(values, near)
        hypotheses = torch.stack([sevens.latents, torch.full_like(values, 5.0), values * torch.nan], 1)
        present = values.new_tensor([1.0, 0.4, 0.0]).view(1, 3, 1, 1, 1)
        present = present.expand(len(values), -1, values.shape[2], -1, -1)
        return Interpolation(sevens.latents, sevens.confidence, None, hypotheses, present)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_hypotheses_differ_from_the_first_inside_gaps_only_and_where_present(known, dtype):
    latents = torch.randn(2, 4, 3, 5, 6, generator=torch.Generator().manual_seed(0)).to(dtype)
    result = Guesses()(latents, known)
    first, second, third = result.hypotheses.unbind(1)
    assert result.hypotheses.dtype == dtype
    assert torch.equal(first, result.latents)
    assert torch.equal(third, result.latents)
    own = torch.tensor([[False, True, False], [False, False, False]])  # the only gap
    assert torch.equal(second, torch.where(own.view(2, 1, 3, 1, 1), 5.0, result.latents.float()).to(dtype))
    trust = torch.stack([torch.ones(2, 3), 0.4 * own, torch.zeros(2, 3)], 1).view(2, 3, 3, 1, 1)
    assert torch.equal(result.present, trust)


def test_an_interpolator_offers_one_hypothesis_unless_it_says_otherwise(known):
    result = Careless()(torch.randn(2, 4, 3, 5, 6), known)
    assert (Careless().num_hypotheses, result.hypotheses, result.present) == (1, None, None)
