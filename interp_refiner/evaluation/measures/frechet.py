"""Frechet distance between the features of estimated and of true clips."""

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any, ClassVar, Literal, cast

import torch
import torch.distributed as dist
import torchmetrics
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp_refiner.core import BadValue, Interval, Measure, at_least
from interp_refiner.evaluation.measures.clip_features import ClipFeatures, RandomConvFeatures
from interp_refiner.evaluation.measures.metric import Batch, Design, Metric, Record, Table, checked
from interp_refiner.evaluation.measures.realism import REALISM
from interp_refiner.training.missing_frame import error_ratio

NUM_SPLITS = 8  # of the true clips into halves, for the floor
FLOOR = "halves of the truth"


def frechet_distance(
    mean_p: Float[Tensor, "*n d"],
    cov_p: Float[Tensor, "*n d d"],
    mean_q: Float[Tensor, "*n d"],
    cov_q: Float[Tensor, "*n d d"],
) -> Float[Tensor, "*n"]:
    """Squared Frechet (2-Wasserstein) distance of two Gaussians: Dowson and Landau, J. Multivariate Analysis 1982,

        |mu_p - mu_q|^2 + tr(C_p + C_q - 2 (C_p^1/2 C_q C_p^1/2)^1/2)

    Square roots use the eigen-decomposition of symmetric matrices; negative eigenvalues count as 0. So there may be
    fewer samples than features. The result is NaN if a covariance is not finite, because an estimate has diverged.
    """
    finite = (cov_p + cov_q).isfinite().all(-1).all(-1)
    cov_p, cov_q = (cov.where(finite[..., None, None], 0.0) for cov in (cov_p, cov_q))
    values, vectors = torch.linalg.eigh(cov_p)
    root = (vectors * values.clamp(min=0).sqrt().unsqueeze(-2)) @ vectors.mT
    product = root @ cov_q @ root
    cross = torch.linalg.eigvalsh((product + product.mT) / 2).clamp(min=0).sqrt().sum(-1)
    trace = (cov_p + cov_q).diagonal(dim1=-2, dim2=-1).sum(-1)
    return ((mean_p - mean_q).square().sum(-1) + trace - 2 * cross).clamp(min=0).where(finite, torch.nan)


class FrechetDistance(torchmetrics.Metric):
    """Frechet distance of several methods to the truth, a measure of realistic appearance and motion.

    Features are divided by their standard deviation over the true clips, and the distance by the number of features. So
    the result does not depend on scale; 1 means, for example, that every feature is off by one standard deviation:

        frechet(m)          = frechet_distance(truth, m) / d
        frechet_ratio(m, n) = frechet(m) / frechet(n)        (1 where both are 0)

    The additional method "halves of the truth" is the mean distance between random halves of the true clips, with the
    extremes as an interval.

    Estimates are compared with the truth of the same clips, so the truth itself has distance 0. The halves show the
    distance between different true clips (with half as many clips). Whole clips are compared, including keyframes; use
    one object per level.

    The index of a clip determines its fold. The state has the sums of features and of their products in every fold, in
    float64: the same on any number of processes. Intervals come from the delete-one-fold jackknife, paired over methods
    (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 11).

    Args:
        methods: the methods in every update.
        baselines: those of them that the others are compared with.
        features: see :class:`RandomConvFeatures`.
        standardise: False skips both divisions, as in the published FID and FVD.
        num_folds: at least 2; the state holds ``num_folds (methods + 1) d^2`` numbers.
        confidence: of the intervals.

    Raises:
        BadValue: fewer than 2 folds, a confidence outside 0..1, or a baseline that is not a method.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False

    count: Tensor
    sums: Tensor
    products: Tensor

    def __init__(
        self,
        methods: Sequence[str],
        baselines: Sequence[str],
        features: ClipFeatures,
        standardise: bool = True,
        num_folds: int = 16,
        confidence: float = 0.95,
    ):
        super().__init__()
        at_least(2, num_folds=num_folds)
        if not 0 < confidence < 1:
            raise BadValue("confidence", confidence, "a number between 0 and 1")
        self.methods, self.baselines = list(methods), list(baselines)
        self.features, self.standardise = features, standardise
        self.num_folds, self.confidence = num_folds, confidence
        shape, d = (num_folds, 1 + len(methods)), features.num_features
        self.add_state("count", torch.zeros(num_folds, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("sums", torch.zeros(*shape, d, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("products", torch.zeros(*shape, d, d, dtype=torch.float64), dist_reduce_fx="sum")

    def update(
        self,
        estimates: Mapping[str, Float[Tensor, "b c t h w"]],
        clean: Float[Tensor, "b c t h w"],
        sample: Int[Tensor, " b"],
    ) -> None:
        """Adds one batch, without a host sync.

        Args:
            estimates: one batch of clips per method.
            clean: the true clips.
            sample: index of each clip in its dataset.
        """
        fold = (sample.unsqueeze(0) % self.num_folds) == torch.arange(self.num_folds, device=sample.device).unsqueeze(1)
        member = fold.double()
        for i, clips in enumerate([clean, *(estimates[method] for method in self.methods)]):
            f = self.features(clips).double()
            self.sums[:, i] += member @ f.sum(1)
            self.products[:, i] += torch.einsum("kb,bde->kde", member, f.mT @ f)
        self.count += member.sum(1) * f.shape[1]

    def compute(self) -> list[Record]:
        """Records of ``frechet``; none with fewer than 2 folds of clips, no "halves of the truth" with fewer than 4."""
        folds = (self.count > 0).nonzero().flatten()
        if len(folds) < 2:
            return []
        every = torch.zeros_like(self.count).index_fill_(0, folds, 1.0)
        left_out = every - torch.eye(self.num_folds, dtype=every.dtype, device=every.device)[folds]
        weights = torch.cat([every.unsqueeze(0), left_out])
        scale = self._gaussian(every.unsqueeze(0), 0)[1].diagonal(dim1=1, dim2=2).sqrt() if self.standardise else None
        truth = self._gaussian(weights, 0, scale)
        distance = {
            m: self._mean_distance(truth, self._gaussian(weights, i, scale)) for i, m in enumerate(self.methods, 1)
        }
        figures: dict[tuple[str, str, str | None], Tensor] = {("frechet", m, None): x for m, x in distance.items()}
        for n in self.baselines:
            others = {m: x for m, x in distance.items() if m != n}
            figures |= {("frechet_ratio", m, n): error_ratio(x, distance[n]) for m, x in others.items()}
        intervals = {key: jackknife_interval(x[0], x[1:], self.confidence) for key, x in figures.items()}
        if len(folds) >= 4:
            floor = self._floor(folds, scale)
            intervals["frechet", FLOOR, None] = floor
            for n in self.baselines:
                whole = distance[n][0].item()
                ratio = (floor.value / whole, floor.low / whole, floor.high / whole) if whole > 0 else (math.nan,)
                intervals["frechet_ratio", FLOOR, n] = Interval(*ratio)
        return [Record(name, m, i.value, i.low, i.high, against) for (name, m, against), i in intervals.items()]

    def _gaussian(
        self, weights: Float[Tensor, "r k"], source: int, scale: Float[Tensor, "1 d"] | None = None
    ) -> tuple[Float[Tensor, "r d"], Float[Tensor, "r d d"]]:
        """Mean and covariance over folds weighted by each row of ``weights``; features are divided by ``scale``."""
        count = (weights @ self.count).unsqueeze(1)
        mean = weights @ self.sums[:, source] / count
        product = torch.einsum("rk,kde->rde", weights, self.products[:, source])
        count = count.unsqueeze(2)
        cov = (product - count * mean.unsqueeze(1) * mean.unsqueeze(2)) / (count - 1)
        if scale is None:
            return mean, cov
        scale = scale.where(scale > 0, 1.0)  # a feature that is constant over the truth is not scaled
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
    """Normal interval of a non-negative value, from its values with one of k folds left out.

    The standard error is ``((k - 1) / k sum_i (x_i - mean x)^2)^1/2``.
    """
    error = ((len(left_out) - 1) * left_out.var(correction=0)).sqrt().item()
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * error
    return Interval(value.item(), max(value.item() - reach, 0.0), value.item() + reach)


def distance_measure(name: str, heading: str, domain: Literal["pixels", "videos"], lead: bool = False) -> Measure:
    """A distance between distributions."""
    return Measure(name, heading, domain=domain, section=REALISM, compared="ratio", lead=lead)


class Frechet(Metric):
    """The :class:`FrechetDistance` at every level.

    Attributes:
        settings: arguments of every :class:`FrechetDistance`.

    Args:
        features: None for :class:`RandomConvFeatures` with the clips' number of channels.
    """

    measures: ClassVar[tuple[Measure, ...]] = (distance_measure("frechet", "Frechet", "videos", lead=True),)
    settings: ClassVar[dict[str, Any]] = {}

    def __init__(self, features: ClipFeatures | None = None):
        super().__init__()
        self.features = features

    def table(self, design: Design) -> Table:
        return FrechetTable(self, design)


class FrechetTable(nn.Module):
    """One :class:`FrechetDistance` per level, created when the level is first seen.

    With several processes, all must call ``compute``. It first agrees on the levels, so that no rank waits for ever.

    Args:
        metric: features and settings.
        design: methods and baselines.
    """

    def __init__(self, metric: Frechet, design: Design):
        super().__init__()
        self.metric, self.methods = metric, metric.judged(design.methods)
        self.baselines = [n for n in design.baselines if n in self.methods]
        self.levels = nn.ModuleDict()
        self.channels: dict[int, int] = {}  # of the clips, by level
        self.clips: dict[int, int] = {}

    def update(self, batch: Batch) -> None:
        """Adds a batch of one level; whole clips are compared, including keyframes."""
        level, clean = int(batch.level[0]), checked(batch, self.methods).clean
        self.clips[level] = self.clips.get(level, 0) + len(clean)
        self._at(level, clean.shape[1]).to(clean.device).update(batch.estimates, clean, batch.sample)

    def compute(self) -> list[Record]:
        """The records of every level, ascending."""
        for level, channels in sorted(self._seen_anywhere().items()):
            self._at(level, channels)
        name = self.metric.measures[0].name
        return [
            record._replace(
                measure=record.measure.replace("frechet", name, 1), level=level, clips=self.clips.get(level)
            )
            for level in sorted(map(int, self.levels))
            for record in cast(FrechetDistance, self.levels[str(level)]).compute()
        ]

    def _at(self, level: int, channels: int) -> FrechetDistance:
        """The :class:`FrechetDistance` of a level; created if there is none yet."""
        self.channels[level] = channels
        if str(level) not in self.levels:
            features = self.metric.features or RandomConvFeatures(channels)
            made = FrechetDistance(self.methods, self.baselines, features, **self.metric.settings)
            self.levels[str(level)] = made
        return cast(FrechetDistance, self.levels[str(level)])

    def _seen_anywhere(self) -> dict[int, int]:
        """The levels that any process has seen, with the channels of their clips."""
        seen: list[dict[int, int] | None] = [self.channels]
        if dist.is_available() and dist.is_initialized():
            seen = [None] * dist.get_world_size()
            dist.all_gather_object(seen, self.channels)
        return {level: channels for one in seen for level, channels in (one or {}).items()}
