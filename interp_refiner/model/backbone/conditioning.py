"""The conditioning inputs of a backbone: keyframe channels, numbers per frame, and the timestep."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from interp_refiner.core import Corrupted, per_frame, take_frames
from interp_refiner.model.backbone.backbone import Interface
from interp_refiner.model.backbone.shown import Shown
from interp_refiner.model.backbone.zeroed import zeroed


class KeyframeChannels(ABC):
    """Turns keyframes into extra input channels. Has no state."""

    @abstractmethod
    def count(self, latent_channels: int, num_hypotheses: int) -> int:
        """The number of channels."""

    @abstractmethod
    def __call__(self, corrupted: Corrupted) -> Float[Tensor, "b k t *space"]:
        """The channels, in the dtype of ``corrupted.x``."""


def hypothesis_channels(latent_channels: int, num_hypotheses: int) -> int:
    """The number of channels that :func:`_hypotheses` makes."""
    return (num_hypotheses - 1) * (latent_channels + 1)


def _hypotheses(corrupted: Corrupted) -> list[Float[Tensor, "b k t *space"]]:
    """``h_j - zbar`` for j = 2..k, and the masks ``present_j``; empty without hypotheses."""
    offered, x = corrupted.alternatives, corrupted.x
    if offered is None:
        return []
    present = offered.present.to(x.dtype).expand(-1, -1, -1, *x.shape[3:])
    return [offered.offsets.flatten(1, 2), present]


def _masks(corrupted: Corrupted) -> Float[Tensor, "b 2 t *space"]:
    """Known mask and confidence as two channels."""
    x = corrupted.x
    known = per_frame(corrupted.known, x).to(x.dtype).expand(-1, 1, -1, *x.shape[3:])
    confidence = corrupted.confidence.unsqueeze(1).to(x.dtype)
    return torch.cat([known, confidence.expand_as(known)], 1)


class MaskedKeyframes(KeyframeChannels):
    """Mask, confidence, keyframe latents (0 on missing frames), ``zbar`` and hypotheses, as in inpainting models."""

    def count(self, latent_channels: int, num_hypotheses: int) -> int:
        return 2 + 2 * latent_channels + hypothesis_channels(latent_channels, num_hypotheses)

    def __call__(self, corrupted: Corrupted) -> Float[Tensor, "b k t *space"]:
        keyframes = torch.where(per_frame(corrupted.known, corrupted.x), corrupted.values, 0.0)
        return torch.cat([_masks(corrupted), keyframes, corrupted.interpolation, *_hypotheses(corrupted)], 1)


class BracketingKeyframes(KeyframeChannels):
    """Mask, confidence, the keyframes before and after every frame, ``zbar`` and hypotheses."""

    def count(self, latent_channels: int, num_hypotheses: int) -> int:
        return 2 + 3 * latent_channels + hypothesis_channels(latent_channels, num_hypotheses)

    def __call__(self, corrupted: Corrupted) -> Float[Tensor, "b k t *space"]:
        near = corrupted.neighbours
        left, right = (take_frames(corrupted.values, side) for side in (near.left, near.right))
        return torch.cat([_masks(corrupted), left, right, corrupted.interpolation, *_hypotheses(corrupted)], 1)


class Timestep(ABC):
    """Turns noise levels into the timesteps (0..1000) and the scaled input of a flow-matching backbone."""

    @abstractmethod
    def count(self, num_frames: int) -> int:
        """The number of timesteps of a clip."""

    @abstractmethod
    def times(self, corrupted: Corrupted) -> Float[Tensor, "b n"]:
        """The timestep of every frame, ``n = t``, or of the whole clip, ``n = 1``."""

    @abstractmethod
    def state(self, corrupted: Corrupted) -> Float[Tensor, "b c t *space"]:
        """The input that goes with these timesteps."""


class PerFrame(Timestep):
    """A timestep ``1000 u`` for every frame, ``u = a / (1 + a)``, ``a = tau sigma m``; the input is ``x / (1 + a)``.

    This is Wan's own flow-matching state, ``(1 - u) z + u eps`` with z between ``z0`` and ``zbar``.
    """

    def count(self, num_frames: int) -> int:
        return num_frames

    def times(self, corrupted: Corrupted) -> Float[Tensor, "b t"]:
        return 1000 * corrupted.flow_time

    def state(self, corrupted: Corrupted) -> Float[Tensor, "b c t *space"]:
        return corrupted.flow_state


class Global(Timestep):
    """One timestep for the clip, ``1000 a / (1 + a)`` with ``a = tau sigma``; the input is ``x``."""

    def count(self, num_frames: int) -> int:
        return 1

    def times(self, corrupted: Corrupted) -> Float[Tensor, "b 1"]:
        a = corrupted.tau * corrupted.sigma
        return (1000 * a / (1 + a)).unsqueeze(1)

    def state(self, corrupted: Corrupted) -> Float[Tensor, "b c t *space"]:
        return corrupted.x


class FrameNumbers(nn.Module):
    """Embeds s/S, tau, K/T, mask, alpha, gap, distance and confidence of every frame in an MLP that starts at zero.

    Args:
        hidden: width of the hidden layer.
        out: width of the result, which is added to the timestep embedding.
    """

    COUNT = 8

    def __init__(self, hidden: int, out: int):
        super().__init__()
        self.hidden = nn.Linear(self.COUNT, hidden)
        self.out = zeroed(nn.Linear(hidden, out))

    def forward(self, numbers: Float[Tensor, "b t 8"]) -> Float[Tensor, "b t out"]:
        return self.out(nn.functional.silu(self.hidden(numbers.to(self.hidden.weight.dtype))))

    @staticmethod
    def numbers(corrupted: Corrupted) -> Float[Tensor, "b t 8"]:
        """The numbers themselves, each in 0..1."""
        c, near = corrupted, corrupted.neighbours
        known = c.known.float()
        last = c.known.shape[1] - 1
        confidence = c.confidence.float().flatten(1).unflatten(1, (last + 1, -1)).mean(2)
        per_clip = torch.stack([c.level / c.plan.num_levels, c.tau, known.mean(1)], 1)
        per_frame_ = torch.stack([known, near.alpha, near.gap / last, near.distance / last, confidence], 2)
        return torch.cat([per_clip.unsqueeze(1).expand(-1, known.shape[1], -1), per_frame_], 2)


@dataclass(frozen=True)
class Conditioning:
    """Turns a corrupted clip into the inputs of a network.

    Attributes:
        timestep: turns noise levels into timesteps.
        keyframe_channels: turns keyframes into input channels.
    """

    timestep: Timestep = field(default_factory=PerFrame)
    keyframe_channels: KeyframeChannels = field(default_factory=BracketingKeyframes)

    def __call__(self, seen: Corrupted | Shown) -> Shown:
        """The network's inputs for a corrupted clip; a ``Shown`` is returned unchanged."""
        if isinstance(seen, Shown):
            return seen
        state, times = self.timestep.state(seen), self.timestep.times(seen)
        return Shown(state, times, seen.clip.text, self.keyframe_channels(seen), FrameNumbers.numbers(seen))

    def count(self, interface: Interface) -> int:
        """The number of keyframe channels."""
        if interface.num_hypotheses == 0:
            return 0
        return self.keyframe_channels.count(interface.spec.channels, interface.num_hypotheses)


def frames_to_tokens(value: Float[Tensor, "b t *d"], tokens_per_frame: int) -> Float[Tensor, "b n *d"]:
    """Repeats every frame's value for each of its tokens; tokens are ordered by frame."""
    return rearrange(value.unsqueeze(2).expand(-1, -1, tokens_per_frame, *value.shape[2:]), "b t n ... -> b (t n) ...")
