"""Every combination, killed again and again: ``make soak`` prints how many kills were survived."""

import pytest

from tests.checkpoint.test_exact_resume import check_exact

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
