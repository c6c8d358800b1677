"""Feature vectors of clips, for comparing distributions."""

from abc import ABC, abstractmethod
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from interp_refiner.core import BadValue, at_least


class ClipFeatures(nn.Module, ABC):
    """Maps clips to feature vectors. The truth and all estimates use the same features.

    Attributes:
        num_features: d.
    """

    num_features: int

    @abstractmethod
    def forward(self, clips: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b n d"]:
        """n feature vectors of every clip."""


@final
class RandomConvFeatures(ClipFeatures):
    """Appearance and motion of clips from fixed random filters; needs no weights, and is equal on every machine.

    With ``*`` a 3x3x3 convolution in space and time (borders replicated) and ``down`` the mean over 2x2x2 blocks,

        y_1 = |W_1 * x|,    y_i = |W_i * down(y_{i-1})|      i = 2..num_scales

    is computed twice. For *appearance*, x is the clip and every filter has mean zero, so it measures structure, not
    brightness. For *motion*, x is the difference of successive frames, with unconstrained filters; a still gives 0.
    Features are the means of ``y_i`` over space and over each of ``num_windows`` windows in time, plus the means of the
    clip itself (colour): ``channels + 2 num_scales width`` numbers, ``num_windows`` vectors per clip.

    Filters are normal numbers of variance 1 / fan-in from one seed. Without the motion features, copies of the nearest
    keyframe would score like the truth, because they are true frames.

    Args:
        channels: c of the clips.
        width: filters per scale.
        num_scales: number of halvings of the resolution, plus one.
        num_windows: number of windows in time.
        seed: of the filters; results are comparable only for the same seed and sizes.

    Raises:
        BadValue: a size below 1, or clips of fewer than 2 frames.
    """

    def __init__(self, channels: int, width: int = 16, num_scales: int = 3, num_windows: int = 4, seed: int = 0):
        super().__init__()
        sizes = {"channels": channels, "width": width, "num_scales": num_scales, "num_windows": num_windows}
        at_least(1, **sizes)
        self.num_scales, self.num_windows = num_scales, num_windows
        self.num_features = channels + 2 * num_scales * width
        generator = torch.Generator().manual_seed(seed)
        for scale in range(num_scales):
            fan_in = 27 * (channels if scale == 0 else width)
            for half in ("appearance", "motion"):
                filters = torch.randn(width, fan_in // 27, 3, 3, 3, generator=generator) / fan_in**0.5
                if half == "appearance":
                    filters -= filters.mean((2, 3, 4), keepdim=True)
                self.register_buffer(f"{half}_{scale}", filters, persistent=False)

    def forward(self, clips: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b n d"]:
        if clips.shape[2] < 2:
            raise BadValue("clips", f"{clips.shape[2]} frames", "at least 2 frames, to measure motion")
        clips = clips.float()
        parts = [
            self._pool(clips),
            *self._responses("appearance", clips),
            *self._responses("motion", clips.diff(dim=2)),
        ]
        return torch.cat(parts, 1).transpose(1, 2)

    def _responses(self, half: str, x: Float[Tensor, "b c t h w"]) -> list[Float[Tensor, "b f n"]]:
        pooled = []
        for scale in range(self.num_scales):
            if scale > 0:
                x = F.avg_pool3d(x, 2, ceil_mode=True)
            x = F.conv3d(F.pad(x, (1,) * 6, mode="replicate"), self.get_buffer(f"{half}_{scale}")).abs()
            pooled.append(self._pool(x))
        return pooled

    def _pool(self, x: Float[Tensor, "b f t h w"]) -> Float[Tensor, "b f n"]:
        return F.adaptive_avg_pool3d(x, (self.num_windows, 1, 1)).flatten(2)
