"""One-step samples, trained with a proper score of their distribution instead of a squared error."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from interp_refiner.core import BadValue, ClipSpec, Corrupted, NumLevels, masked_mean
from interp_refiner.model.objective.mixture import Gate, Mixture
from interp_refiner.model.objective.objective import Loss, errors
from interp_refiner.model.objective.preconditioned import ResidualArc, check_noised

TINY = 1e-12  # added under square roots, which have no gradient at 0


def patch_norm(x: Float[Tensor, "b c t *space"], patch: int) -> Float[Tensor, "b t *patches"]:
    """The root mean square over the channels and positions of every patch of every frame.

    Args:
        x: video latents ``[b, c, t, h, w]``, or a path ``[b, c, t]``, in which every frame is one patch.
        patch: side of a patch in positions; patches overlap, with one starting at every position where it fits.
    """
    energy = x.float().square().mean(1)
    if energy.ndim == 4:
        energy = F.avg_pool2d(energy, [min(patch, size) for size in energy.shape[2:]], stride=1)
    return (energy + TINY).sqrt()


def local_energy_score(
    samples: Float[Tensor, "m b c t *space"], clean: Float[Tensor, "b c t *space"], patch: int
) -> Float[Tensor, "b t"]:
    """The energy score of M samples per frame, averaged over patches (Gneiting and Raftery, JASA 2007, section 4.2),

        1/M sum_m |x_m - y| - 1 / (2 M (M - 1)) sum_{m != l} |x_m - x_l|

    It is strictly proper for the joint distribution within a patch. A single sample has only the first term.
    """
    m = len(samples)
    to_truth = torch.stack([patch_norm(x - clean, patch) for x in samples]).mean(0)
    pairs = [patch_norm(samples[i] - samples[j], patch) for i in range(m) for j in range(i)]
    spread = torch.stack(pairs).sum(0) / (m * (m - 1)) if pairs else torch.zeros_like(to_truth)
    return (to_truth - spread).flatten(2).mean(2)


@dataclass(frozen=True)
class PatchScore:
    """Settings of the score.

    Attributes:
        samples: M, the number of samples per clip of a batch.
        patch: side of a patch in positions.

    Raises:
        BadValue: fewer than 2 samples, or a patch side below 1.
    """

    samples: int = 2
    patch: int = 2

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise BadValue("samples", self.samples, "at least 2, because one sample has no spread")
        if self.patch < 1:
            raise BadValue("patch", self.patch, "a number of positions >= 1")


class EnergyScore(Mixture):
    """A clean estimate at ``tau = 1`` that is a sample, because it depends on the noise; trained with a proper score.

    Training starts (``initial_weights``) from a network that was trained on the bridge with
    ``objective=preconditioned``, which estimates the mean. The input noise is added with a learned gain per channel:

        z0_hat = sum_k w_k h_k + sd (g_c eps - v)        eps = (x - zbar) / (sigma m)

    The loss is :func:`local_energy_score` of M samples plus ``temporal_weight`` times that of their frame-to-frame
    differences, divided by the root of the level's running interpolation error.

    Args:
        spec: of the clips.
        num_levels: S, the sparsest level.
        temporal_weight: weight of the frame-to-frame differences.
        variance: see :class:`Preconditioned`.
        score: number of samples and size of patches.
        gain: initial value of ``g_c``.
        gate: see :class:`Mixture`.
    """

    fully_corrupted_only = True  # at tau < 1, x - zbar contains the truth, so it cannot be added as noise

    def __init__(
        self,
        spec: ClipSpec,
        num_levels: NumLevels,
        temporal_weight: float = 1.0,
        variance: float = 10.0,
        score: PatchScore = PatchScore(),
        gain: float = 0.5,
        gate: Gate | None = None,
    ):
        super().__init__(spec, num_levels, temporal_weight, gate)
        self.samples, self.patch = score.samples, score.patch
        self.arc = ResidualArc(spec.channels, variance)
        self.gain = nn.Parameter(torch.full((spec.channels,), float(gain)))

    def check(self, sigma: float, keyframes_replaced: bool, keyframe_fraction: float) -> None:
        """As :class:`Preconditioned`."""
        check_noised("energy_score", sigma, keyframes_replaced, keyframe_fraction)

    def clean_estimate(
        self, output: Float[Tensor, "b o t *space"], corrupted: Corrupted
    ) -> Float[Tensor, "b c t *space"]:
        velocity, chosen = self.chosen(output, corrupted)
        on = self.arc(corrupted)
        return corrupted.interpolation + chosen + on.deviation * (self._of_channel(on.point) * on.point - velocity)

    def target(self, corrupted: Corrupted) -> Float[Tensor, "b o t *space"]:
        """The output whose estimate is exactly the truth, for any noise."""
        on = self.arc(corrupted)
        residual = (corrupted.clean - corrupted.interpolation) / on.deviation
        return self.undecided(self._of_channel(on.point) * on.point - residual, corrupted)

    def _of_channel(self, like: Tensor) -> Float[Tensor, "1 c *ones"]:
        return self.gain.view(1, -1, *[1] * (like.ndim - 2))

    def forward(
        self, output: Float[Tensor, "b o t *space"], corrupted: Corrupted, *others: tuple[Tensor, Corrupted]
    ) -> Loss:
        """The score of the samples of one batch; also adds the interpolation's error to ``V_s``."""
        free = ~corrupted.given
        states = [(output, corrupted), *others]
        samples = torch.stack([s.keep_given(self.clean_estimate(o, s).float()) for o, s in states])
        error, temporal = errors(samples[0], corrupted.clean, free)
        score = self._score(samples, corrupted.clean, free)
        observed, _ = errors(corrupted.interpolation, corrupted.clean, free)
        scale = self.level_error(corrupted.level).sqrt()
        self.level_error.observe(observed, corrupted.level)
        return Loss((score / scale).mean(), error.detach().mean(), temporal.detach().mean())

    def _score(
        self, samples: Float[Tensor, "m b c t *space"], clean: Float[Tensor, "b c t *space"], free: Bool[Tensor, "b t"]
    ) -> Float[Tensor, " b"]:
        frames = masked_mean(local_energy_score(samples, clean, self.patch), free)
        moving = free[:, 1:] | free[:, :-1]
        steps = local_energy_score(samples.diff(dim=3), clean.diff(dim=2), self.patch)
        return frames + self.temporal_weight * masked_mean(steps, moving)
