"""A perceptual loss: the distance of decoded estimates to the decoded truth in the features of a trained network.

See docs/method.md, Objectives.
"""

from abc import ABC, abstractmethod
from copy import deepcopy
from typing import final

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from interp_refiner.core import BadValue, ClipSpec, Corrupted, Draws, move, non_negative, per_frame
from interp_refiner.data.codec import Codec

PERCEPTUAL = "perceptual loss"  # on a model card: the network whose distance was added to the loss


class ImageDistance(nn.Module, ABC):
    """A trained network that measures how different two images look."""

    def check_size(self, height: int, width: int) -> None:
        """Refuses, with :class:`BadValue`, images of a size that the network cannot take."""

    @abstractmethod
    def forward(self, x: Float[Tensor, "n 3 h w"], y: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
        """The distance of every pair of images, RGB in 0..1; differentiable in both."""


@final
class Windows:
    """Draws windows of a clip to decode; each ends at a free frame (one that is not given).

    Args:
        count: number of windows per clip and training step.
        length: latent frames of a window; a causal codec needs a few frames before the free one.
        side: side of a window in latent positions; None for whole frames.

    Raises:
        BadValue: a number below 1.
    """

    def __init__(self, count: int = 3, length: int = 1, side: int | None = None):
        for name, value in (("count", count), ("length", length), ("side", side)):
            if value is not None and value < 1:
                raise BadValue(name, value, "a number >= 1")
        self.count, self.length, self.side = count, length, side

    def sides(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of a window in frames of this size, in latent positions."""
        return (height, width) if self.side is None else (min(self.side, height), min(self.side, width))

    def cut(
        self, clips: Float[Tensor, "m b c t y x"], free: Bool[Tensor, "b t"], draws: Draws
    ) -> Float[Tensor, "m n c length h w"]:
        """Cuts the same windows from m versions of every clip; ``n = b count``. A free frame may be drawn twice."""
        b, (t, *space) = clips.shape[1], clips.shape[3:]
        length, (h, w), device = min(self.length, t), self.sides(*space), clips.device
        rooms = {"y": space[0] - h, "x": space[1] - w}
        # ``free`` sorted: the numbers of the free frames come first
        numbers = free.int().argsort(dim=1, descending=True, stable=True)
        chosen = numbers.gather(1, places(draws, "window_frame", self.count, free.sum(1, keepdim=True), device))
        start = (chosen - length + 1).clamp(min=0)
        # their ranges are plain numbers, so that a GPU does not wait for a copy
        up, left = (places(draws, f"window_{axis}", self.count, room + 1, device) for axis, room in rooms.items())

        def along(first: Int[Tensor, "b k"], size: int, *shape: int) -> Tensor:
            return (first.unsqueeze(2) + torch.arange(size, device=device)).view(b, self.count, *shape)

        at = along(start, length, length, 1, 1), along(up, h, 1, h, 1), along(left, w, 1, 1, w)
        clip = torch.arange(b, device=device).view(b, 1, 1, 1, 1)
        found = rearrange(clips, "m b c t y x -> b t y x m c")[clip, *at]
        return rearrange(found, "b k t y x m c -> m (b k) c t y x")


def places(
    draws: Draws, name: str, count: int, number: int | Int[Tensor, "b 1"], device: torch.device
) -> Int[Tensor, "b count"]:
    """``count`` integers per sample, uniform in 0 .. ``number`` - 1; 0 if ``number`` is 0."""
    return (draws.uniform(name, count, device) * number).long().clamp(max=number - 1).clamp(min=0)


@final
class Perceptual:
    """The mean distance of decoded windows, added to the loss of the objective:

        L = L_objective + weight mean d(D(z0_hat), D(z0))

    with ``D`` the codec and ``d`` a distance of images in the features of a trained network (Johnson et al., Perceptual
    Losses for Real-Time Style Transfer and Super-Resolution, ECCV 2016; Zhang et al., The Unreasonable Effectiveness of
    Deep Features as a Perceptual Metric, CVPR 2018). The squared error of the objective is smallest at the mean of all
    possible videos, which is a blend. The windows of a clip are a function of (seed, stream, epoch, key).

    Codec and network are not part of the refiner: checkpoints, averages and the optimizer do not contain them.

    Attributes:
        flops: operations of the last call and its gradient; counted by an extra run for every new size.

    Args:
        spec: of the clips.
        codec: decodes the clips; it is copied.
        network: the distance ``d``; it is frozen.
        weight: weight of the distance.
        windows: draws the decoded windows; None for three whole frames.
        seed: the run's seed.

    Raises:
        BadValue: a weight that is negative or not finite, clips that are not video, a codec that cannot decode, or
            windows that are too small for the network.
    """

    def __init__(
        self,
        spec: ClipSpec,
        codec: Codec,
        network: ImageDistance,
        weight: float = 1.0,
        windows: Windows | None = None,
        seed: int = 0,
    ):
        non_negative("weight", weight, "a weight")
        if not isinstance(codec, Codec) or codec.caveat:
            name = getattr(codec, "name", type(codec).__name__)
            raise BadValue("codec", name, "a codec that decodes the clips to video, with training/perceptual")
        self.network, self.windows = network.requires_grad_(False).eval(), windows or Windows()
        for shape in spec.latent_shapes:
            self.network.check_size(*(codec.spatial_factor * side for side in self.windows.sides(*shape[2:])))
        self.codec = deepcopy(codec).requires_grad_(False)
        self.weight, self.seed, self.flops = weight, seed, 0.0
        self._flops: dict[torch.Size, float] = {}

    def __call__(self, estimate: Float[Tensor, "b c t y x"], corrupted: Corrupted) -> Float[Tensor, ""]:
        """The mean distance without the weight. Given frames count as exact, as in the objective."""
        clip, given = corrupted.clip, per_frame(corrupted.given, estimate)
        clean = corrupted.clean.float()
        both = torch.stack([torch.where(given, clean, estimate.float()), clean])
        with torch.autocast(estimate.device.type, enabled=False):
            pieces = self.windows.cut(both, ~corrupted.given, Draws(self.seed, "train", clip.keys, clip.epochs))
            for module in (self.codec, self.network):
                move(module, estimate.device)
            if pieces.shape not in self._flops:
                with torch.no_grad(), FlopCounterMode(display=False) as counter:
                    self._distance(pieces)
                # Forward for estimate and truth, backward for the estimate alone; frozen weights have no gradient.
                self._flops[pieces.shape] = 1.5 * counter.get_total_flops()
            self.flops = self._flops[pieces.shape]
            return self._distance(pieces)

    def _distance(self, pieces: Float[Tensor, "2 n c t y x"]) -> Float[Tensor, ""]:
        made, truth = (rearrange(self.codec.decode(piece), "n p t h w -> (n t) p h w") for piece in pieces)
        return self.network(made, truth.detach()).mean()
