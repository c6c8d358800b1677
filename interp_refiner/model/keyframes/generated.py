"""Keyframes from a trained network."""

import copy
from dataclasses import replace
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp_refiner.core import BadValue, Draws, at_least, per_frame
from interp_refiner.model.backbone import Backbone
from interp_refiner.model.keyframes.flow import KeyframeFlow, Keyframes
from interp_refiner.model.keyframes.sampler import KeyframeSampler, OwnSampler, VelocityAt
from interp_refiner.model.keyframes.source import KeyframeRequest, KeyframeSource

NOISE = "keyframe_noise"  # the stream of random numbers


@final
class GeneratedKeyframes(KeyframeSource):
    """Keyframes sampled from a network that was trained by flow matching.

    Args:
        network: the trained network.
        flow: defines the path between keyframes and noise, and the meaning of the network's output.
        sampler: follows the flow from noise to keyframes.
    """

    def __init__(self, network: Backbone, flow: KeyframeFlow, sampler: KeyframeSampler | OwnSampler):
        if isinstance(sampler, OwnSampler):
            raise BadValue("sampler", "own", "euler | heun: a new generator has no sampler of its own")
        self.network, self.flow, self.sampler = network, flow, sampler

    def __repr__(self) -> str:
        return f"generated({self.sampler!r})"

    @property
    def guided(self) -> bool:
        return self.sampler.guidance != 1

    @property
    def trained(self) -> nn.ModuleDict:
        return nn.ModuleDict({"backbone": self.network, "flow": self.flow})

    def evaluations(self, free: int) -> int:
        rounds = max(1, min(self.sampler.rounds, free))
        return rounds * self.sampler.evaluations * (2 if self.guided else 1)

    def of_steps(self, steps: int) -> "GeneratedKeyframes":
        at_least(1, steps=steps)
        sampler = copy.copy(self.sampler)
        sampler.steps = steps
        return self.with_sampler(sampler)

    def with_sampler(self, sampler: KeyframeSampler) -> "GeneratedKeyframes":
        return GeneratedKeyframes(self.network, self.flow, sampler)

    def to(self, device: torch.device) -> "GeneratedKeyframes":
        self.trained.to(device)
        return self

    def __call__(self, request: KeyframeRequest, draws: Draws) -> Float[Tensor, "b c k *space"]:
        """Samples all keyframes together. Every further round keeps one more of them and samples the others again.

        There is one round if ``request.start`` is set.
        """
        for number in range(1, self.sampler.rounds if request.start is None else 1):
            free = ~request.given
            # keep the first free keyframe, unless it is the only one, which the last round samples
            first = free & (free.cumsum(1) == 1) & (free.sum(1, keepdim=True) > 1)
            if not first.any():
                break
            made = self._sampled(request, draws, f"{NOISE}_{number}")
            request = replace(request, latents=made, given=request.given | first)
        return self._sampled(request, draws)

    @torch.no_grad()
    def _sampled(self, request: KeyframeRequest, draws: Draws, stream: str = NOISE) -> Float[Tensor, "b c k *space"]:
        """Adds noise to the latents up to the start time, then samples back to 0."""
        latents, given = request.latents.float(), request.given
        start = torch.ones(len(latents)) if request.start is None else request.start
        start = start.to(latents.device)
        known = given | (start < 1).unsqueeze(1)
        values = torch.where(per_frame(known, latents), latents, 0.0)
        noise = draws.normal(stream, values)
        x = self.flow.state(values, noise, torch.where(given, 0.0, start.unsqueeze(1)))
        return request.keep_given(self.flow.latents(self.sampler(self.velocity(request), x, start)))

    def velocity(self, request: KeyframeRequest) -> VelocityAt:
        """``v(x, u)`` with guidance: ``v = v_without + w (v_with - v_without)``, 0 on given keyframes."""
        scale, text = self.sampler.guidance, request.text
        prompted = Keyframes(request.latents, request.positions, text)
        negative = torch.zeros_like(text) if text is not None and request.negative is None else request.negative
        unprompted = replace(prompted, text=negative)

        def at(x: Tensor, u: Tensor) -> Tensor:
            times = torch.where(request.given, 0.0, u.unsqueeze(1))
            found = self.flow.velocity(self.network, x, times, prompted)
            if text is not None and scale != 1:
                found = torch.lerp(self.flow.velocity(self.network, x, times, unprompted), found, scale)
            return found.masked_fill(per_frame(request.given, x), 0.0)

        return at
