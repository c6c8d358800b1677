"""Stops a run whose loss does not fall."""

from typing import Any, final

import lightning as L

from interp_refiner.core import BadValue, Stopped


@final
class LossBound(L.Callback):
    """Stops a run whose loss has not fallen below a share of its initial value; for ``debug=overfit``.

    Args:
        bound: the mean over the last ``window`` steps must be below ``bound`` times the mean over the first ``window``.
        metric: the metric that must fall.
        window: number of steps in each mean.

    Raises:
        BadValue: a bound outside (0, 1), or a window below 1.
        Stopped: at the end of training, if the loss has not fallen, or there are too few values.
    """

    def __init__(self, bound: float = 0.6, metric: str = "train/error", window: int = 20):
        if not 0 < bound < 1:
            raise BadValue("bound", bound, "a share between 0 and 1")
        if window < 1:
            raise BadValue("window", window, "at least 1 step")
        self.bound, self.metric, self.window = bound, metric, window
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if self.metric in trainer.callback_metrics:
            self.losses.append(float(trainer.callback_metrics[self.metric]))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if len(self.losses) < 2 * self.window:
            raise Stopped(
                f"{self.metric} was logged in {len(self.losses)} steps; {2 * self.window} are needed to judge it"
            )
        first, last = (sum(part) / self.window for part in (self.losses[: self.window], self.losses[-self.window :]))
        if not last < self.bound * first:
            place = f"{last:.4g} after {trainer.global_step} steps, {first:.4g} at first"
            raise Stopped(f"{self.metric} has not fallen below {self.bound} of its start: {place}")
