"""Any interpolator in a learned latent space in which videos move along straight lines."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from interp_refiner.core import (
    BadValue,
    Neighbours,
    at_least,
    frame_mean,
    masked_mean,
    neighbours,
    per_frame,
    take_frames,
)
from interp_refiner.forward.interpolator.in_pixels import InPixels
from interp_refiner.forward.interpolator.interpolator import Interpolation, Interpolator
from interp_refiner.forward.interpolator.learned import Conv2d, Learned
from interp_refiner.forward.interpolator.linear import lerp_frames

TINY = 1e-6  # added to variances before a division


class FrameMap(nn.Module):
    """``A z + f(z)`` of every frame separately: a linear map of channels plus a small convolutional network.

    Initially A is the identity, cut to fewer rows or extended by zero rows, and f is 0 on channels that A keeps.

    Args:
        channels, mapped: channels of z and of the result.
        width: features of the network per position.
    """

    def __init__(self, channels: int, mapped: int, width: int):
        super().__init__()
        self.matrix = nn.Parameter(torch.eye(mapped, channels))
        last = Conv2d(width, mapped)
        with torch.no_grad():
            last.weight[:channels], last.bias[:channels] = 0, 0  # type: ignore[index]
        self.network = nn.Sequential(Conv2d(channels, width), nn.SiLU(), Conv2d(width, width), nn.SiLU(), last)

    def forward(self, z: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b d t h w"]:
        frames = z.transpose(1, 2).flatten(0, 1)
        mapped = F.conv2d(frames, self.matrix.to(z.dtype)[..., None, None]) + self.network(frames)
        return mapped.unflatten(0, (z.shape[0], z.shape[2])).transpose(1, 2)


class Straightened(Learned):
    """Interpolates in a learned space. S maps every frame to it, and R maps back:

        zbar = linear(z) + R(inner(S z)) - linear(R S z)

    The error of ``R S z`` cancels on keyframes, so keyframes are exact, and so are still clips if ``inner`` keeps them.
    S and R are trained so that ``R S z`` is z and ``S z(t)`` lies on the straight line between the ``S z`` of the
    keyframes around it, where every interpolator is right (perceptual straightening, Henaff et al. 2019). Initially S
    keeps z and adds random features of it, which R drops. A point between ``S z_l`` and ``S z_r`` is usually not ``S``
    of a frame. R can detect this and learn to correct it.

    Args:
        inner: the interpolator in the straightened space; with its own weights, if it has any, for ``width`` channels.
        channels: of the latents, c.
        straight_channels: of the straightened space, at least c.
        width: features per position of the networks in S and R.
        checkpoint: weights to load and freeze, ``inner``'s included, see :class:`Freezable`; None to train it.

    Raises:
        BadValue: a size below 1, fewer straightened than latent channels, or an ``inner`` that decodes latents; on use,
            values of another shape.
    """

    segment_local: ClassVar[bool]  # as inner
    penalised = ("reconstruction", "curvature")

    def __init__(
        self,
        inner: Interpolator,
        channels: int = 16,
        straight_channels: int = 32,
        width: int = 48,
        checkpoint: str | None = None,
    ):
        super().__init__()
        at_least(1, channels=channels, width=width)
        if straight_channels < channels:
            raise BadValue("straight_channels", straight_channels, f"at least channels={channels}, to lose nothing")
        if any(isinstance(part, InPixels) for part in inner.modules()):
            raise BadValue("inner", type(inner).__name__, "one in latents: straightened latents have no decoder")
        self.inner, self.channels = inner, channels
        self.segment_local = inner.segment_local  # type: ignore[misc]
        self.straighten = FrameMap(channels, straight_channels, width)
        self.restore = FrameMap(straight_channels, channels, width)
        self.freeze(checkpoint)

    def rebuild(self, values: Float[Tensor, "b c t *space"], near: Neighbours) -> Interpolation:
        if values.ndim != 5 or values.shape[1] != self.channels:
            expected = f"video [b, {self.channels}, t, h, w]: straightened maps frames of channels={self.channels}"
            raise BadValue("latents", tuple(values.shape), expected)
        straight = self.straighten(take_frames(values, near.left))  # reads keyframes only
        filled = self.inner(straight, near.known)
        gain = self.restore(filled.latents) - lerp_frames(self.restore(straight), near)
        inside = per_frame(~near.known & ~near.one_sided, gain)
        return Interpolation(lerp_frames(values, near) + torch.where(inside, gain, 0.0), filled.confidence)

    def penalties(
        self, clean: Float[Tensor, "b c t *space"], known: Bool[Tensor, "b t"], filled: Interpolation
    ) -> dict[str, Tensor]:
        """``|R S z - z|^2``, and the squared distance of ``S z`` on missing frames to the line between keyframes.

        The first is relative to the variance of z, the second to the variance of every channel of ``S z``. So S cannot
        lower them by scaling down.
        """
        straight = self.straighten(clean)
        reconstruction = (self.restore(straight) - clean).square().mean() / (variance(clean).mean() + TINY)
        off_line = straight - lerp_frames(straight, neighbours(known))
        relative = off_line.square() / (variance(straight) + TINY)
        return {"reconstruction": reconstruction, "curvature": masked_mean(frame_mean(relative), ~known).mean()}


def variance(z: Float[Tensor, "b c t h w"]) -> Float[Tensor, "1 c 1 1 1"]:
    """Variance of every channel over a batch."""
    return z.var((0, 2, 3, 4), keepdim=True)
