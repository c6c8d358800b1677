"""PSNR and SSIM against scikit-image."""

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from interp_refiner.core import BadValue
from interp_refiner.evaluation.measures import psnr, ssim


def videos(seed: int = 0, size: tuple[int, int] = (24, 17)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    clean = torch.rand(2, 3, 4, *size, generator=generator)
    noise = torch.randn(clean.shape, generator=generator) * torch.tensor([0.01, 0.05, 0.2, 0.5]).view(1, 1, 4, 1, 1)
    return (clean + noise).clamp(0, 1), clean


@pytest.mark.parametrize("data_range", [1.0, 255.0])
def test_psnr_equals_scikit_image(data_range):
    estimate, clean = (data_range * video for video in videos())
    found = psnr(estimate, clean, data_range)
    for i in range(2):
        for t in range(4):
            expected = peak_signal_noise_ratio(clean[i, :, t].numpy(), estimate[i, :, t].numpy(), data_range=data_range)
            assert found[i, t].item() == pytest.approx(expected, abs=1e-4)


def smooth(size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ramps and almost no detail: what a careless variance in float32 gets wrong."""
    ramp = torch.linspace(0.1, 0.9, size[0]).view(-1, 1) * torch.linspace(0.5, 1, size[1])
    clean = ramp.expand(2, 3, 4, *size)
    return clean + 0.003 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)), clean.contiguous()


@pytest.mark.parametrize("data_range", [1.0, 255.0])
@pytest.mark.parametrize("size", [(24, 17), (11, 30)])
@pytest.mark.parametrize("of", [videos, smooth])
def test_ssim_equals_scikit_image(data_range, size, of):
    estimate, clean = (data_range * video for video in of(size=size))
    found = ssim(estimate, clean, data_range)
    for i in range(2):
        for t in range(4):
            expected = structural_similarity(
                clean[i, :, t].double().numpy(),
                estimate[i, :, t].double().numpy(),
                data_range=data_range,
                channel_axis=0,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
            )
            assert found[i, t].item() == pytest.approx(expected, abs=2e-5)


def test_the_truth_is_perfect():
    _, clean = videos()
    assert torch.allclose(ssim(clean, clean), torch.ones(2, 4), atol=1e-6)
    assert (psnr(clean, clean) == 100).all()


def test_known_values():
    clean = torch.full((1, 3, 1, 12, 12), 0.5)
    shifted = clean + 0.1
    assert psnr(shifted, clean).item() == pytest.approx(20, abs=1e-4)
    # constant frames have no variance, so only the luminance term is left
    assert ssim(shifted, clean).item() == pytest.approx((2 * 0.5 * 0.6 + 1e-4) / (0.25 + 0.36 + 1e-4), abs=1e-6)


def test_both_are_symmetric():
    estimate, clean = videos()
    assert torch.allclose(psnr(estimate, clean), psnr(clean, estimate))
    assert torch.allclose(ssim(estimate, clean), ssim(clean, estimate), atol=1e-6)


def test_ssim_refuses_frames_smaller_than_its_window():
    with pytest.raises(BadValue, match="video size=10x20: expected at least 11x11 pixels for SSIM"):
        ssim(*videos(size=(10, 20)))
