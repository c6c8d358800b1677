"""Several short fits in one group of processes, because starting processes takes most of the time."""

import logging
import os
import re
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from interp_refiner.assemble import assemble
from interp_refiner.config import build, save_config
from interp_refiner.training.callback import EMA
from interp_refiner.training.checkpoint import resume_path
from tests.clean_processes import start
from tests.config.small import small_config
from tests.training.checkpoint.runs import TINY, finish

# 8 clips in global batches of 4; 3 clips to validate on, so that two processes have
# different numbers of validation batches.
PARITY = [
    "backbone.size.num_layers=2",
    "backbone.size.num_attention_heads=2",
    "data.writer.num_train=8",  # Lightning steps at the end of an epoch, however few micro-batches there were
    "data.writer.num_val=4",
    "data.val_samples=3",
    "data.val_batch_size=2",
    "trainer.limit_val_batches=null",
    "callback.watchdog=null",
    "scheduled_sampling.probability.warmup_steps=2",
]


@dataclass
class Fit:
    """One fit, and what is left of it.

    Attributes:
        name: of the run, as a table has it.
        overrides: of its config.
        resume: a run folder or checkpoint to go on from, relative to the folder of all fits.
    """

    name: str
    overrides: Sequence[str] = ()
    resume: str | None = None
    extra: Sequence[L.Callback] = field(default_factory=list)

    @property
    def folder(self) -> str:
        """Its name without what an override of a path must not have, such as commas."""
        return re.sub(r"\W+", "_", self.name)


class Losses(L.Callback):
    """The mean loss of every optimizer step over its micro-batches in this process, by which Lightning has divided."""

    def __init__(self) -> None:
        self.parts: list[float] = []
        self.by_step: dict[int, float] = {}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.parts.append(float(outputs["loss"]))
        if len(self.parts) == trainer.accumulate_grad_batches:
            self.by_step[trainer.global_step] = sum(self.parts)
            self.parts = []


def whole(value: Tensor) -> Tensor:
    """A tensor gathered from all processes, where it is sharded."""
    return (value.full_tensor() if isinstance(value, DTensor) else value).detach().clone()


def run(fit: Fit, folder: Path) -> dict[str, Any]:
    """Trains and returns losses by step, validation figures, weights and averages."""
    cfg = small_config(folder / fit.folder, *TINY, *PARITY, f"paths.cache={folder / 'cache'}", *fit.overrides)
    losses = Losses()
    callbacks = [build(node) for node in [*cfg.callback.values(), cfg.get("checkpoint")] if node is not None]
    trainer = build(cfg.trainer, callbacks=[*callbacks, losses, *fit.extra], logger=False)
    assembled = assemble(cfg)
    save_config(cfg, cfg.paths.output_dir)
    start = None if fit.resume is None else resume_path(str(folder / fit.resume), folder)
    trainer.fit(assembled.module, datamodule=assembled.data, ckpt_path=start)
    trainer.validate(assembled.module, datamodule=assembled.data, verbose=False)
    ema = next(callback for callback in trainer.callbacks if isinstance(callback, EMA))
    return {
        "losses": losses.by_step,
        "figures": {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")},
        "weights": {name: whole(value) for name, value in assembled.module.state_dict().items()},
        "ema": {name: whole(value) for name, value in ema.average.items()},
    }


def together(
    work: Callable[[int], Any], folder: Path, world: int, environment: dict[str, str] | None = None, timeout=200.0
) -> list[Any]:
    """What ``work(rank)`` returns in each of ``world`` processes that can meet in one gloo group."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = [start(_work, work, folder, rank, world, port, environment or {}) for rank in range(world)]
    codes = finish(started, timeout)
    printed = "\n".join((folder / f"printed_{rank}.txt").read_text()[-3000:] for rank in range(world))
    assert codes == [0] * world, printed
    return [torch.load(folder / f"result_{rank}.pt", weights_only=False) for rank in range(world)]


def _work(work: Callable[[int], Any], folder: Path, rank: int, world: int, port: int, environment: dict) -> None:
    sys.stdout = sys.stderr = open(folder / f"printed_{rank}.txt", "w", buffering=1)  # noqa: SIM115
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, force=True)
    torch.set_num_threads(1)
    names = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": world, "RANK": rank, "NODE_RANK": 0}
    os.environ.update({name: str(value) for name, value in {**names, "LOCAL_RANK": rank}.items()})
    os.environ.update({"GLOO_SOCKET_IFNAME": "lo", **environment})
    torch.save(work(rank), folder / f"result_{rank}.pt")
    os._exit(0)


def fits_together(fits: Sequence[Fit], folder: Path, world: int, timeout: float = 200.0) -> dict[str, dict[str, Any]]:
    """The fits one after another in one group of processes, by name; losses are means over the processes."""

    def work(rank: int) -> dict[str, Any]:
        return {fit.name: run(fit, folder) for fit in fits}

    by_rank = together(work, folder / f"group_{world}", world, timeout=timeout)
    found = by_rank[0]
    for name, result in found.items():
        every = [results[name]["losses"] for results in by_rank]
        result["losses"] = {step: sum(losses[step] for losses in every) / world for step in every[0]}
    return found


def dealt(strategy: str, batch: int, micro: int, world: int, steps: int, every: int) -> list[str]:
    """Overrides for ``steps`` steps of a global batch that is dealt over processes and micro-batches."""
    return [
        f"strategy={strategy}",
        f"trainer.devices={world}",
        f"data.batch_size={batch}",
        f"trainer.accumulate_grad_batches={micro}",
        f"trainer.max_steps={steps}",
        f"checkpoint.every_n_steps={every}",
        f"trainer.val_check_interval={steps * micro}",
    ]


# of a run from whose checkpoints none goes on: writing shards takes half of its time
UNSAVED = ["~checkpoint", "callback.best_checkpoint=null"]


def difference(found: dict[Any, Any], expected: dict[Any, Any]) -> float:
    """The largest difference of two dicts of numbers or tensors, over the names of the first."""
    assert found
    return max(float((torch.as_tensor(v) - torch.as_tensor(expected[name])).abs().max()) for name, v in found.items())
