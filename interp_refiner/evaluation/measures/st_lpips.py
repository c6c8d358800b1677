"""ST-LPIPS of decoded frames."""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import Measure
from interp_refiner.evaluation.measures.clip_table import FrameMetric
from interp_refiner.training.st_lpips import ShiftTolerantLPIPS


@final
class STLPIPS(FrameMetric):
    """The distance of :class:`ShiftTolerantLPIPS` between every frame and the truth.

    Args:
        frames_at_once: pairs of frames per network pass.

    Raises:
        MissingExtra: the package with the weights is not installed.
    """

    measures = (
        Measure(
            "st_lpips", "ST-LPIPS", compared="ratio", note="values of ST-LPIPS cannot be compared with those of LPIPS"
        ),
    )

    def __init__(self, frames_at_once: int = 32):
        super().__init__()
        self.frames_at_once, self.distance = frames_at_once, ShiftTolerantLPIPS()

    @torch.no_grad()
    def forward(self, estimate: Float[Tensor, "b 3 t h w"], clean: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b t"]:
        """Distance of every frame; RGB in 0..1.

        Raises:
            BadValue: frames smaller than 21x21.
        """
        self.distance.check_size(*clean.shape[3:])
        b, _, t, _, _ = clean.shape
        pairs = [video.float().transpose(1, 2).flatten(0, 1).split(self.frames_at_once) for video in (estimate, clean)]
        return torch.cat([self.distance(x, y) for x, y in zip(*pairs, strict=True)]).view(b, t)
