"""Several samples of one clip: are they, together, a good forecast of it?"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp_refiner.core import BadValue, per_frame
from interp_refiner.evaluation.measures.bootstrap import DEFAULT_BOOTSTRAP, Bootstrap
from interp_refiner.evaluation.measures.clip_table import ClipTable
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

    where ``|.|`` is the root mean square over all numbers of the missing frames. The second term runs over pairs of
    different samples, so the score is unbiased for any M: its expectation is smallest, and only smallest, where the
    samples are distributed like the truth.

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
    """Raises :class:`BadValue` for a single sample: it says nothing about spread."""
    if len(samples) < 2:
        raise BadValue("samples", len(samples), "at least 2 samples per clip")


class StochasticScores(ClipTable):
    """What M samples per clip are worth on missing frames, by level.

    With ``xbar`` the mean of the samples and means over clips outside the roots,

        sample_mse   = mean |x_m - y|^2              one sample on its own
        mean_mse     = mean |xbar - y|^2             the mean of M samples
        energy_score = see :func:`energy_score`; lower is better
        spread       = (mean of the unbiased variance of the samples)^1/2
        skill        = (mean |xbar - y|^2)^1/2
        spread_skill = ((M + 1) / M)^1/2 spread / skill

    ``spread_skill`` is 1 for samples from the truth's own distribution (Fortin et al., Why Should Ensemble Spread Match
    the RMSE of the Ensemble Mean?, J. Hydrometeorology 2014), below 1 for overconfident ones. Perfect samples have
    ``sample_mse = 2 (M / (M + 1)) mean_mse``.

    Args:
        num_samples: M, at least 2.
        bootstrap: of the intervals.

    Raises:
        BadValue: fewer than 2 samples, or, when updated, another number of them.
    """

    key_names = ("level",)
    groupings = (("level",),)

    def __init__(self, num_samples: int, bootstrap: Bootstrap = DEFAULT_BOOTSTRAP):
        super().__init__(["sample_mse", "mean_mse", "energy_score", "variance"], bootstrap)
        if num_samples < 2:
            raise BadValue("num_samples", num_samples, "at least 2 samples per clip")
        self.num_samples = num_samples

    def update(
        self,
        samples: Samples,
        clean: Float[Tensor, "b c t *space"],
        known: Bool[Tensor, "b t"],
        level: Int[Tensor, " b"],
        sample: Int[Tensor, " b"],
    ) -> None:
        """Adds one batch, without waiting for the device; ``sample`` is the index of each clip in its dataset."""
        if len(samples) != self.num_samples:
            raise BadValue("samples", len(samples), f"{self.num_samples} samples per clip")
        error = missing_vectors(samples, clean, ~known)
        values = {
            "sample_mse": error.square().sum(2).mean(1),
            "mean_mse": error.mean(1).square().sum(1),
            "energy_score": energy_score_of(error),
            "variance": error.var(1).sum(1),
        }
        self.add_rows(sample, ~known.all(1), {"level": level}, values)

    def clip_values(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        return means

    def summary(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        spread, skill = means["variance"].sqrt(), means["mean_mse"].sqrt()
        finite = (1 + 1 / self.num_samples) ** 0.5
        scores = {name: means[name] for name in ("sample_mse", "mean_mse", "energy_score")}
        return scores | {"spread": spread, "skill": skill, "spread_skill": error_ratio(finite * spread, skill)}
