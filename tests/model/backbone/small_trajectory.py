"""A refiner of paths of a few thousand parameters, and corrupted paths on maps for it."""

import torch

from interp_refiner.core import ClipSpec
from interp_refiner.model.backbone import MapView, Trajectory
from tests.factories import corrupted_clip
from tests.model.backbone.made import made

MAP = MapView(dim=8, num_layers=2, window=3, places=4)
SIZES = {"dim": 32, "num_layers": 2, "num_heads": 2, "map": MAP}
MEAN, STD = [0.47, 0.51], [0.2, 0.25]
SPEC = ClipSpec((2, 21), context_shape=(4, 11, 11), latents_mean=MEAN, latents_std=STD)


def path(batch=3, size=11):
    """Corrupted random paths on random maps, start and goal marked at random cells."""
    generator = torch.Generator().manual_seed(1)
    maps = torch.rand(batch, 4, size, size, generator=generator)
    maps[:, 2:] = 0
    cells = torch.randint(size, (batch, 2, 2), generator=generator)
    for b in range(batch):
        for mark in range(2):
            maps[b, 2 + mark, cells[b, mark, 0], cells[b, mark, 1]] = 1
    corrupted, corruption, _ = corrupted_clip(space=(), channels=2, batch=batch, context=maps, text=None)
    return corrupted, corruption, cells


def trajectory(**overrides):
    torch.manual_seed(0)
    return made(Trajectory, SPEC, **{**SIZES, **overrides})


def perturbed(model):
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model
