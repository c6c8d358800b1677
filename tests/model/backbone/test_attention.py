"""Kinds of attention inside Wan: order of tokens, weights and their names, training."""

import pytest
import torch
from diffusers import WanTransformer3DModel

from interp_refiner.assemble import assemble
from interp_refiner.config import Refused
from interp_refiner.config import build as build_node
from interp_refiner.model.attention import Dense, SparseLinear
from interp_refiner.model.backbone import Wan
from interp_refiner.training.optimizer import AdamW
from tests.config.small import small_config
from tests.factories import spec_of
from tests.model.backbone.made import made
from tests.model.backbone.small_wan import SIZE, clip, loss_and_gradients, small_wan

SPARSE = {"ratio": 0.5, "block_q": 8, "block_k": 4, "tile": [2, 2, 2]}


class TiledDense(Dense):
    """Dense attention over tokens in the order of tiles."""

    def order(self, grid, device):
        return SparseLinear(tile=[2, 3, 2]).order(grid, device)


def set_proj(model, value):
    with torch.no_grad():
        for block in model.wan.blocks:
            block.attn1.processor.layer.proj.weight.fill_(value)
    return model


def test_dense_attention_does_not_depend_on_the_order_of_tokens():
    corrupted = clip()
    raster, tiled = (loss_and_gradients(small_wan(attention=a), corrupted) for a in (Dense(), TiledDense()))
    torch.testing.assert_close(tiled, raster, atol=1e-6, rtol=1e-4)


def same_weights(attention):
    """A sparse-linear Wan with the other weights of ``small_wan()``."""
    model = small_wan(attention=attention)
    model.load_state_dict(small_wan().state_dict(), strict=False)
    return model


def test_all_blocks_and_a_zero_projection_make_the_dense_model():
    corrupted = clip()
    model = set_proj(same_weights(SparseLinear(1.0, 8, 4, [2, 2, 2])), 0.0)
    torch.testing.assert_close(model(corrupted), small_wan()(corrupted), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(set_proj(model, 0.1)(corrupted), small_wan()(corrupted), atol=1e-4)


def test_sparse_attention_is_another_function():
    corrupted = clip()
    model = set_proj(same_weights(SparseLinear(0.25, 8, 4, [2, 2, 2])), 0.0)
    assert not torch.allclose(model(corrupted), small_wan()(corrupted), atol=1e-4)


def test_the_projection_is_trained_saved_and_starts_at_zero():
    names = [f"wan.blocks.{i}.attn1.processor.layer.proj.weight" for i in range(3)]
    fresh = made(Wan, spec_of(), attention=SparseLinear(**SPARSE), **SIZE)
    state = fresh.state_dict()
    assert set(state) - set(small_wan().state_dict()) == set(names)
    assert all(torch.equal(state[name], torch.zeros(32, 32)) for name in names)
    groups = AdamW().optimizer(fresh).param_groups
    optimized = {id(p) for group in groups for p in group["params"]}
    assert all(id(fresh.get_parameter(name)) in optimized for name in names)
    _, gradients = loss_and_gradients(small_wan(attention=SparseLinear(**SPARSE)), clip())
    assert all(gradients[name].abs().sum() > 0 for name in names)


def test_a_pretrained_folder_is_loaded_into_a_sparse_model(tmp_path):
    saved = WanTransformer3DModel(in_channels=4, out_channels=4, text_dim=8, **SIZE)
    saved.save_pretrained(tmp_path)
    model = made(Wan, spec_of(), pretrained=str(tmp_path), attention=SparseLinear(**SPARSE))
    loaded = model.wan.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in saved.state_dict().items())


def test_the_config_chooses_attention_and_recomputation(tmp_path):
    choices = ["attention=sparse_linear", "attention.block_q=16", "attention.block_k=16"]
    run = assemble(small_config(tmp_path, "backbone=wan_tiny", *choices, "backbone/recomputation=selective"))
    layer = run.refiner.backbone.wan.blocks[0].attn1.processor.layer
    assert (layer.ratio, layer.block_q, layer.backend) == (0.1, 16, "auto")
    assert type(run.refiner.backbone.recomputation).__name__ == "SelectiveRecomputation"


def test_a_missing_extra_is_refused_before_a_model_is_built(tmp_path, monkeypatch):
    monkeypatch.setattr("interp_refiner.model.attention.backends._importable", lambda module: False)
    cfg = small_config(tmp_path, "attention.backend=flash4")
    with pytest.raises(Refused, match=r"attention: backend=flash4 needs flash-attn-4.*\[flash4\]"):
        build_node(cfg.attention)
