"""Random clips and corruptions for tests; every number comes from a seed."""

from collections.abc import Sequence
from functools import cache
from itertools import cycle
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from interp_refiner.core import Clip, ClipSpec, Corrupted, Draws
from interp_refiner.data.codec import PatchDCT
from interp_refiner.forward.corruption import Corruption
from interp_refiner.forward.interpolator import Interpolator
from interp_refiner.model.objective import Objective
from tests.helpers import build, composed, group_config, group_members


def random_clip(
    batch: int = 3,
    frames: int = 21,
    space: tuple[int, ...] = (4, 6),
    seed: int = 0,
    channels: int = 4,
    **fields: Any,
) -> Clip:
    """A clip with random latents; fields of :class:`Clip` can be set by name."""
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(batch, channels, frames, *space, generator=generator)
    text = torch.randn(batch, 5, 8, generator=generator)
    keys = [f"clip_{seed}_{index}" for index in range(batch)]
    return Clip(latents, keys, **{"text": text, "epochs": [0] * batch, **fields})


def spec_of(channels: int = 4, frames: int = 21, space: tuple[int, ...] = (4, 6), text_dim: int = 8) -> ClipSpec:
    """The clips of :func:`random_clip`, as a data set declares them."""
    return ClipSpec((channels, frames, *space), (5, text_dim))


WRAPPED = {  # a cheaper interpolator inside: what these two add does not depend on it
    "remembered": "motion_hypotheses",
    "quadratic_pixels": "motion_hypotheses_pixels",
}


@cache
def make_interpolator(name: str) -> Interpolator:
    """A member of the group for the embedded clips' latents (16 channels); learned ones as they are before training."""
    config = group_config("interpolator", name)
    needed = [key for key in config if OmegaConf.is_missing(config, key)]
    inner = [f"interpolator@interpolator.inner={WRAPPED[name]}"] if name in WRAPPED else []
    return build("interpolator", name, *[f"interpolator.{key}=null" for key in needed], *inner).with_codec(PatchDCT())


def make_corruption(*overrides: str) -> Corruption:
    """The corruption of the default config under overrides, as the entry points build it."""
    return instantiate(composed("train", *overrides).corruption, _convert_="all")


def make_objective(name: str, num_levels: int = 4, channels: int = 4) -> Objective:
    """A member of the group for clips of :func:`random_clip`."""
    return build("objective", name, spec=spec_of(channels), num_levels=num_levels)


def corrupted_clip(*overrides: str, stream: str = "val", **fields: Any) -> tuple[Corrupted, Corruption, Draws]:
    """A random clip corrupted under overrides, with the corruption and the draws of a sampler."""
    clip, corruption = random_clip(**fields), make_corruption(*overrides)
    return corruption(clip, stream), corruption, Draws(corruption.seed, "sample", clip.keys)


def with_modes(interpolators: Sequence[str]) -> list[tuple[str, str]]:
    """Every interpolator under ``disagreement``, which reads its hypotheses, and under another mode in turn."""
    noisy = [mode for mode in group_members("corruption") if mode not in ("disagreement", "none")]
    pairs = [(name, mode) for name, mode in zip(interpolators, cycle(noisy))]
    return [(interpolators[0], "none"), *pairs, *((name, "disagreement") for name in interpolators)]


def chosen_schedule(name: str) -> list[str]:
    """The overrides that choose a schedule for clips of :func:`random_clip`."""
    untrained = ["schedule.checkpoint=null", "schedule.selector.channels=4", "schedule.selector.grid=2"]
    untrained.append("schedule/preview=clip")  # a random clip brings no phase-1 candidates
    return [f"schedule={name}", *(untrained if name == "learned" else [])]
