"""A network that does not fit into memory is refused before its weights are drawn."""

import pytest

import interp_refiner.assemble as assembling
from interp_refiner.assemble import assemble
from interp_refiner.core import BadValue
from tests.config.small import small_config


@pytest.mark.parametrize("experiment", ["gt_keyframes", "keyframes"])
def test_a_network_larger_than_the_free_memory_is_refused(tmp_path, monkeypatch, experiment):
    cfg = small_config(tmp_path, f"+experiment={experiment}", "data.writer.num_train=2", "data.writer.num_val=2")
    module = assemble(cfg).module
    needed = sum(weight.nbytes for weight in module.backbone.parameters())
    monkeypatch.setattr(assembling, "free_memory", lambda: needed)
    assemble(cfg)
    monkeypatch.setattr(assembling, "free_memory", lambda: needed - 1)
    with pytest.raises(BadValue, match=r"^backbone=.* GB of weights: expected at most the .* free here"):
        assemble(cfg)
