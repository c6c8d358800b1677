"""A run folder whose data or weights have moved, or that an older version wrote."""

import shlex
import shutil

import pytest
import torch
from omegaconf import OmegaConf

from interp_refiner.assemble import assemble, load_phase1, load_run, located_weights, start
from interp_refiner.config import Refused, save_config
from interp_refiner.config.nodes import dotted
from interp_refiner.core import BadValue
from interp_refiner.train import train
from interp_refiner.training.checkpoint import (
    LAST_CHECKPOINT,
    SHIPPED_FOLDER,
    AtomicCheckpointIO,
    check_same_run,
    size_options,
    start_from,
)
from tests.config.small import small_config
from tests.training.checkpoint.runs import TINY


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A run folder with a checkpoint; its data has been moved to ``<folder>/moved``."""
    place = tmp_path_factory.mktemp("run")
    cfg = small_config(place, *TINY, f"paths.cache={place / 'cache'}")
    save_config(cfg, place / "run")
    run = assemble(cfg)
    AtomicCheckpointIO().save_checkpoint({"state_dict": run.module.state_dict()}, place / "run" / LAST_CHECKPOINT)
    shutil.move(cfg.data.root, place / "moved")
    config = OmegaConf.load(place / "run" / "config.yaml")
    config.data.writer = None
    OmegaConf.save(config, place / "run" / "config.yaml")
    return place / "run"


def test_the_error_names_the_key_to_override_and_the_override_works(run_folder):
    old, new = run_folder.parent / "cache" / "moving_shapes", run_folder.parent / "moved"
    with pytest.raises(BadValue) as caught:
        load_run(run_folder)
    assert str(caught.value).startswith(f"data.root={old}: expected a folder with train/ and val/")
    assert str(caught.value).endswith(f"it is from {run_folder / 'config.yaml'}, override data.root")
    run = load_run(run_folder, overrides=dotted(OmegaConf.create({"data": {"root": str(new)}})))
    saved = torch.load(run.checkpoint, weights_only=True)["state_dict"]
    assert all(torch.equal(value, saved[name]) for name, value in run.module.state_dict().items())


def test_pretrained_weights_that_have_moved_are_named(run_folder):
    overrides = {"data.root": str(run_folder.parent / "moved"), "backbone.pretrained": "/moved/wan"}
    with pytest.raises(BadValue, match=r"^backbone\.pretrained=/moved/wan: expected .*override backbone\.pretrained$"):
        load_run(run_folder, overrides=overrides)


def test_a_run_of_an_older_version_is_refused_in_one_line(run_folder, tmp_path):
    shutil.copytree(run_folder, tmp_path / "old")
    config = OmegaConf.load(tmp_path / "old" / "config.yaml")
    del config.corruption.drawn
    OmegaConf.save(config, tmp_path / "old" / "config.yaml")
    with pytest.raises(BadValue, match=r"^checkpoint=.*old: expected a run of this version; an older version wrote"):
        load_run(tmp_path / "old")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (
            "backbone.size.num_layers",
            [8],
            r"backbone\.size\.num_layers=\[8\]: expected an integer; it is from .*config\.yaml",
        ),
        ("corruption.noise", None, "corruption.noise=null: expected a component"),
        ("data.reading", 3, "data.reading=3: expected a component"),
    ],
)
def test_values_of_a_wrong_kind_are_refused_by_their_key(run_folder, key, value, said):
    overrides = {"data.root": str(run_folder.parent / "moved"), key: value}
    with pytest.raises(BadValue, match=f"^{said}"):
        load_run(run_folder, overrides=overrides)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("seed", "x", "seed=x: expected an integer"),
        ("seed", -1, "seed=-1: expected 0 to 4294967295"),
        ("training", None, "training=null: expected a component"),
        ("training._target_", 3.5, r"training\._target_=3\.5: expected the dotted path"),
        ("attention", None, "attention=null: expected a component"),
        ("attention.blocks", {"many": 3}, r"attention\.blocks: unknown argument of "),
        ("backbone", None, "backbone=null: expected a component"),
        ("backbone.lora", [1], r"backbone\.lora=\[1\]: expected "),
        ("corruption.drawn", None, "corruption.drawn=null: expected a component"),
        ("corruption", [1], r"corruption=\[1\]: expected a component"),
        ("data", 3, "data=3: expected a component"),
    ],
)
def test_a_config_edited_by_hand_is_refused_by_its_key_and_file(run_folder, tmp_path, key, value, said):
    shutil.copytree(run_folder, tmp_path / "run")
    file = tmp_path / "run" / "config.yaml"
    config = OmegaConf.load(file)
    OmegaConf.update(config, key, value, merge=False, force_add=True)
    OmegaConf.save(config, file)
    with pytest.raises((BadValue, Refused), match=f"^{said}.*; it is from {file}"):
        load_run(tmp_path / "run", overrides={"data.root": str(run_folder.parent / "moved")})


def test_a_run_is_not_resumed_from_a_config_edited_by_hand(run_folder, tmp_path):
    shutil.copytree(run_folder, tmp_path / "run")
    config = OmegaConf.load(tmp_path / "run" / "config.yaml")
    again = OmegaConf.merge(config, {"ckpt_path": str(tmp_path / "run")})
    check_same_run(again)
    OmegaConf.save(OmegaConf.merge(config, {"objective": 3}), tmp_path / "run" / "config.yaml")
    with pytest.raises(BadValue, match=r"^objective=3: expected a component.*config\.yaml$"):
        check_same_run(again)


@pytest.mark.parametrize("content", [b"corruption: {drawn", b"- 1", b"3", b"a: b: c", b"\xff\xfe", b"a: ${b"])
def test_a_damaged_config_is_refused_by_its_file(run_folder, tmp_path, content):
    shutil.copytree(run_folder, tmp_path / "run")
    (tmp_path / "run" / "config.yaml").write_bytes(content)
    said = "=.*config.yaml: expected a file that holds a mapping"
    with pytest.raises(BadValue, match=f"^checkpoint{said}"):
        load_run(tmp_path / "run")
    with pytest.raises(BadValue, match=f"^ckpt_path{said}"):
        check_same_run(small_config(tmp_path, *TINY, f"ckpt_path={tmp_path / 'run'}"))
    with pytest.raises(BadValue, match=f"^initial_weights{said}"):
        size_options(OmegaConf.create({}), tmp_path / "run")


KEYFRAMES = ["corruption.keyframe_fraction=0.5"]  # those that are replaced


def test_a_new_run_starts_from_the_weights_of_another_objective(run_folder, tmp_path):
    """Those that both have: the backbone, and what a bridge's objective has learned."""
    moved = f"data.root={run_folder.parent / 'moved'}"
    bridge = assemble(small_config(tmp_path, *TINY, moved, *KEYFRAMES, "objective=preconditioned"))
    state = {name: value + 0.125 for name, value in bridge.module.state_dict().items()}
    folder = tmp_path / "bridge"
    save_config(bridge.config, folder)
    AtomicCheckpointIO().save_checkpoint({"state_dict": state}, folder / LAST_CHECKPOINT)
    fresh = assemble(small_config(tmp_path / "new", *TINY, moved, *KEYFRAMES, "objective=energy_score"))
    start_from(fresh.module, folder)
    for name, value in fresh.module.state_dict().items():
        if name != "objective.gain":
            assert torch.equal(value, state[name]), name
    assert (fresh.refiner.objective.gain == 0.5).all()


def test_weights_of_another_backbone_are_refused(run_folder, tmp_path):
    moved = f"data.root={run_folder.parent / 'moved'}"
    wider = assemble(small_config(tmp_path, *TINY, moved, "backbone.size.ffn_dim=48"))
    with pytest.raises(BadValue, match=r"initial_weights=.*same backbone: \d+ of its weights .*: \[.*48.*\] here, \["):
        start_from(wider.module, run_folder)


GROWN = [
    "+experiment=gt_keyframes",
    "initial_weights=shipped",
    "backbone.size.dim=96",
    "backbone.size.num_heads=3",
    "data.writer.num_train=4",
]


def test_a_new_run_with_more_layers_starts_from_the_shipped_weights(tmp_path):
    """Further blocks start as the identity: the network is the same function, and their outputs have a gradient."""
    shipped = load_run("shipped").module
    num_layers = len(shipped.backbone.blocks) // 2 + 1
    deeper = assemble(small_config(tmp_path, *GROWN, f"backbone.size.num_layers={num_layers}"))
    batch = next(iter(deeper.data.val_dataloader()))
    corrupted = deeper.data.on_after_batch_transfer(batch, 0)
    assert not torch.equal(deeper.module.backbone(corrupted), shipped.backbone(corrupted))
    start(deeper.module, deeper.config)
    torch.testing.assert_close(deeper.module.backbone(corrupted), shipped.backbone(corrupted))
    deeper.module.clean_estimate(corrupted).square().mean().backward()
    for block in list(deeper.module.backbone.blocks)[len(shipped.backbone.blocks) :]:
        assert block.out.weight.grad.abs().sum() > 0


def test_a_shallower_network_does_not_take_the_shipped_weights(tmp_path):
    shallow = assemble(small_config(tmp_path, *GROWN, "backbone.size.num_layers=2"))
    with pytest.raises(BadValue, match=r"^initial_weights=shipped: expected a run of the same backbone: .*unknown"):
        start(shallow.module, shallow.config)


@pytest.mark.parametrize("network", [[], ["backbone=wan_tiny"]])
def test_a_refusal_of_another_size_names_the_options_that_fit(network, tmp_path):
    """With them the same command starts."""
    options = ["+experiment=gt_keyframes", "initial_weights=shipped", "data.writer.num_train=4", *network]
    small = assemble(small_config(tmp_path, *options))
    with pytest.raises(BadValue, match=r"; its size is (backbone=factorised )?backbone\.size\.dim=96 .*") as refused:
        start(small.module, small.config)
    assert "\n" not in str(refused.value)
    fitting = str(refused.value).partition("its size is ")[2].split()
    if not network:
        assert fitting == ["backbone.size.dim=96", "backbone.size.num_heads=3"]
    whole = assemble(small_config(tmp_path, *options, *fitting))
    start(whole.module, whole.config)
    assert torch.equal(whole.module.backbone.embed.bias, load_run("shipped").module.backbone.embed.bias)


def test_a_run_of_another_size_is_refused_with_its_options(run_folder, tmp_path):
    options = [*TINY, f"data.root={run_folder.parent / 'moved'}", f"initial_weights={run_folder}"]
    wider = assemble(small_config(tmp_path, *options, "backbone.size.ffn_dim=48"))
    with pytest.raises(BadValue, match=r"; its size is backbone\.size\.ffn_dim=32$"):
        start(wider.module, wider.config)


@pytest.mark.parametrize("experiment", ["gt_keyframes", "keyframes"])
def test_initial_weights_that_are_nowhere_are_refused(tmp_path, experiment):
    cfg = small_config(tmp_path, f"+experiment={experiment}", "initial_weights=shiped")
    with pytest.raises(BadValue, match=r"^initial_weights=shiped: .*shipped"):
        located_weights(cfg)


def test_a_generator_starts_from_the_shipped_one(tmp_path):
    options = ["+experiment=keyframes", "data=many_shapes", "data.writer.num_train=4", "initial_weights=shipped"]
    fresh = assemble(small_config(tmp_path, *options))
    start(fresh.module, fresh.config)
    shipped = load_phase1("shipped").source
    for part, trained in ((fresh.module.backbone, shipped.network), (fresh.module.flow, shipped.flow)):
        own = part.state_dict()
        assert all(torch.equal(own[name], value) for name, value in trained.state_dict().items())


@pytest.mark.parametrize(
    "other", ["generator=wan_small", "backbone.size.convolutions=null", "backbone.size.num_layers=2"]
)
def test_the_options_that_fit_the_shipped_generator_can_be_typed_as_they_are(other):
    def backbone(*overrides):
        return train.program.compose("+experiment=keyframes", *overrides).backbone

    folder = SHIPPED_FOLDER.parent / "moving_shapes_keyframes"
    advice = shlex.split(size_options(backbone(other), folder))
    assert advice
    assert size_options(backbone(other, *advice), folder) == ""


@pytest.mark.parametrize("backend", ["cudnn", "flash3"])
def test_a_run_trained_with_a_kernel_for_bfloat16_is_used_with_any(run_folder, tmp_path, backend):
    """On the CPU and in float32 this kernel is refused at the first forward, or at once where it is not installed."""
    shutil.copytree(run_folder, tmp_path / "run")
    config = OmegaConf.load(tmp_path / "run" / "config.yaml")
    config.attention.backend = backend
    OmegaConf.save(config, tmp_path / "run" / "config.yaml")
    moved = {"data.root": str(run_folder.parent / "moved")}
    run = load_run(tmp_path / "run", overrides=moved)
    assert run.config.attention.backend == run.refiner.backbone.attention.backend == "auto"
    batch = run.data.on_after_batch_transfer(next(iter(run.data.val_dataloader())), 0)
    assert run.refiner.clean_estimate(batch).isfinite().all()
    chosen = load_run(tmp_path / "run", overrides={**moved, "attention.backend": "sdpa"})
    assert chosen.refiner.backbone.attention.backend == "sdpa"
