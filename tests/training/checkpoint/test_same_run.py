"""Resuming from a checkpoint: as the same run or not at all; a refused run leaves the folder unchanged."""

import hashlib
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint.state_dict import get_model_state_dict, get_optimizer_state_dict

from interp_refiner.assemble import assemble, load_run
from interp_refiner.config import save_config
from interp_refiner.core import AVERAGED, BadValue
from interp_refiner.train import fit, train
from interp_refiner.training.checkpoint import LAST_CHECKPOINT, AtomicCheckpointIO, check_state, start_from
from interp_refiner.training.checkpoint.sharded import write_sharded
from tests.config.small import small_config
from tests.training.checkpoint.runs import TINY

LIGHTNING = {"pytorch-lightning_version": "2.5.0", "loops": {}, "lr_schedulers": []}  # as its checkpoints have them


def config(place: Path, *overrides: str):
    return small_config(place, *TINY, f"paths.cache={place / 'cache'}", *overrides)


def save(run, folder: Path, **changed) -> None:
    """What training leaves in a run folder."""
    save_config(run.config, folder)
    states = [run.module.recipe.optimizer(run.module).state_dict()]
    content = {"state_dict": run.module.state_dict(), "optimizer_states": states, **LIGHTNING, **changed}
    AtomicCheckpointIO().save_checkpoint(content, folder / LAST_CHECKPOINT)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run with a checkpoint."""
    place = tmp_path_factory.mktemp("begun")
    run = assemble(config(place))
    save(run, Path(run.config.paths.output_dir))
    return run


def fingerprint(folder: Path) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["backbone.size.num_layers=3"], r"backbone\.size\.num_layers=3: expected 1, the value of .*"),
        (["backbone.size.ffn_dim=64"], r"backbone\.size\.ffn_dim=64: expected 32"),
        (["backbone/timestep=global"], r"backbone\.conditioning\.timestep\._target_=.*"),
        (["backbone.lora.rank=2"], r"backbone\.lora\.rank=2: expected None"),
        (["optimizer=muon"], r"optimizer\._target_=.*Muon: expected .*AdamW"),
        (["objective=clean"], r"objective\._target_=.*Clean: expected .*Correction"),
        (["objective.gate.bias=3"], r"objective\.gate\.bias=3: expected 2\.0, the value of"),
        (["objective.gate.groups=2"], r"objective\.gate\.groups=2: expected 1, the value of"),
        (["attention=sparse_linear"], r"attention\._target_=.*: expected .*Dense"),
    ],
)
def test_another_run_is_refused_before_anything_is_touched(begun, overrides, said):
    """Wherever the checkpoint is said to be."""
    place, folder = Path(begun.config.paths.log_dir).parent, Path(begun.config.paths.output_dir)
    cfg, before = config(place, *overrides), fingerprint(folder)
    places = ("last", str(folder), str(folder / LAST_CHECKPOINT))
    for where in places if "backbone.size.num_layers=3" in overrides else places[:1]:
        cfg.ckpt_path, cfg.paths.output_dir = where, str(folder)
        with pytest.raises(BadValue, match=said) as refused:
            train.program.check(cfg, {})
        assert "initial_weights=" in str(refused.value)
    assert fingerprint(folder) == before


FREE = [
    "optimizer.lr=1e-5",
    "optimizer.weight_decay=0.1",
    "data.batch_size=3",
    "trainer.max_steps=99",
    "trainer.devices=2",
    "strategy=ddp",
    "objective.temporal_weight=0.5",
    "objective/penalty=robust",
    "corruption.sigma=0.4",
    "seed=5",
    "backbone.blocks.compile=true",
    "backbone/recomputation=full",
    "sampler=bridge",
]


def test_what_may_change_may_change(begun):
    cfg = config(Path(begun.config.paths.log_dir).parent, "ckpt_path=last", *FREE)
    cfg.paths.output_dir = begun.config.paths.output_dir
    train.program.check(cfg, {})


def test_a_resumed_run_does_not_need_the_weights_it_started_from(begun, tmp_path, monkeypatch):
    class Reached(Exception):
        pass

    def reached(cfg):
        raise Reached

    monkeypatch.setattr("interp_refiner.train.assemble", reached)
    cfg = config(tmp_path, "ckpt_path=last", "initial_weights=gone")
    with pytest.raises(BadValue, match="initial_weights=gone"):
        fit(cfg, None)
    cfg.paths.output_dir = begun.config.paths.output_dir
    with pytest.raises(Reached):
        fit(cfg, None)


def test_a_fresh_start_has_nothing_to_be_held_against(tmp_path):
    train.program.check(config(tmp_path, "ckpt_path=last", "backbone.size.num_layers=3"), {})


def test_a_checkpoint_without_its_config_is_judged_by_its_tensors(begun, tmp_path):
    file = Path(begun.config.paths.output_dir) / LAST_CHECKPOINT
    check_state(file, begun.module)
    deeper = assemble(config(tmp_path, "backbone.size.num_layers=2"))
    with pytest.raises(BadValue, match=r"of this network: backbone\.wan\.blocks\.1\..* and \d+ more are missing"):
        check_state(file, deeper.module)
    other = assemble(config(tmp_path, "optimizer=muon"))
    with pytest.raises(BadValue, match="with the state of Joined"):
        check_state(file, other.module)


def test_a_sharded_checkpoint_is_judged_by_its_tensors_and_groups(begun, tmp_path):
    """As fsdp2 writes it: names and sizes are read, no numbers."""
    optimizer = begun.module.recipe.optimizer(begun.module)
    shards = {"state_dict": get_model_state_dict(begun.module)}
    states = {"optimizer_0": get_optimizer_state_dict(begun.module, optimizer)}
    write_sharded(shards | states, LIGHTNING, tmp_path / "whole.ckpt")
    check_state(tmp_path / "whole.ckpt", begun.module)
    deeper = assemble(config(tmp_path, "backbone.size.num_layers=2"))
    with pytest.raises(BadValue, match=r"of this network: backbone\.wan\.blocks\.1\..* and \d+ more are missing"):
        check_state(tmp_path / "whole.ckpt", deeper.module)
    with pytest.raises(BadValue, match="with the state of Joined"):
        check_state(tmp_path / "whole.ckpt", assemble(config(tmp_path, "optimizer=muon")).module)
    shards["state_dict"].pop("backbone.wan.proj_out.bias")
    write_sharded(shards | states, LIGHTNING, tmp_path / "partial.ckpt")
    with pytest.raises(BadValue, match=r"of this network: backbone\.wan\.proj_out\.bias is missing"):
        check_state(tmp_path / "partial.ckpt", begun.module)
    write_sharded({"state_dict": get_model_state_dict(begun.module)}, LIGHTNING, tmp_path / "weights.ckpt")
    check_state(tmp_path / "weights.ckpt", begun.module)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state, name: state.pop(name), r"backbone\.wan\.proj_out\.bias is missing"),
        (lambda state, name: state.update(extra=torch.ones(2)), "extra is unknown"),
        (
            lambda state, name: state.update({name: torch.ones(3)}),
            r"bias is \[3\] float32, not \[64\] float32",
        ),
        (lambda state, name: state.update({name: state[name].to(torch.int8)}), r"\[64\] int8, not \[64\] float32"),
        (
            lambda state, name: state.update({name: state[name] * torch.nan}),
            r"backbone\.wan\.proj_out\.bias holds NaN or infinity",
        ),
        (
            lambda state, name: state.update({"_orig_mod." + name: state.pop(name)}),
            r"remove _orig_mod\. from",
        ),
    ],
)
def test_a_run_whose_checkpoint_was_tampered_with_is_refused(begun, tmp_path, change, said):
    state = dict(begun.module.state_dict())
    change(state, "backbone.wan.proj_out.bias")
    save(begun, tmp_path / "run", state_dict=state)
    with pytest.raises(BadValue, match=rf"checkpoint=.*: expected the weights of the run that .*{said}") as refused:
        load_run(tmp_path / "run")
    assert "\n" not in str(refused.value)
    with pytest.raises(BadValue, match=said):
        check_state(tmp_path / "run" / LAST_CHECKPOINT, begun.module)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda weight: weight.index_fill(0, torch.tensor(3), torch.nan), "holds NaN or infinity"),
        (lambda weight: weight.index_fill(0, torch.tensor(3), -torch.inf), "holds NaN or infinity"),
        (lambda weight: weight.to(torch.int8), r"is \[64\] int8, not \[64\] float32"),
    ],
)
def test_a_new_run_does_not_start_from_broken_weights(begun, tmp_path, broken, said):
    name = "backbone.wan.proj_out.bias"
    state = begun.module.state_dict()
    save(begun, tmp_path / "run", state_dict={**state, name: broken(state[name])})
    fresh = assemble(config(Path(begun.config.paths.log_dir).parent)).module
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    with pytest.raises(BadValue, match=rf"^initial_weights=.*: expected the weights of a whole run: {name} {said}"):
        start_from(fresh, tmp_path / "run")
    assert all(torch.equal(value, before[name]) for name, value in fresh.state_dict().items())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1, 2], "a checkpoint of this project, with a mapping state_dict of tensors"),
        ({"epoch": 3}, "a checkpoint of this project, with a mapping state_dict of tensors"),
        ({"state_dict": {"weight": 3}}, "a checkpoint of this project, with a mapping state_dict of tensors"),
        ({"state_dict": {}, AVERAGED: [3]}, f"a checkpoint of this project, with a mapping {AVERAGED} of tensors"),
        ({"state_dict": {}, "made_by": Path("foreign")}, "a checkpoint of this project: it is damaged"),
    ],
)
def test_a_foreign_checkpoint_is_refused(begun, tmp_path, content, said):
    save_config(begun.config, tmp_path / "run")
    file = tmp_path / "run" / LAST_CHECKPOINT
    file.parent.mkdir()
    torch.save(content, file)
    with pytest.raises(BadValue, match=f"^checkpoint=.*: expected {said}"):
        load_run(tmp_path / "run")
    with pytest.raises(BadValue, match=f"^ckpt_path=.*: expected {said}"):
        check_state(file, begun.module)
    with pytest.raises(BadValue, match=f"^initial_weights=.*: expected {said}"):
        start_from(begun.module, tmp_path / "run")


@pytest.mark.parametrize("lacking", ["pytorch-lightning_version", "loops", "lr_schedulers", "optimizer_states"])
def test_a_checkpoint_of_weights_alone_is_not_resumed(begun, tmp_path, lacking):
    content = {"state_dict": begun.module.state_dict(), "optimizer_states": [], **LIGHTNING}
    del content[lacking]
    torch.save(content, tmp_path / "some.ckpt")
    with pytest.raises(BadValue, match=f"^ckpt_path=.*: it lacks {lacking}"):
        check_state(tmp_path / "some.ckpt", begun.module)


def test_moments_and_averages_of_other_sizes_are_not_resumed(begun, tmp_path):
    states = begun.module.recipe.optimizer(begun.module).state_dict()
    moments = [{**states, "state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.ones(3)}}}]
    name = next(iter(begun.module.state_dict()))
    for changed, said in (
        ({"optimizer_states": moments}, r"exp_avg of weight 0 is \[3\], not"),
        ({"optimizer_states": [3]}, "with the state of an optimizer"),
        ({AVERAGED: {name: torch.ones(3)}}, rf"averages of this network: {name} is \[3\]"),
    ):
        save(begun, tmp_path / "run", **changed)
        with pytest.raises(BadValue, match=f"^ckpt_path=.*{said}"):
            check_state(tmp_path / "run" / LAST_CHECKPOINT, begun.module)


def test_weights_of_a_deeper_network_are_not_taken_in_part(begun, tmp_path):
    deeper = assemble(config(tmp_path, "backbone.size.num_layers=2"))
    save(deeper, tmp_path / "deeper")
    fresh = assemble(config(Path(begun.config.paths.log_dir).parent))
    with pytest.raises(BadValue, match=r"initial_weights=.*: expected .*blocks\.1\..*unknown"):
        start_from(fresh.module, tmp_path / "deeper")
