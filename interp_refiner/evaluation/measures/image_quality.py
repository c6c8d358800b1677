"""Quality of decoded frames against the truth, one number per frame."""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import BadValue, Measure, frame_mean
from interp_refiner.evaluation.measures.clip_table import FrameMetric

WINDOW, SIGMA = 11, 1.5  # of SSIM, pixels
PSNR_NOTE = """\
PSNR is a mean of decibels of pixels, MSE a mean of squared errors of latents. A few bad clips weigh much in MSE and \
little in PSNR, so the two can disagree"""
PSNR_CAP = 100.0  # decibels; the PSNR of a perfect frame is infinite, which cannot be averaged


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

    with ``C1 = (0.01 L)^2``, ``C2 = (0.03 L)^2``, L the data range, averaged over positions and channels.

    Raises:
        BadValue: frames smaller than the window.
    """
    h, w = clean.shape[3:]
    if min(h, w) < WINDOW:
        raise BadValue("video size", f"{h}x{w}", f"at least {WINDOW}x{WINDOW} pixels for SSIM")
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    # subtract the mean: variances stay the same, but are no longer small differences of large squares
    level = clean.float().mean((3, 4), keepdim=True)
    x, y = estimate.float() - level, clean.float() - level
    rows, columns = _gaussian_windows(h, x), _gaussian_windows(w, x)

    def local_mean(image: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t i j"]:
        return rows @ image @ columns.T

    mean_x, mean_y = local_mean(x), local_mean(y)
    variance_x, variance_y = local_mean(x * x) - mean_x**2, local_mean(y * y) - mean_y**2
    covariance = local_mean(x * y) - mean_x * mean_y
    mean_x, mean_y = mean_x + level, mean_y + level
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    contrast_and_structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return frame_mean(luminance * contrast_and_structure)


def _gaussian_windows(size: int, like: Tensor) -> Float[Tensor, "{size}-10 {size}"]:
    """Row i has the window's weights at positions i..i+10; one matmul gives all Gaussian-weighted means of a line."""
    offset = torch.arange(size, device=like.device) - torch.arange(size - WINDOW + 1, device=like.device).unsqueeze(1)
    gaussian = torch.exp(-((offset - WINDOW // 2) ** 2) / (2 * SIGMA**2)).to(like.dtype)
    inside = gaussian.where((offset >= 0) & (offset < WINDOW), 0.0)
    return inside / inside.sum(1, keepdim=True)


@final
class PSNR(FrameMetric):
    """:func:`psnr` of decoded missing frames."""

    measures = (Measure("psnr", "PSNR dB", "higher", digits=2, compared="difference", note=PSNR_NOTE),)

    def forward(self, estimate: Float[Tensor, "b c t h w"], clean: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b t"]:
        return psnr(estimate, clean)


@final
class SSIM(FrameMetric):
    """:func:`ssim` of decoded missing frames."""

    measures = (Measure("ssim", "SSIM", "higher", digits=4, compared="difference"),)

    def forward(self, estimate: Float[Tensor, "b c t h w"], clean: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b t"]:
        return ssim(estimate, clean)
