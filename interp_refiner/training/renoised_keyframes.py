"""Anchors that have a keyframe generator's errors but still belong to their clips."""

from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from hydra.utils import get_class
from omegaconf import DictConfig

from interp_refiner.config import build
from interp_refiner.core import BadValue, Draws, at_least, device, weights_digest
from interp_refiner.data import AnchorSource, Sample
from interp_refiner.data.shards.write import Anchor
from interp_refiner.forward.schedule import Schedule
from interp_refiner.model.keyframes import KeyframeRequest, KeyframeSampler, KeyframeSource


@final
class RenoisedKeyframes(AnchorSource):
    """True keyframes, noised up to a random flow time and sampled back (docs/method.md, Keyframes from text).

    A free sample from a caption would be another clip. Sampling back from ``u < 1`` gives the same clip with the
    generator's errors.

    Args:
        generator: a trained source, on its device; its own sampler is not used.
        schedule: selects the keyframes; those of the finest level get an anchor.
        sampler: samples back from the noise.
        lowest, highest: range from which u is drawn uniformly. 1 and 1 give free samples in the sampler's rounds, meant
            only for evaluating whole pipelines. Otherwise there is one round, which starts from the noised truth.
        batch_size: number of clips at a time.
        seed: times and noise are functions of (seed, key).

    Raises:
        BadValue: not ``0 < lowest <= highest <= 1``, or a batch size below 1.
    """

    def __init__(
        self,
        generator: KeyframeSource,
        schedule: Schedule,
        sampler: KeyframeSampler,
        lowest: float = 0.3,
        highest: float = 0.8,
        batch_size: int = 32,
        seed: int = 0,
    ):
        if not 0 < lowest <= highest <= 1:
            raise BadValue("lowest", [lowest, highest], "times of the flow, 0 < lowest <= highest <= 1")
        at_least(1, batch_size=batch_size)
        self.keyframes, self.schedule, self.sampler = generator.with_sampler(sampler), schedule, sampler
        self.weights = weights_digest(generator.trained)
        self.lowest, self.highest, self.batch_size, self.seed = lowest, highest, batch_size, seed

    @property
    def free(self) -> bool:
        """Whether the samples do not depend on the true keyframes, because all times are 1."""
        return self.lowest == 1

    @property
    def made_by(self) -> dict[str, Any]:
        sampler, counts = repr(self.sampler), self.schedule.counts
        times = {"lowest": self.lowest, "highest": self.highest}
        times |= {"rounds": self.sampler.rounds} if self.free else {}
        about = {"weights": self.weights, "sampler": sampler, "schedule": type(self.schedule).__name__}
        return {"generator": "renoised_keyframes", **about, "counts": counts, **times, "seed": self.seed}

    @torch.no_grad()
    def propose(self, clips: Sequence[Sample]) -> list[Anchor]:
        keys = [clip.key for clip in clips]
        draws = Draws(self.seed, "anchor", keys)
        latents = torch.stack([clip.latents.float() for clip in clips])
        text = torch.stack([clip.text.float() for clip in clips if clip.text is not None])
        frames = self.frames(latents.shape[2])
        u = self.lowest + (self.highest - self.lowest) * draws.uniform("time", 1).squeeze(1)
        device = next(self.keyframes.trained.parameters()).device
        positions = frames.expand(len(clips), -1).to(device)
        request = KeyframeRequest(
            positions,
            latents.shape[2],
            latents[:, :, frames].to(device),
            torch.zeros_like(positions, dtype=torch.bool),
            text.to(device) if len(text) == len(clips) else None,
            start=None if self.free else u,
        )
        made = self.keyframes(request, draws)
        return [Anchor(key, found, frames) for key, found in zip(keys, made.cpu(), strict=True)]

    def frames(self, num_frames: int) -> torch.Tensor:
        """The keyframes of the finest level, the same for all clips."""
        none = torch.zeros(1, num_frames, dtype=torch.bool)
        plan = self.schedule.plan(none, Draws(self.seed, "anchor", [""]))
        return plan.mask_at(torch.ones(1, dtype=torch.long))[0].nonzero().flatten()


def anchor_source(cfg: DictConfig, load: Callable[[str], KeyframeSource]) -> AnchorSource:
    """The anchor source of ``prepare anchors``: an :class:`ImperfectSource`, or a keyframe generator.

    Args:
        cfg: of ``interp_refiner.prepare anchors``.
        load: loads the generator that a checkpoint names.

    Raises:
        BadValue: a generator without a checkpoint, or a checkpoint without a generator.
    """
    node = cfg.get("anchor_source") or cfg.data.anchors.source
    if (generates := issubclass(get_class(node._target_), RenoisedKeyframes)) != (cfg.checkpoint is not None):
        allowed = "shipped, or a run of +experiment=keyframes" if generates else "null, or anchor_source=generator"
        raise BadValue("checkpoint", cfg.checkpoint, allowed)
    if not generates:
        return build(node)
    return build(node, generator=load(cfg.checkpoint).to(torch.device(device(cfg.device))))
