"""A network that does not fit into memory is refused before its weights are drawn."""

import pytest

import interp_refiner.training.weight_memory as memory
from interp_refiner.assemble import assemble
from interp_refiner.core import BadValue
from interp_refiner.storyboard import as_pipeline
from tests.config.small import small_config


@pytest.mark.parametrize("experiment", ["gt_keyframes", "keyframes"])
def test_a_network_larger_than_the_free_memory_is_refused(tmp_path, monkeypatch, experiment):
    cfg = small_config(tmp_path, f"+experiment={experiment}", "data.writer.num_train=2", "data.writer.num_val=2")
    module = assemble(cfg).module
    needed = sum(weight.nbytes for weight in module.backbone.parameters())
    monkeypatch.setattr(memory, "free_memory", lambda: needed)
    assemble(cfg)
    monkeypatch.setattr(memory, "free_memory", lambda: needed - 1)
    with pytest.raises(BadValue, match=r"^backbone=.* GB of weights: expected at most the .* free here"):
        assemble(cfg)


STUDENT = ["interpolator=linear", "backbone.size.dim=16", "backbone.size.num_layers=1", "backbone.size.num_heads=1"]
CLIPS = ["data.writer.num_train=2", "data.writer.num_val=2"]


@pytest.mark.parametrize(
    ("experiment", "networks", "named"),
    [("consistency", 2, "its teacher"), ("distribution_matching", 3, "its teacher and its fake network")],
)
def test_the_networks_beside_a_student_need_memory_too(tmp_path, monkeypatch, experiment, networks, named):
    bridge = assemble(small_config(tmp_path, "+experiment=gt_keyframes", *STUDENT, *CLIPS))
    folder = as_pipeline(bridge).save_pretrained(tmp_path / "exported")
    cfg = small_config(tmp_path, f"+experiment={experiment}", *STUDENT, *CLIPS, f"training.teacher={folder}")
    needed = networks * sum(weight.nbytes for weight in bridge.module.backbone.parameters())
    monkeypatch.setattr(memory, "free_memory", lambda: needed)
    assemble(cfg)
    monkeypatch.setattr(memory, "free_memory", lambda: needed - 1)
    with pytest.raises(BadValue, match=rf"^backbone=.* GB of weights of the student and {named}: expected at most"):
        assemble(cfg)
    assemble(cfg, trains=False)  # a student that is only used has neither
