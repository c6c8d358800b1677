"""The base class of LightningModules that train a backbone: strategies, checkpoints, the optimizer."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from interp_refiner.core import Corrupted
from interp_refiner.model.attention import Flops
from interp_refiner.model.backbone import Backbone
from interp_refiner.training.optimizer import OptimizerRecipe


def shards(trainer: L.Trainer | None) -> bool:
    """Whether a trainer's strategy shards networks over processes, or their tokens."""
    return trainer is not None and hasattr(trainer.strategy, "parallelize")


class BackboneModule(L.LightningModule, ABC):
    """Trains a backbone. The data module delivers batches as :class:`Corrupted`.

    Args:
        backbone: the network.
        optimizer: optimizer and learning-rate schedule.
        saves_frozen: whether checkpoints include frozen weights, which is needed if these weights come from another run
            and not from ``pretrained``.
    """

    def __init__(self, backbone: Backbone, optimizer: OptimizerRecipe, saves_frozen: bool = False):
        super().__init__()
        self.backbone, self.recipe, self.saves_frozen = backbone, optimizer, saves_frozen

    @abstractmethod
    def seen_shape(self, corrupted: Corrupted) -> torch.Size:
        """The shape ``[b, c, t, *space]`` of the backbone's input for a training batch."""

    def step_flops(self, corrupted: Corrupted) -> float | None:
        """Operations of :meth:`training_step` and its backward pass on a batch; None if unknown.

        These are the model's operations, without recomputation, see :mod:`interp_refiner.model.attention.flops`.
        """
        forward = self.forward_flops(corrupted)
        return forward.training.total if forward is not None else None

    def forward_flops(self, corrupted: Corrupted) -> Flops | None:
        """Operations of one forward pass of the backbone on a batch; None if unknown."""
        text, shape = corrupted.clip.text, self.seen_shape(corrupted)
        return self.backbone.flops(shape[0], shape[1:], text.shape[1] if text is not None else 1)

    @property
    def networks(self) -> Sequence[nn.Module]:
        """The backbone and the other modules with weights that both training and validation run."""
        return [self.backbone]

    @property
    def beside(self) -> Sequence[nn.Module]:
        """Networks that only training runs, such as a teacher; checkpoints may or may not contain them."""
        return []

    def configure_model(self) -> None:
        """Lets the strategy shard all networks; Lightning calls this after the process group is initialised."""
        strategy: Any = self.trainer.strategy
        if shards(self.trainer):
            strategy.parallelize(*self.networks, beside=self.beside)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for name in () if self.saves_frozen else self.backbone.unchanged:
            checkpoint["state_dict"].pop(f"backbone.{name}", None)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] = self.with_unchanged(checkpoint.get("state_dict", {}))

    def with_unchanged(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights of a checkpoint, completed by the unchanged pretrained weights that it leaves out."""
        own, left_out = self.state_dict(), (f"backbone.{name}" for name in self.backbone.unchanged)
        return {**{name: own[name] for name in left_out}, **weights}

    def configure_optimizers(self) -> Any:
        return self.recipe.configure(self, self.trainer.max_steps)
