"""Quality of decoded frames against the truth, one number per frame."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from interp_refiner.core import BadValue, frame_mean

PSNR_CAP = 100.0  # decibels; a perfect frame would have an infinite one, which has no mean


def psnr(
    estimate: Float[Tensor, "b c t h w"], clean: Float[Tensor, "b c t h w"], data_range: float = 1.0
) -> Float[Tensor, "b t"]:
    """Peak signal-to-noise ratio ``10 log10(data_range^2 / mse)`` of every frame in decibels, at most 100."""
    mse = frame_mean((estimate.float() - clean.float()).square())
    return (10 * torch.log10(data_range**2 / mse)).clamp(max=PSNR_CAP)


def ssim(
    estimate: Float[Tensor, "b c t h w"], clean: Float[Tensor, "b c t h w"], data_range: float = 1.0
) -> Float[Tensor, "b t"]:
    """Structural similarity of every frame: Wang et al., Image Quality Assessment, IEEE TIP 2004.

    Local means, variances and the covariance are weighted by an 11x11 Gaussian of sigma 1.5 pixels, per channel,
    wherever the window lies inside the frame, and

        ssim = (2 mu_x mu_y + C1) (2 sigma_xy + C2) / ((mu_x^2 + mu_y^2 + C1) (sigma_x^2 + sigma_y^2 + C2))

    with ``C1 = (0.01 L)^2``, ``C2 = (0.03 L)^2``, L the data range, averaged over positions and channels. In float64,
    since the variance of a smooth patch is a small difference of large numbers.

    Raises:
        BadValue: frames smaller than the window.
    """
    b, c, t, h, w = clean.shape
    if min(h, w) < 11:
        raise BadValue("video size", f"{h}x{w}", "at least 11x11 pixels for SSIM")
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    x, y = (video.double().reshape(b * c * t, 1, h, w) for video in (estimate, clean))
    mean_x, mean_y = _gaussian_window(x), _gaussian_window(y)
    variance_x = _gaussian_window(x * x) - mean_x**2
    variance_y = _gaussian_window(y * y) - mean_y**2
    covariance = _gaussian_window(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    contrast_and_structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return frame_mean((luminance * contrast_and_structure).view(b, c, t, h - 10, w - 10)).float()


def _gaussian_window(image: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 1 y x"]:
    """Gaussian-weighted mean over 11x11 windows inside the image."""
    offset = torch.arange(-5, 6, device=image.device, dtype=image.dtype)
    weight = torch.softmax(-(offset**2) / (2 * 1.5**2), 0)
    return F.conv2d(F.conv2d(image, weight.view(1, 1, 11, 1)), weight.view(1, 1, 1, 11))
