"""Renormalises the latents of a keyframe source to other statistics."""

import copy
from dataclasses import replace
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp_refiner.core import ClipSpec, Draws
from interp_refiner.model.keyframes.sampler import KeyframeSampler
from interp_refiner.model.keyframes.source import KeyframeRequest, KeyframeSource


@final
class Rescaled(KeyframeSource):
    """Adapts a source to a data set with the same codec but other normalisation statistics.

    With ``z = (l - mu) / s`` from the codec's raw latents ``l`` per channel (:class:`Codec`), and ``mu_0, s_0`` the
    statistics of the source's own clips,

        z_0 = (s z + mu - mu_0) / s_0 = scale z + offset

    Args:
        source: the source to adapt.
        own: spec of the source's clips, with the statistics ``mu_0, s_0``.
        wanted: spec of the requested clips, with the statistics ``mu, s``.
    """

    def __init__(self, source: KeyframeSource, own: ClipSpec, wanted: ClipSpec):
        (mean, std), (own_mean, own_std) = (_statistics(spec) for spec in (wanted, own))
        self.source, self.takes_given = source, source.takes_given
        self.scale, self.offset = std / own_std, (mean - own_mean) / own_std

    @classmethod
    def between(cls, source: KeyframeSource, own: ClipSpec, wanted: ClipSpec) -> KeyframeSource:
        """The adapted source; the source itself if the statistics are equal."""
        same = all(torch.equal(a, b) for a, b in zip(_statistics(own), _statistics(wanted), strict=True))
        return source if same else cls(source, own, wanted)

    def __repr__(self) -> str:
        return repr(self.source)

    @property
    def guided(self) -> bool:
        return self.source.guided

    @property
    def trained(self) -> nn.ModuleDict:
        return self.source.trained

    def evaluations(self, free: int) -> int:
        return self.source.evaluations(free)

    def of_steps(self, steps: int) -> "Rescaled":
        return self._around(self.source.of_steps(steps))

    def with_sampler(self, sampler: KeyframeSampler) -> "Rescaled":
        return self._around(self.source.with_sampler(sampler))

    def _around(self, source: KeyframeSource) -> "Rescaled":
        made = copy.copy(self)
        made.source = source
        return made

    def to(self, device: torch.device) -> "Rescaled":
        self.source.to(device)
        return self

    def __call__(self, request: KeyframeRequest, draws: Draws) -> Float[Tensor, "b c k *space"]:
        scale, offset = (
            value.to(request.latents).view(-1, *[1] * (request.latents.ndim - 2)) for value in (self.scale, self.offset)
        )
        made = self.source(replace(request, latents=scale * request.latents + offset), draws)
        return request.keep_given((made - offset) / scale)


def _statistics(spec: ClipSpec) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
    """Mean and standard deviation per channel; 0 and 1 if they are not declared."""
    mean, std = spec.latents_mean, spec.latents_std
    return (
        torch.zeros(spec.channels) if mean is None else torch.tensor(list(mean)),
        torch.ones(spec.channels) if std is None else torch.tensor(list(std)),
    )
