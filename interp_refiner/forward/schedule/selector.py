"""A small network that predicts the cost of interpolating between any two frames from a preview."""

import math
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from interp_refiner.core import BadValue, Freezable, at_least

KERNEL = 3  # frames
NATS = 10.0  # initial cost of a squared error of 1; the errors of two plans differ by about 0.1, so their costs by 1


@final
class Selector(Freezable):
    """Predicts segment costs from a preview ``e`` of every frame, with c channels on n cells:

        cost[i, j] = sum over c of s_c P_c[i, j] + r(h_i, h_j, mean of h between i and j, (j - i) / T)
        P_c[i, j]  = sum over i < t < j of mean over n of (e_t - linear(e_i, e_j))^2

    with ``h`` features of every frame: how strongly every channel changes, convolved over time. ``r`` is
    zero-initialised and all ``s_c`` start equal, so an untrained selector uses the interpolation error of the preview
    itself. The network does not see where in the picture motion is, because on a few thousand clips it would overfit.

    Args:
        channels: c of the latents.
        grid: the preview has ``grid x grid`` cells, at most half the height and width of the latents; ignored for
            paths, which have no space.
        width: features per frame.

    Raises:
        BadValue: a size below 1; on use, a preview with other channels.
    """

    prefix: ClassVar[str] = "selector."

    def __init__(self, channels: int = 16, grid: int = 4, width: int = 16):
        super().__init__()
        at_least(1, channels=channels, grid=grid, width=width)
        self.channels, self.grid = channels, grid
        self.features = nn.Sequential(
            nn.Conv1d(2 * channels, width, KERNEL, padding=KERNEL // 2, padding_mode="replicate"), nn.GELU(),
            nn.Conv1d(width, width, KERNEL, padding=KERNEL // 2, padding_mode="replicate"), nn.GELU(),
        )  # fmt: skip
        self.segment = nn.Sequential(nn.Linear(3 * width + 1, width), nn.GELU(), nn.Linear(width, 1))
        nn.init.zeros_(self.segment[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.segment[-1].bias)  # type: ignore[arg-type]
        self.log_scale = nn.Parameter(torch.full((channels,), math.log(NATS / channels)))

    def forward(self, preview: Float[Tensor, "b c n t"]) -> Float[Tensor, "b t t"]:
        """The cost of every segment i < j in nats, see :func:`log_likelihood`; other entries are meaningless."""
        if preview.shape[1] != self.channels:
            raise BadValue("channels", self.channels, f"{preview.shape[1]}, the channels of the clips")
        self.follow(preview.device)
        with torch.autocast(preview.device.type, enabled=False):
            e = preview.to(self.log_scale.dtype)
            error = line_cost(e.flatten(0, 1)).unflatten(0, e.shape[:2]) / e.shape[2]
            return torch.einsum("c,bcij->bij", self.log_scale.exp(), error) + self.residual(e)

    def residual(self, e: Float[Tensor, "b c n t"]) -> Float[Tensor, "b t t"]:
        """``r``, a correction of the preview's error; 0 where there is no frame between i and j."""
        moved = e.diff(dim=3).square().mean(2)
        since, until = F.pad(moved, (1, 0)), F.pad(moved, (0, 1))
        h = self.features(torch.cat([since, until], 1).log1p()).mT
        t = h.shape[1]
        frame = torch.arange(t, device=h.device)
        gap = frame - frame.unsqueeze(1)
        total = h.cumsum(1)
        # between i and j: total[j - 1] - total[i]
        between = (total.roll(1, 1).unsqueeze(1) - total.unsqueeze(2)) / (gap - 1).clamp(min=1).unsqueeze(2)
        ends = [h.unsqueeze(2).expand_as(between), h.unsqueeze(1).expand_as(between)]
        length = (gap / t).to(h).expand(len(h), -1, -1).unsqueeze(3)
        return self.segment(torch.cat([*ends, between, length], 3)).squeeze(3).masked_fill(gap < 2, 0.0)


def line_cost(e: Float[Tensor, "b d t"]) -> Float[Tensor, "b t t"]:
    """``sum over i < k < j of |e_k - (1-a) e_i - a e_j|^2`` with ``a = (k - i) / (j - i)``, for all i < j; else 0.

    The square is expanded into inner products of frames, which takes ``O(d T^2 + T^3)``. Interpolating every segment
    would take ``O(d T^3)``.
    """
    e = e - e.mean(2, keepdim=True)  # the cost does not depend on the mean; this reduces rounding errors
    inner = e.mT @ e
    frame = torch.arange(e.shape[2], device=e.device)
    i, j, k = frame.view(-1, 1, 1), frame.view(-1, 1), frame
    inside = ((i < k) & (k < j)).to(e)
    right = inside * ((k - i) / (j - i).clamp(min=1)).to(e)
    left = inside - right
    norm = inner.diagonal(dim1=1, dim2=2)
    squares = (
        torch.einsum("ijk,bk->bij", inside, norm)
        + left.square().sum(2) * norm.unsqueeze(2)
        + right.square().sum(2) * norm.unsqueeze(1)
    )
    products = torch.einsum("ijk,bik->bij", left, inner) + torch.einsum("ijk,bjk->bij", right, inner)
    return (squares + 2 * (left * right).sum(2) * inner - 2 * products).clamp(min=0)
