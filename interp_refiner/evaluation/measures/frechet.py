"""Frechet distance between the features of estimated and of true clips."""

from dataclasses import asdict
from statistics import NormalDist

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics import Metric

from interp_refiner.core import BadValue
from interp_refiner.evaluation.measures.bootstrap import Interval
from interp_refiner.evaluation.measures.clip_features import ClipFeatures
from interp_refiner.evaluation.measures.clip_table import check_methods, comparisons
from interp_refiner.training.missing_frame import error_ratio

NUM_SPLITS = 8  # of the true clips into halves, for the floor


def frechet_distance(
    mean_p: Float[Tensor, "*n d"],
    cov_p: Float[Tensor, "*n d d"],
    mean_q: Float[Tensor, "*n d"],
    cov_q: Float[Tensor, "*n d d"],
) -> Float[Tensor, "*n"]:
    """Squared Frechet (2-Wasserstein) distance of two Gaussians: Dowson and Landau, J. Multivariate Analysis 1982,

        |mu_p - mu_q|^2 + tr(C_p + C_q - 2 (C_p^1/2 C_q C_p^1/2)^1/2)

    The roots are taken by eigen-decomposition of symmetric matrices, eigenvalues below 0 counting as 0, so covariances
    of fewer samples than features are fine. NaN where a covariance is not finite: an estimate that diverged.
    """
    finite = (cov_p + cov_q).isfinite().all(-1).all(-1)
    cov_p, cov_q = (cov.where(finite[..., None, None], 0.0) for cov in (cov_p, cov_q))
    values, vectors = torch.linalg.eigh(cov_p)
    root = (vectors * values.clamp(min=0).sqrt().unsqueeze(-2)) @ vectors.mT
    product = root @ cov_q @ root
    cross = torch.linalg.eigvalsh((product + product.mT) / 2).clamp(min=0).sqrt().sum(-1)
    trace = (cov_p + cov_q).diagonal(dim1=-2, dim2=-1).sum(-1)
    return ((mean_p - mean_q).square().sum(-1) + trace - 2 * cross).clamp(min=0).where(finite, torch.nan)


class FrechetDistance(Metric):
    """Frechet distance of several methods to the truth: do their clips look and move like true ones?

    Features are in units of their standard deviation over the true clips and the distance is divided by their number,
    so that no scale matters and 1 means, for example, every feature off by one deviation:

        frechet/m         = frechet_distance(truth, m) / d
        frechet_ratio/m/n = frechet/m / frechet/n        (1 where both are 0)
        frechet_floor     = mean distance between random halves of the true clips; low and high are its extremes

    Estimates are of the very clips that they are compared with, so the truth itself is at distance 0; the floor says
    where other true clips are, half as many. Whole clips are compared, keyframes included; use one object per level.

    Clips fall into folds by their index. The state is the sum of the features and of their products in every fold, in
    float64: the same on any number of processes. Intervals are those of the delete-one-fold jackknife, all methods
    paired (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 11).

    Args:
        methods: the estimates that every update brings.
        baselines: those among them that the others are compared with.
        features: see :class:`RandomConvFeatures`.
        standardise: False leaves features and distance as they are, as the published FID and FVD do.
        num_folds: at least 2; the state holds ``num_folds (methods + 1) d^2`` numbers.
        confidence: of the intervals.

    Raises:
        BadValue: fewer than 2 folds, a confidence outside 0..1, or a baseline that is no method.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False

    count: Tensor
    sums: Tensor
    products: Tensor

    def __init__(
        self,
        methods: list[str],
        baselines: list[str],
        features: ClipFeatures,
        standardise: bool = True,
        num_folds: int = 16,
        confidence: float = 0.95,
    ):
        super().__init__()
        if num_folds < 2:
            raise BadValue("num_folds", num_folds, "at least 2")
        if not 0 < confidence < 1:
            raise BadValue("confidence", confidence, "a number between 0 and 1")
        self.methods, self.pairs = list(methods), comparisons(methods, baselines)
        self.features, self.standardise = features, standardise
        self.num_folds, self.confidence = num_folds, confidence
        shape, d = (num_folds, 1 + len(methods)), features.num_features
        self.add_state("count", torch.zeros(num_folds, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("sums", torch.zeros(*shape, d, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("products", torch.zeros(*shape, d, d, dtype=torch.float64), dist_reduce_fx="sum")

    def update(
        self,
        estimates: dict[str, Float[Tensor, "b c t h w"]],
        clean: Float[Tensor, "b c t h w"],
        sample: Int[Tensor, " b"],
    ) -> None:
        """Adds one batch, without waiting for the device.

        Args:
            estimates: one batch of clips per method.
            clean: the true clips.
            sample: index of each clip in its dataset.

        Raises:
            BadValue: other estimates than ``methods``.
        """
        check_methods(estimates, self.methods)
        fold = (sample.unsqueeze(0) % self.num_folds) == torch.arange(self.num_folds, device=sample.device).unsqueeze(1)
        member = fold.double()
        for i, clips in enumerate([clean, *(estimates[method] for method in self.methods)]):
            f = self.features(clips).double()
            self.sums[:, i] += member @ f.sum(1)
            self.products[:, i] += torch.einsum("kb,bde->kde", member, f.mT @ f)
        self.count += member.sum(1) * f.shape[1]

    def compute(self) -> dict[str, dict[str, float]]:
        """``{name: {value, low, high}}``; empty with less than 2 folds of clips, without a floor with less than 4."""
        folds = (self.count > 0).nonzero().flatten()
        if len(folds) < 2:
            return {}
        every = torch.zeros_like(self.count).index_fill_(0, folds, 1.0)
        left_out = every - torch.eye(self.num_folds, dtype=every.dtype, device=every.device)[folds]
        weights = torch.cat([every.unsqueeze(0), left_out])
        scale = self._gaussian(every.unsqueeze(0), 0)[1].diagonal(dim1=1, dim2=2).sqrt() if self.standardise else None
        truth = self._gaussian(weights, 0, scale)
        distance = {
            m: self._mean_distance(truth, self._gaussian(weights, i, scale)) for i, m in enumerate(self.methods, 1)
        }
        figures = {f"frechet/{m}": x for m, x in distance.items()}
        figures |= {f"frechet_ratio/{m}/{n}": error_ratio(distance[m], distance[n]) for m, n in self.pairs}
        table = {name: asdict(jackknife_interval(x[0], x[1:], self.confidence)) for name, x in figures.items()}
        return table | ({"frechet_floor": asdict(self._floor(folds, scale))} if len(folds) >= 4 else {})

    def _gaussian(
        self, weights: Float[Tensor, "r k"], source: int, scale: Float[Tensor, "1 d"] | None = None
    ) -> tuple[Float[Tensor, "r d"], Float[Tensor, "r d d"]]:
        """Mean and covariance over the folds that each row of ``weights`` takes, features divided by ``scale``."""
        count = (weights @ self.count).unsqueeze(1)
        mean = weights @ self.sums[:, source] / count
        product = torch.einsum("rk,kde->rde", weights, self.products[:, source])
        count = count.unsqueeze(2)
        cov = (product - count * mean.unsqueeze(1) * mean.unsqueeze(2)) / (count - 1)
        if scale is None:
            return mean, cov
        scale = scale.where(scale > 0, 1.0)  # a feature that is constant over the truth stays in its own units
        return mean / scale, cov / (scale.unsqueeze(1) * scale.unsqueeze(2))

    def _mean_distance(self, p: tuple[Tensor, Tensor], q: tuple[Tensor, Tensor]) -> Float[Tensor, " r"]:
        return frechet_distance(*p, *q) / (p[0].shape[1] if self.standardise else 1)

    def _floor(self, folds: Int[Tensor, " k"], scale: Float[Tensor, "1 d"] | None) -> Interval:
        generator = torch.Generator().manual_seed(0)
        orders = torch.rand(NUM_SPLITS, len(folds), generator=generator).argsort(1).to(folds.device)
        half = len(folds) // 2

        def gaussian(chosen: Tensor) -> tuple[Tensor, Tensor]:
            weights = torch.zeros(NUM_SPLITS, self.num_folds, dtype=torch.float64, device=folds.device)
            return self._gaussian(weights.scatter_(1, folds[chosen], 1.0), 0, scale)

        distance = self._mean_distance(gaussian(orders[:, :half]), gaussian(orders[:, half:]))
        return Interval(distance.mean().item(), distance.min().item(), distance.max().item())


def jackknife_interval(value: Float[Tensor, ""], left_out: Float[Tensor, " k"], confidence: float) -> Interval:
    """Normal interval of a figure that cannot be negative, from its values with one of k folds left out.

    The standard error is ``((k - 1) / k sum_i (x_i - mean x)^2)^1/2``.
    """
    error = ((len(left_out) - 1) * left_out.var(correction=0)).sqrt().item()
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * error
    return Interval(value.item(), max(value.item() - reach, 0.0), value.item() + reach)
