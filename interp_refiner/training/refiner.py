"""The LightningModule of the refiner: combines backbone, objective and sampler."""

import logging
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp_refiner.core import BadValue, Corrupted, Draws
from interp_refiner.forward.corruption import TRAIN_STREAM, Corruption
from interp_refiner.forward.scheduled_sampling import Proposals
from interp_refiner.model.backbone import Backbone
from interp_refiner.model.objective import Objective
from interp_refiner.model.sampler import Sampler
from interp_refiner.training.backbone_module import BackboneModule, shards
from interp_refiner.training.missing_frame import FIGURES, MissingFrameError
from interp_refiner.training.optimizer import OptimizerRecipe, steps
from interp_refiner.training.perceptual import Perceptual

log = logging.getLogger(__name__)


def check_method(corruption: Corruption, objective: Objective, sampler: Sampler) -> None:
    """Raises :class:`BadValue` for an objective or a sampler that is not defined for a corruption."""
    objective.check(corruption.sigma, corruption.scheduled_sampling.replaces, corruption.keyframe_fraction)
    sampler.check(corruption)
    name = type(objective).__name__
    if objective.fully_corrupted_only and not corruption.bridge_time.fully_corrupted:
        allowed = f"fully_corrupted with objective={name}, which is defined only at tau = 1"
        raise BadValue("corruption.drawn.bridge_time", type(corruption.bridge_time).__name__, allowed)
    if objective.fully_corrupted_only and sampler.leaves_start:
        allowed = f"one_jump with objective={name}, which is defined only at tau = 1 (or sampler.steps=1)"
        raise BadValue("sampler", type(sampler).__name__, allowed)
    if sampler.of_distilled and not objective.distilled:
        distilled = "(distilled: checkpoint=shipped_one_step, or training=distill)"
        allowed = f"bridge | one_jump with objective={name}: its estimates are means {distilled}"
        raise BadValue("sampler", type(sampler).__name__, allowed)
    if objective.distilled and sampler.leaves_start and not sampler.of_distilled:
        raise BadValue(
            "sampler", type(sampler).__name__, f"consistency with objective={name}: its estimates are samples"
        )
    if objective.estimates_finer and not sampler.descends:
        allowed = (
            f"hierarchical with objective={name}, whose estimate is the next finer level and not"
            " the clean clip (or objective=correction)"
        )
        raise BadValue("sampler", type(sampler).__name__, allowed)


def check_distilled(objective: Objective, distills: bool) -> None:
    """Raises :class:`BadValue` for a consistency objective without distillation, or distillation without one."""
    name = type(objective).__name__
    if objective.distilled and not distills:
        raise BadValue("training", "refiner", f"distill with objective={name}")
    if distills and not objective.distilled:
        raise BadValue("objective", name, "consistency | distribution_matching | rcm with training=distill")


def sampler_notes(objective: Objective, sampler: Sampler, corruption: Corruption, perceptual: bool) -> list[str]:
    """Notes if the steps of a sampler assume something for which a model was not trained.

    Args:
        objective, corruption: of the model.
        sampler: its own or another one.
        perceptual: whether a perceptual loss was added to the objective's.
    """
    other = ["training/perceptual"] * perceptual
    if objective.penalty is not None:
        other.append(f"objective/penalty={type(objective.penalty).__name__.lower()}")
    if not sampler.leaves_start:
        return []
    notes = []
    if other:
        notes.append(f"sampler: its steps assume that every estimate is the mean; with {' and '.join(other)} it is not")
    if corruption.bridge_time.fully_corrupted and not objective.distilled:
        notes.append("sampler: the model was trained at bridge time 1 only, and this sampler also uses times below 1")
    return notes


class Refiner(BackboneModule):
    """Trains a backbone to refine corrupted clips.

    Batches arrive as :class:`Corrupted`: the data module has applied the corruption on the device.

    Args:
        backbone: the network.
        objective: defines the meaning of its output, and the loss.
        optimizer: optimizer and learning-rate schedule.
        sampler: makes the clips of validation and prediction.
        corruption: the forward process, for samplers that re-corrupt.
        saves_frozen: see :class:`BackboneModule`.
        perceptual: a perceptual loss that training adds; None for none.

    Raises:
        BadValue: the objective or the sampler is not defined for this corruption, or the perceptual loss is not defined
            for this objective.
    """

    def __init__(
        self,
        backbone: Backbone,
        objective: Objective,
        optimizer: OptimizerRecipe,
        sampler: Sampler,
        corruption: Corruption,
        saves_frozen: bool = False,
        perceptual: Perceptual | None = None,
    ):
        super().__init__(backbone, optimizer, saves_frozen)
        check_method(corruption, objective, sampler)
        if perceptual is not None and objective.estimates_finer:
            allowed = "null with objective=adjacent, whose estimate is not a video"
            raise BadValue("training.perceptual", type(perceptual).__name__, allowed)
        if objective.zero_start:
            backbone.zero_output()
        self.objective, self.sampler, self.corruption = objective, sampler, corruption
        self.perceptual = perceptual
        self.validation_error = MissingFrameError(objective.num_levels)

    def configure_model(self) -> None:
        super().configure_model()
        if shards(self.trainer):
            self.objective.level_error.copies = self.trainer.strategy.sharing  # type: ignore[attr-defined]

    @property
    def networks(self) -> Sequence[nn.Module]:
        return [self.backbone, self.objective]

    @property
    def passes(self) -> int:
        """Forward passes of a training step whose activations are kept at the same time: one per sample of the loss."""
        return self.objective.samples

    def on_fit_start(self) -> None:
        for note in sampler_notes(self.objective, self.sampler, self.corruption, self.perceptual is not None):
            log.warning(note)

    def seen_shape(self, corrupted: Corrupted) -> torch.Size:
        return corrupted.x.shape

    def clean_estimate(self, corrupted: Corrupted) -> Float[Tensor, "b c t *space"]:
        """``z0_hat``, or with ``objective=adjacent`` the next finer level; used by training and by samplers."""
        return self.objective.clean_estimate(self.backbone(corrupted), corrupted)

    def sample(self, corrupted: Corrupted, stream: str = "sample") -> Float[Tensor, "b c t *space"]:
        """A clip sampled from its corruption at ``tau = 1``; given frames are equal bit for bit."""
        draws = Draws(self.corruption.seed, stream, corrupted.clip.keys)
        return self.sampler(self.clean_estimate, corrupted, draws, self.corruption)

    @torch.no_grad()
    def with_own_proposals(self, corrupted: Corrupted) -> Corrupted:
        """The same corruption with keyframes replaced by the model's prediction from one level coarser.

        A keyframe that also belongs to the coarser level is not predicted, so it has no proposal.
        """
        coarser = (corrupted.level + 1).clamp(max=corrupted.plan.num_levels)
        seen = self.corruption.at_level(corrupted, coarser, corrupted.clean)
        proposals = Proposals(self.clean_estimate(seen), corrupted.known & ~seen.known)
        return self.corruption.recorrupt(corrupted, proposals)

    def training_step(self, corrupted: Corrupted, batch_index: int) -> Tensor:
        if self.corruption.scheduled_sampling.from_model:
            corrupted = self.with_own_proposals(corrupted)
        if self.objective.estimates_finer:
            corrupted = self.corruption.with_finer(corrupted)
        names = (f"noise_{sample}" for sample in range(1, self.objective.samples))
        others = [self.corruption.renoised(corrupted, TRAIN_STREAM, name) for name in names]
        outputs = [(self.backbone(state), state) for state in (corrupted, *others)]
        loss = self.objective(*outputs[0], *outputs[1:])
        terms, total = {"train/error": loss.error, "train/temporal_error": loss.temporal}, loss.total
        if self.perceptual is not None:
            distance = self.perceptual(self.objective.clean_estimate(*outputs[0]), corrupted)
            terms["train/perceptual"] = distance.detach()
            total = total + self.perceptual.weight * distance
        size = corrupted.clip.batch_size
        self.log("train/loss", total, prog_bar=True, batch_size=size)
        self.log_dict(terms, batch_size=size)
        return total

    def step_flops(self, corrupted: Corrupted) -> float | None:
        forward = self.forward_flops(corrupted)
        if forward is None:
            return None
        predicted = forward.total if self.corruption.scheduled_sampling.from_model else 0.0
        beside = self.perceptual.flops if self.perceptual is not None else 0.0
        return self.objective.samples * forward.training.total + predicted + beside

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if steps(optimizer):
            self.objective.level_error.commit()
        else:
            self.objective.level_error.discard()

    def validation_step(self, corrupted: Corrupted, batch_index: int) -> Float[Tensor, "b c t *space"]:
        self.corruption.scheduled_sampling.check_shown(corrupted)
        estimate = self.sample(corrupted, stream="val")
        self.validation_error.update(
            estimate, corrupted.interpolation, corrupted.clean, corrupted.missing, corrupted.level
        )
        return estimate

    @property
    def metrics(self) -> list[str]:
        """The names of all figures that a validation may log."""
        levels = [*(f"level_{s}" for s in range(1, self.objective.num_levels + 1)), "mean"]
        return [f"val/{group}/{figure.name}" for group in levels for figure in FIGURES]

    def on_validation_epoch_end(self) -> None:
        results = {f"val/{name}": value for name, value in self.validation_error.compute().items()}
        self.validation_error.reset()
        self.log_dict(results)

    def predict_step(self, corrupted: Corrupted, batch_index: int) -> Float[Tensor, "b c t *space"]:
        return self.sample(corrupted)
