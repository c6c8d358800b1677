"""Metrics of several samples of one clip, as of an ensemble forecast."""

from collections.abc import Mapping
from typing import Literal, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp_refiner.core import BadValue, Measure, per_frame
from interp_refiner.evaluation.measures.clip_table import ClipMetric
from interp_refiner.evaluation.measures.metric import Batch, Role
from interp_refiner.training.missing_frame import error_ratio

Samples = Float[Tensor, "m b c t *space"]


def missing_vectors(
    samples: Samples, clean: Float[Tensor, "b c t *space"], missing: Bool[Tensor, "b t"]
) -> Float[Tensor, "b m n"]:
    """``(x_m - y) / sqrt(n)`` with all n numbers of a clip's missing frames as one vector; its square is an MSE."""
    zeroed = torch.where(per_frame(missing, clean), samples.float() - clean.float(), 0.0)
    numbers = missing.sum(1).clamp(min=1) * (clean[0].numel() // clean.shape[2])
    return (zeroed.flatten(2) / numbers.sqrt().unsqueeze(1)).transpose(0, 1)


def energy_score(
    samples: Samples, clean: Float[Tensor, "b c t *space"], missing: Bool[Tensor, "b t"]
) -> Float[Tensor, " b"]:
    """Energy score of M samples: Gneiting and Raftery, Strictly Proper Scoring Rules, JASA 2007, section 4.2,

        mean_m |x_m - y| - 1 / (2 M (M - 1)) sum_{m != l} |x_m - x_l|

    where ``|.|`` is the RMS over all numbers of the missing frames. The second term uses pairs of different samples, so
    the score is unbiased for any M. It is strictly proper: its expectation is smallest only if the samples are
    distributed like the truth.

    Raises:
        BadValue: fewer than 2 samples.
    """
    check_samples(samples)
    return energy_score_of(missing_vectors(samples, clean, missing))


def energy_score_of(error: Float[Tensor, "b m n"]) -> Float[Tensor, " b"]:
    """:func:`energy_score` of the vectors ``x_m - y``, whose differences are those of the samples."""
    m = error.shape[1]
    between = torch.cdist(error, error, compute_mode="donot_use_mm_for_euclid_dist").sum((1, 2))
    return error.norm(dim=2).mean(1) - between / (2 * m * (m - 1))


def check_samples(samples: Tensor) -> None:
    """Raises :class:`BadValue` for a single sample, which has no spread."""
    if len(samples) < 2:
        raise BadValue("samples", len(samples), "at least 2 samples per clip")


def of_samples(name: str, heading: str, better: Literal["lower", "one"] = "lower") -> Measure:
    """A measure of several samples of a clip."""
    return Measure(name, heading, better, domain="latents", section="several samples of a clip", brief=False)


@final
class SeveralSamples(ClipMetric):
    """Errors and spread of M samples per clip on missing frames.

    With ``xbar`` the mean of the samples and means over clips outside the roots,

        sample_mse   = mean |x_m - y|^2              a single sample
        mean_mse     = mean |xbar - y|^2             the mean of M samples
        energy_score = see :func:`energy_score`
        spread       = (mean of the unbiased variance of the samples)^1/2
        skill        = (mean |xbar - y|^2)^1/2
        spread_skill = ((M + 1) / M)^1/2 spread / skill

    ``spread_skill`` is 1 for samples from the truth's own distribution (Fortin et al., Why Should Ensemble Spread Match
    the RMSE of the Ensemble Mean?, J. Hydrometeorology 2014), below 1 for overconfident ones. Perfect samples have
    ``sample_mse = 2 (M / (M + 1)) mean_mse``.

    Args:
        num_samples: M, at least 2.
        sampler: the method that makes the samples.

    Raises:
        BadValue: fewer than 2 samples, or an update with another number of samples.
    """

    measures = (
        of_samples("sample_mse", "one sample's MSE"),
        of_samples("mean_mse", "MSE of the mean"),
        of_samples("energy_score", "energy score"),
        of_samples("spread", "spread"),
        of_samples("skill", "skill"),
        of_samples("spread_skill", "spread / skill", "one"),
    )
    values = ("sample_mse", "mean_mse", "energy_score", "variance")

    def __init__(self, num_samples: int, sampler: str):
        super().__init__()
        if num_samples < 2:
            raise BadValue("num_samples", num_samples, "at least 2 samples per clip")
        self.num_samples, self.sampler = num_samples, sampler

    def judged(self, methods: Mapping[str, Role]) -> list[str]:
        return [self.sampler]

    def rows(self, estimate: Float[Tensor, "b c t *space"], batch: Batch) -> dict[str, Tensor]:
        count = 0 if batch.samples is None else len(batch.samples)
        if batch.samples is None or count != self.num_samples:
            raise BadValue("samples", count, f"{self.num_samples} samples per clip")
        error = missing_vectors(batch.samples, batch.clean, ~batch.known)
        return {
            "sample_mse": error.square().sum(2).mean(1),
            "mean_mse": error.mean(1).square().sum(1),
            "energy_score": energy_score_of(error),
            "variance": error.var(1).sum(1),
        }

    def figures(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        spread, skill = means["variance"].sqrt(), means["mean_mse"].sqrt()
        finite = (1 + 1 / self.num_samples) ** 0.5
        scores = {name: means[name] for name in ("sample_mse", "mean_mse", "energy_score")}
        return scores | {"spread": spread, "skill": skill, "spread_skill": error_ratio(finite * spread, skill)}
