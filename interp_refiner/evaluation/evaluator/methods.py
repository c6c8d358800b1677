"""The methods of an evaluation: the refiner's estimates, interpolations, and controls of known quality."""

import re
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import BadValue, Corrupted, Draws, at_least
from interp_refiner.data.medium import Medium
from interp_refiner.evaluation.evaluator.controls import nearest_keyframe_copy, noise_of_its_size, shuffled_keyframes
from interp_refiner.evaluation.measures import (
    SHUFFLED,
    TRUTH,
    Role,
)
from interp_refiner.forward.corruption import Corruption
from interp_refiner.forward.interpolator import Linear
from interp_refiner.model.sampler import CleanEstimate, NoGuidance, OneJump, OneView, hierarchical, one_jump
from interp_refiner.training import Refiner

STREAM = "val"  # the first sample starts from validation's noise
BASELINE = "linear"
MEAN = "one_jump"
NOISE = "noise of its size"
OWN_NOISE = "noise of its size and law"


class Methods:
    """Makes the clips that an evaluation compares.

    The estimates are the refiner's ``one_jump`` and the first of ``num_samples`` samples. The sample is left out if the
    sampler is ``one_jump`` itself, without guidance or views, unless the objective makes one jump a sample
    (:class:`EnergyScore`). The baselines are linear interpolation and the run's own interpolation, if it is another
    one. The controls are

    - ``zero output``: the objective's clean estimate for a network output of 0;
    - ``noise of its size``, with a sampler: the interpolation plus white noise as large as the sample's correction;
    - ``noise of its size and law``, if the corruption's noise is not white: the same with that noise;
    - ``nearest keyframe``: copies of it, sharp but moving in jumps;
    - ``blurred truth``: blurred by the medium, for videos over 3x3 pixels;
    - ``shuffled keyframes``: one jump from the keyframes of another clip;
    - ``truth``.

    Args:
        refiner: in evaluation mode, with the sampler to evaluate.
        medium: the medium of its clips.
        num_samples: M, samples per clip.
        interpolation: name of the run's own interpolation; None: its title, else the name of its class.
        label: prefix of the names of its estimates, if there are rivals.
        rivals: other refiners; their estimates and interpolations are added.

    Raises:
        BadValue: fewer than 1 sample, or several samples that would be equal.
    """

    def __init__(
        self,
        refiner: Refiner,
        medium: Medium,
        num_samples: int = 1,
        interpolation: str | None = None,
        label: str = "",
        rivals: Sequence["Methods"] = (),
    ):
        at_least(1, num_samples=num_samples)
        self.label, self.rivals = label, rivals
        self.refiner, self.medium, self.num_samples = refiner, medium, num_samples
        corruption, sampler = refiner.corruption, refiner.sampler
        changed = ["guided"] * (not isinstance(sampler.guidance, NoGuidance))
        changed += [repr(sampler.views)] * (not isinstance(sampler.views, OneView))
        strength = sampler.strength if isinstance(sampler, OneJump) else 1
        changed += [f"strength {strength:g}"] * (strength != 1)
        name = " ".join([config_name(sampler), *changed])
        self.sampler_name = None if isinstance(sampler, OneJump) and not changed else name
        self.mean = MEAN
        if refiner.objective.estimates_finer:  # one jump does not reach the clean clip
            self.mean, self.sampler_name = name, None
        if refiner.objective.samples > 1 and num_samples > 1:  # every estimate is a sample
            self.sampler_name = self.sampler_name or f"{name} sampled"
        jump = isinstance(sampler, OneJump) and refiner.objective.samples == 1 and not refiner.objective.distilled
        if num_samples > 1 and (self.sampler_name is None or jump or corruption.sigma == 0):
            allowed = "1, since there is only one estimate (more need sampler=bridge and a corruption with noise)"
            raise BadValue("num_samples", num_samples, allowed)
        draws_noise = corruption.sigma > 0 and (refiner.objective.samples > 1 or not isinstance(sampler, OneJump))
        self.noises = [NOISE, *[OWN_NOISE] * corruption.noise.structured] if draws_noise else []
        if label:
            self.mean = f"{label}: {self.mean}"
            self.sampler_name = self.sampler_name and f"{label}: {self.sampler_name}"
        own = corruption.interpolator
        self.interpolation_name = (
            BASELINE if isinstance(own, Linear) else own.title or interpolation or config_name(own)
        )

    @property
    def own(self) -> list[str]:
        """Its own estimates."""
        return [self.mean, *filter(None, [self.sampler_name])]

    @property
    def roles(self) -> dict[str, Role]:
        """Names and roles, in display order."""
        everyone = [self, *self.rivals]
        controls = ["zero output", *self.noises, "nearest keyframe", "blurred truth", SHUFFLED, TRUTH]
        roles: dict[str, Role] = {name: "estimate" for one in everyone for name in one.own}
        roles |= dict.fromkeys([*(one.interpolation_name for one in everyone), BASELINE], "baseline")
        return roles | dict.fromkeys(controls, "control")

    @property
    def baselines(self) -> list[str]:
        """The methods that others are compared with: the interpolations and, with rivals, its own estimates."""
        interpolations = [name for name, role in self.roles.items() if role == "baseline"]
        return interpolations + self.own if self.rivals else interpolations

    def is_estimate(self, method: str) -> bool:
        """Whether a method is one of the refiner's estimates."""
        return self.roles[method] == "estimate"

    @property
    def shown(self) -> str:
        """The name of the sampler's estimate."""
        return self.sampler_name or self.mean

    def samples(self, corrupted: Corrupted) -> Float[Tensor, "m b c t *space"] | None:
        """M samples of every clip with independent noise; None if the sampler only makes the mean."""
        if self.sampler_name is None:
            return None
        streams = [STREAM, *(f"{STREAM}_{m}" for m in range(1, self.num_samples))]
        starts = [corrupted, *(self.refiner.corruption.renoised(corrupted, stream) for stream in streams[1:])]
        return torch.stack([self.refiner.sample(c, stream) for c, stream in zip(starts, streams, strict=True)])

    def __call__(
        self, corrupted: Corrupted, samples: Float[Tensor, "m b c t *space"] | None = None
    ) -> dict[str, Float[Tensor, "b c t *space"]]:
        """One batch of clips per method.

        Args:
            corrupted: at ``tau = 1``.
            samples: of the same clips, as made by :meth:`samples`.

        Raises:
            BadValue: a batch of one clip, so that keyframes cannot be shuffled.
        """
        estimates = self.estimates(corrupted, samples)
        return estimates | self.controls(corrupted, estimates[self.shown])

    def estimates(
        self, corrupted: Corrupted, samples: Float[Tensor, "m b c t *space"] | None = None
    ) -> dict[str, Float[Tensor, "b c t *space"]]:
        """The refiner's estimates and the interpolations."""
        clips = {self.mean: self._mean(self.refiner.clean_estimate, corrupted)}
        if self.sampler_name is not None and samples is not None:
            clips[self.sampler_name] = samples[0]
        clips[self.interpolation_name] = corrupted.interpolation
        if self.interpolation_name != BASELINE:
            clips[BASELINE] = Linear()(corrupted.values, corrupted.known).latents
        for rival in self.rivals:
            clips |= rival.beside(corrupted)
        return clips

    def beside(self, corrupted: Corrupted) -> dict[str, Float[Tensor, "b c t *space"]]:
        """Its methods, as a rival, on the same clips with its own forward process; without linear interpolation.

        Raises:
            BadValue: its keyframes differ, so that other frames are missing.
        """
        own = self.refiner.corruption(replace(corrupted.clip, level=corrupted.level), STREAM)
        if not torch.equal(own.known, corrupted.known):
            raise BadValue("checkpoint", self.label, "a run with the keyframes of the first one: the schedules differ")
        made = self.estimates(own, self.samples(own))
        return {name: clip for name, clip in made.items() if name != BASELINE}

    def controls(
        self, corrupted: Corrupted, shown: Float[Tensor, "b c t *space"]
    ) -> dict[str, Float[Tensor, "b c t *space"]]:
        """Controls of known quality; those of noise add as much as the estimate ``shown`` corrects."""
        refiner, clean, known = self.refiner, corrupted.clean, corrupted.known
        channels = refiner.objective.out_channels(corrupted.x.shape[1], corrupted.num_hypotheses)
        nothing = corrupted.x[:, :1].expand(-1, channels, *[-1] * (corrupted.x.ndim - 2)) * 0
        silent = lambda state: refiner.objective.clean_estimate(nothing, state)  # noqa: E731
        lying = with_keyframes(corrupted, refiner.corruption, shuffled_keyframes(clean, known))
        controls = {
            "zero output": self._mean(silent, corrupted),
            "nearest keyframe": nearest_keyframe_copy(corrupted.values, known),
            "blurred truth": self.medium.blurred(clean, known),
            SHUFFLED: self._mean(refiner.clean_estimate, lying),
            TRUTH: clean,
        }
        draws = Draws(refiner.corruption.seed, NOISE, corrupted.clip.keys)
        eps = {NOISE: refiner.corruption.noise.white(draws, "eps", clean)}
        if OWN_NOISE in self.noises:
            eps[OWN_NOISE] = refiner.corruption.fresh(draws, "own", corrupted)
        beside = {name: noise_of_its_size(shown, corrupted.interpolation, eps[name]) for name in self.noises}
        return controls | beside

    def _mean(self, clean_estimate: CleanEstimate, corrupted: Corrupted) -> Float[Tensor, "b c t *space"]:
        """The conditional mean of the clean clip."""
        if self.refiner.objective.estimates_finer:
            corruption = self.refiner.corruption
            estimates = self.refiner.sampler.estimates(clean_estimate, corruption.reflections)
            return hierarchical(estimates, corrupted, corruption)
        return one_jump(clean_estimate, corrupted)


def with_keyframes(corrupted: Corrupted, corruption: Corruption, values: Float[Tensor, "b c t *space"]) -> Corrupted:
    """The same plan, level and noise with other keyframes, including given ones."""
    return corruption.at_level(replace(corrupted, values=values), corrupted.level, values)


def config_name(component: object) -> str:
    """The config name of a component: ``OneJump`` -> ``one_jump`` (for classes with one option)."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(component).__name__).lower()
