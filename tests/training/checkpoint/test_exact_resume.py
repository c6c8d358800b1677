"""A run that is killed and resumed repeats the uninterrupted run bit for bit."""

from pathlib import Path

import pytest

from tests.training.checkpoint.runs import At, finish, kill, processes, record

pytestmark = pytest.mark.xdist_group("processes")  # one worker has their server


def killed_run(folder: Path, kills: list[tuple[int, str]], overrides: list[str], world: int) -> int:
    """A run killed at every one of ``kills`` in turn, then let to its end; returns how many kills there were."""
    survived = 0
    for batch, hook in kills:
        codes = finish(processes(folder, overrides, [At(batch, kill, hook, rank) for rank in range(world)], world))
        assert codes == [-9] * world, (folder / "printed_0.txt").read_text()[-2000:]
        survived += 1
    assert finish(processes(folder, overrides, (), world)) == [0] * world, (folder / "printed_0.txt").read_text()[
        -3000:
    ]
    return survived


def check_exact(folder: Path, kills: list[tuple[int, str]], overrides: list[str], world: int) -> int:
    codes = finish(processes(folder / "whole", overrides, (), world))
    assert codes == [0] * world, (folder / "whole" / "printed_0.txt").read_text()[-3000:]
    survived = killed_run(folder / "killed", kills, overrides, world)
    for rank in range(world):
        whole, resumed = record(folder / "whole", rank), record(folder / "killed", rank)
        assert list(whole)[-1] == "end"
        for batch, row in whole.items():
            assert resumed[batch] == row, f"process {rank}, batch {batch}"
        assert {epoch for row in whole.values() for epoch in row.get("epochs", [])} >= {0, 1}
        assert len({row["draws"] for row in whole.values() if "draws" in row}) == len(whole) - 1
    return survived


def test_one_process_killed_in_both_epochs_and_between_a_step_and_its_checkpoint(tmp_path):
    kills = [(3, "on_before_zero_grad"), (6, "on_train_batch_end")]
    assert check_exact(tmp_path, kills, [], world=1) == 2


def test_two_processes_killed_while_gradients_accumulate(tmp_path):
    """Batches 3 and 4 are step 3: the one after the end of an epoch, which is a step, too."""
    short = ["trainer.accumulate_grad_batches=2", "trainer.max_steps=4"]
    assert check_exact(tmp_path, [(3, "on_train_batch_end")], short, world=2) == 1


@pytest.mark.soak  # tests/training/strategy/test_parity.py goes on from the shards of a run that was not killed
def test_two_processes_with_a_shard_each_are_killed_before_they_save(tmp_path):
    """Step 4, after which they go on from step 2; an epoch is 3 steps."""
    short = ["trainer.max_steps=4", "checkpoint.every_n_steps=2"]
    assert check_exact(tmp_path, [(3, "on_save_checkpoint")], ["strategy=fsdp2", *short], world=2) == 1
