"""A Wan of a few thousand parameters, and a corrupted clip for it."""

import torch
from diffusers import WanTransformer3DModel

from interp_refiner.model.backbone import Wan
from tests.factories import corrupted_clip, spec_of
from tests.model.backbone.made import made

SIZE = {"num_layers": 3, "num_attention_heads": 2, "attention_head_dim": 32, "ffn_dim": 64, "freq_dim": 32}


def small_wan(**overrides):
    """All of its parameters random, so that paths that start at zero are open."""
    torch.manual_seed(0)
    model = made(Wan, spec_of(), **{**SIZE, **overrides})
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def save_base(folder):
    """A transformer without anything added, as ``backbone.pretrained`` takes it for the clips of tests' runs."""
    torch.manual_seed(3)
    sizes = {"in_channels": 16, "out_channels": 16, "text_dim": 32, "patch_size": (1, 2, 2), "freq_dim": 64}
    sizes |= {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 32, "ffn_dim": 128}
    WanTransformer3DModel(**sizes).save_pretrained(folder)
    return ["objective=velocity", "corruption.keyframe_fraction=0.3", f"backbone.pretrained={folder}"]


def clip(frames=5, space=(8, 6)):
    return corrupted_clip("schedule.k_min=2", "schedule.num_levels=2", batch=2, frames=frames, space=space)[0]


def loss_and_gradients(model, corrupted):
    loss = model(corrupted).sub(corrupted.clean).square().mean()
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
