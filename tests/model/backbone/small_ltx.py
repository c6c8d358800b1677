"""An LTX of a few thousand parameters."""

import torch

from interp_refiner.model.backbone import LTX
from tests.factories import spec_of
from tests.model.backbone.made import made

SIZE = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 16}


def small_ltx(**overrides):
    """All of its parameters random, so that paths that start at zero are open."""
    torch.manual_seed(0)
    model = made(LTX, spec_of(), **{**SIZE, **overrides})
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model
