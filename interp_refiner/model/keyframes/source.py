"""Sources of keyframes: a request lists the keyframes, and a source returns their latents."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from interp_refiner.core import BadValue, ClipSpec, Draws, per_frame
from interp_refiner.model.keyframes.sampler import KeyframeSampler, OwnSampler


@dataclass(frozen=True)
class KeyframeRequest:
    """A request for keyframes of a batch of clips (docs/method.md, Keyframes from text).

    Attributes:
        positions: the latent frame number of every keyframe in its clip, increasing.
        num_frames: T, the number of latent frames of a clip.
        latents: the values of given keyframes; the others are never read.
        given: keyframes that are constraints. They are returned bit for bit.
        text: prompt embeddings; None for no prompt.
        negative: embeddings of what a clip should not show, for guidance; None for zeros.
        prompts: the words of every clip, for a :class:`KeyframeScorer`; None if only embeddings are known.
        about: the keyframes that the prompts are about, the same ones in every clip; None for all.
        start: the flow time u at which every clip begins; None for 1, pure noise. Below 1 all ``latents`` are read and
            noised to this time, so the keyframes have a generator's errors but belong to the clips of ``latents``.

    Raises:
        BadValue: positions that do not increase, or are outside the clip.
    """

    positions: Int[Tensor, "b k"]
    num_frames: int
    latents: Float[Tensor, "b c k *space"]
    given: Bool[Tensor, "b k"]
    text: Float[Tensor, "b l d"] | None = None
    negative: Float[Tensor, "b l d"] | None = None
    prompts: Sequence[str] | None = None
    about: Bool[Tensor, "b k"] | None = None
    start: Float[Tensor, " b"] | None = None

    def __post_init__(self) -> None:
        at = self.positions
        if bool((at < 0).any() | (at >= self.num_frames).any() | (at.diff(dim=1) <= 0).any()):
            raise BadValue("positions", at.tolist(), f"increasing frame numbers in 0..{self.num_frames - 1}")

    def keep_given(self, latents: Float[Tensor, "b c k *space"]) -> Float[Tensor, "b c k *space"]:
        """``latents`` in the precision of the request, with the given keyframes written back bit for bit."""
        return torch.where(per_frame(self.given, latents), self.latents, latents.to(self.latents.dtype))


class KeyframeSource(ABC):
    """Makes keyframes from a prompt and from given keyframes.

    Attributes:
        takes_given: whether it supports given keyframes; otherwise it refuses requests with any.
        spec: of the clips that it makes; None if unknown.
    """

    takes_given: ClassVar[bool] = True
    spec: ClipSpec | None = None

    @abstractmethod
    def __call__(self, request: KeyframeRequest, draws: Draws) -> Float[Tensor, "b c k *space"]:
        """The keyframes of every clip, in the dtype of ``request.latents``; given keyframes are equal bit for bit.

        Args:
            request: the requested keyframes.
            draws: random numbers per sample. The same draws give the same keyframes, in any batch.
        """

    @property
    def guided(self) -> bool:
        """Whether it uses guidance, so that a negative prompt has an effect."""
        return True

    @property
    def trained(self) -> nn.ModuleDict:
        """The modules that were trained for this source; empty for a source without any."""
        return nn.ModuleDict()

    @abstractmethod
    def evaluations(self, free: int) -> int:
        """The number of network evaluations of a request, including guidance.

        Args:
            free: number of its keyframes that are not given.
        """

    @abstractmethod
    def of_steps(self, steps: int) -> "KeyframeSource":
        """The same source with another number of steps."""

    def with_sampler(self, sampler: KeyframeSampler) -> "KeyframeSource":
        """The same networks with another sampler.

        Raises:
            BadValue: the source has its own scheduler.
        """
        raise no_sampler(sampler)

    @abstractmethod
    def to(self, device: torch.device) -> "KeyframeSource":
        """Moves the network; returns itself."""


def no_sampler(
    sampler: KeyframeSampler | OwnSampler, why: str = "this keyframe source has its own scheduler"
) -> BadValue:
    """The error of a sampler, or of settings for a generator's own, that nothing takes."""
    if not isinstance(sampler, OwnSampler):
        return BadValue("keyframe_sampler", repr(sampler), f"own, because {why}")
    name, value = next(iter(sampler.replaced.items()))
    return BadValue(f"keyframe_sampler.{name}", value, f"null, because {why}")
