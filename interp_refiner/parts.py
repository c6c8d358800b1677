"""What a LightningModule is built of."""

from functools import cached_property
from typing import Any

import torch
from omegaconf import DictConfig

from interp_refiner.attention import Attention
from interp_refiner.backbone import Backbone
from interp_refiner.corruption import Corruption
from interp_refiner.data import DatasetMetadata, ShardedDataModule
from interp_refiner.entry import build
from interp_refiner.entry.check import taken
from interp_refiner.objective import Objective
from interp_refiner.sampler import Sampler
from interp_refiner.training import OptimizerRecipe, check_method


class Parts:
    """What a LightningModule may ask for by the names of its constructor's arguments, built when it is asked for.

    Cheap and refusable things come first, the backbone last.
    """

    ORDER = ("optimizer", "sampler", "corruption", "num_levels", "objective", "backbone")

    def __init__(self, cfg: DictConfig, data: ShardedDataModule, device: str = "cpu"):
        self.cfg, self.data, self.device = cfg, data, device

    def of(self, node: DictConfig) -> dict[str, Any]:
        """The parts that the target of ``node`` has arguments for and ``node`` does not set."""
        return {name: getattr(self, name) for name in taken(node, self.ORDER)}

    @cached_property
    def optimizer(self) -> OptimizerRecipe:
        return build(self.cfg.optimizer)

    @cached_property
    def sampler(self) -> Sampler:
        return build(self.cfg.sampler)

    @property
    def corruption(self) -> Corruption:
        return self.data.corruption

    @cached_property
    def num_levels(self) -> int:
        return self.corruption.num_levels(self.data.metadata.num_frames)

    @cached_property
    def objective(self) -> Objective:
        return build(self.cfg.objective, **objective_sizes(self.cfg.objective, self.num_levels, self.data.metadata))

    @cached_property
    def backbone(self) -> Backbone:
        check_method(self.corruption, self.objective, self.sampler)
        with torch.device(self.device):
            return build(self.cfg.backbone, **self._declared(), **self._attention())

    def _declared(self) -> dict[str, Any]:
        """What data set, interpolator and objective declare of what a backbone has arguments for."""
        metadata = self.data.metadata
        declared = {
            "latent_channels": metadata.latent_shape[0],
            "text_dim": metadata.text_shape[1] if metadata.text_shape else 1,
            "num_hypotheses": (hypotheses := self.corruption.interpolator.num_hypotheses),
            "out_channels": self.objective.out_channels(metadata.latent_shape[0], hypotheses),
            "context_channels": metadata.context_shape[0] if metadata.context_shape else None,
            "latents_mean": metadata.latents_mean,
            "latents_std": metadata.latents_std,
        }
        return {name: declared[name] for name in taken(self.cfg.backbone, declared)}

    def _attention(self) -> dict[str, Attention]:
        """Of a backbone that has any; runs of before the group existed have the backbone's own."""
        wanted = "attention" in self.cfg and taken(self.cfg.backbone, ["attention"])
        return {"attention": build(self.cfg.attention)} if wanted else {}


def objective_sizes(node: DictConfig, num_levels: int, metadata: DatasetMetadata) -> dict[str, int]:
    """What an objective wants to know of the schedule and the data."""
    sizes = {"num_levels": num_levels, "latent_channels": metadata.latent_shape[0]}
    return {name: sizes[name] for name in taken(node, sizes)}
