"""The weights of a splat: relative to the median velocity, which every device finds in the same way."""

import pytest
import torch

from interp_refiner.forward.interpolator.motion_fields import COVERING, FASTEST, covering


@pytest.mark.parametrize("size", [(9, 13), (10, 12), (4, 3), (1, 1), (7, 4)])  # odd and even numbers of velocities
def test_standing_still_is_torchs_median_bit_for_bit(size):
    velocity = torch.randn(3, 2, *size, generator=torch.Generator().manual_seed(0))
    ground = velocity[..., ::3, ::3].flatten(2).median(2).values[..., None, None]
    x, y = (velocity - ground).split(1, 1)
    expected = (COVERING * (x * x + y * y).sqrt().clamp(max=FASTEST)).exp()
    assert torch.equal(covering(velocity), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_it_is_deterministic_on_a_gpu():
    torch.use_deterministic_algorithms(True)
    try:
        covering(torch.randn(3, 2, 10, 12, device="cuda"))
    finally:
        torch.use_deterministic_algorithms(False)
