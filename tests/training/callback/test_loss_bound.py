"""debug=overfit: a loss that has to fall."""

from unittest.mock import create_autospec

import lightning as L
import pytest
import torch

from interp_refiner.core import BadValue, Stopped
from interp_refiner.training.callback import LossBound


def end_of(losses, **settings):
    callback = LossBound(**{"window": 5, "metric": "loss", **settings})
    trainer, module = create_autospec(L.Trainer, instance=True), L.LightningModule()
    trainer.callback_metrics, trainer.global_step = {}, len(losses)
    for value in losses:
        trainer.callback_metrics["loss"] = torch.tensor(value)
        callback.on_train_batch_end(trainer, module)
    callback.on_train_end(trainer, module)


def test_a_loss_that_falls_is_right_and_one_that_does_not_fails_the_run():
    noise = torch.rand(40, generator=torch.Generator().manual_seed(0)).mul(0.1).tolist()
    end_of([1 - i / 50 + n for i, n in enumerate(noise)])
    with pytest.raises(Stopped, match=r"loss has not fallen below 0\.6 of its start: .* after 40 steps") as stopped:
        end_of([1 - i / 200 + n for i, n in enumerate(noise)])
    assert stopped.value.exit_code == 3


def test_a_loss_that_is_not_a_number_has_not_fallen():
    with pytest.raises(Stopped, match="nan after 20 steps"):
        end_of([1.0] * 10 + [float("nan")] * 10)


def test_too_few_steps_judge_nothing():
    with pytest.raises(Stopped, match="logged in 9 steps; 10 are needed to judge it"):
        end_of([1.0, 0.1, 0.01] * 3)


@pytest.mark.parametrize("settings", [{"bound": 0.0}, {"bound": 1.0}, {"window": 0}])
def test_bounds_that_mean_nothing_are_refused(settings):
    with pytest.raises(BadValue, match=f"{next(iter(settings))}="):
        LossBound(**settings)
