"""Every combination, killed repeatedly: ``make soak`` prints how many resumed runs are equal."""

import pytest

from interp_refiner.training.checkpoint import sharded
from tests.training.checkpoint.runs import At, finish, kill, processes, record
from tests.training.checkpoint.test_exact_resume import check_exact

HOOKS = ("on_train_batch_start", "on_before_backward", "on_train_batch_end")  # of every batch
BATCHES = {1: range(1, 7), 2: range(1, 11, 2)}  # by accumulation; 8 steps take 8 or 16


@pytest.mark.soak
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("world", [1, 2])
def test_every_kill_is_survived_exactly(tmp_path, world, accumulate, capsys):
    """Before, in and after a batch in turn, over more than one epoch; each resumed run is killed at the next one."""
    kills = [(batch, HOOKS[place % len(HOOKS)]) for place, batch in enumerate(BATCHES[accumulate])]
    survived = check_exact(tmp_path, kills, [f"trainer.accumulate_grad_batches={accumulate}"], world)
    with capsys.disabled():
        print(f"\n{world} process(es), accumulation {accumulate}: {survived} of {len(kills)} kills survived exactly")
    assert survived == len(kills)


SHARDED = {
    "fsdp2": ["strategy=fsdp2"],
    "fsdp2, accumulation 2": ["strategy=fsdp2", "trainer.accumulate_grad_batches=2"],
    "hsdp, 2 replicas": ["strategy=hsdp", "trainer.strategy.replicas=2"],
    "sequence": ["strategy=sequence", "backbone.size.num_attention_heads=2"],
}


@pytest.mark.soak
@pytest.mark.parametrize("name", SHARDED)
def test_every_kill_of_a_sharded_run_is_survived_exactly(tmp_path, name, capsys):
    """As above, and before a checkpoint is written, so that the one before it is used."""
    hooks = (*HOOKS, "on_save_checkpoint")
    batches = BATCHES[2] if "accumulation" in name else BATCHES[1]
    kills = [(batch, hooks[place % len(hooks)]) for place, batch in enumerate(batches)]
    survived = check_exact(tmp_path, kills, SHARDED[name], world=2)
    with capsys.disabled():
        print(f"\n2 processes, {name}: {survived} of {len(kills)} kills survived exactly")
    assert survived == len(kills)


@pytest.mark.soak
def test_a_process_killed_before_a_sharded_checkpoint_has_its_name_costs_only_that_checkpoint(tmp_path, monkeypatch):
    """The first process dies when all shards are written, at three steps in turn; the other one loses its group."""
    assert finish(processes(tmp_path / "whole", ["strategy=fsdp2"], (), world=2)) == [0, 0]
    for batch in (1, 3, 6):
        torn = At(batch, lambda: monkeypatch.setattr(sharded, "_replace", lambda new, path: kill()))
        assert finish(processes(tmp_path / "killed", ["strategy=fsdp2"], [torn], world=2), 60)[0] == -9
        left = sorted(path.name for path in (tmp_path / "killed" / "run" / "checkpoints").glob("step_*"))
        assert left[-1] == f"step_{batch + 1:06d}.ckpt.partial"
    assert finish(processes(tmp_path / "killed", ["strategy=fsdp2"], (), world=2)) == [0, 0]
    for rank in range(2):
        whole, resumed = record(tmp_path / "whole", rank), record(tmp_path / "killed", rank)
        assert whole == {batch: resumed[batch] for batch in whole}
