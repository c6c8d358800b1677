"""A small :class:`Factorised` for tests."""

import torch

from interp_refiner.model.backbone import Factorised
from tests.factories import spec_of
from tests.model.backbone.made import made

SMALL = {"dim": 16, "num_layers": 2, "num_heads": 2}


def small_factorised(**overrides):
    """A network whose parameters are all random, so that zero-initialised paths are open."""
    torch.manual_seed(0)
    model = made(Factorised, spec_of(), **{**SMALL, **overrides})
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model
