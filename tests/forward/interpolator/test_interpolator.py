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
