"""Teachers and students of a few thousand parameters."""

import torch

from interp_refiner.model.objective import Preconditioned
from interp_refiner.model.sampler import Consistency, OneJump
from interp_refiner.training import Discrete, Distill, Refiner
from interp_refiner.training.optimizer import AdamW
from tests.factories import make_corruption, make_objective, random_clip, spec_of
from tests.model.backbone.small_wan import small_wan

BRIDGE = ["corruption/bridge_time=uniform", "corruption.sigma=0.7", "schedule.k_min=2", "schedule.num_levels=2"]


def teacher(corruption=None, **sizes):
    corruption = corruption or make_corruption(*BRIDGE)
    refiner = Refiner(
        small_wan(num_layers=1, **sizes), Preconditioned(spec_of(), 2, 1.0, 10.0), AdamW(), OneJump(), corruption
    )
    torch.nn.init.normal_(refiner.backbone.wan.proj_out.weight, std=0.1)
    torch.nn.init.normal_(refiner.objective.arc.log_variance, std=0.02)
    return refiner


def student(taught_by, corruption=None, objective="consistency", tangent=None, **sizes):
    corruption = corruption or taught_by.corruption
    parts = small_wan(num_layers=1, **sizes), make_objective(objective, 2), AdamW(), Consistency(), corruption
    made = Distill(*parts, teacher=taught_by, tangent=tangent or Discrete())
    made.log = made.log_dict = lambda *args, **kwargs: None
    return made


def corrupted(corruption, **fields):
    return corruption(random_clip(batch=2, frames=5, space=(4, 4), step=0, **fields), "train")
