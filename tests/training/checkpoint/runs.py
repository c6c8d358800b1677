"""Short runs of the whole program in separate processes, which start without imports and can be killed."""

import hashlib
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from interp_refiner.assemble import assemble
from interp_refiner.config import build, save_config
from interp_refiner.core import Stopped
from interp_refiner.training import Refiner
from interp_refiner.training.callback import EMA
from interp_refiner.training.checkpoint import check_state, resume_path, start_from, with_stored_adapters
from tests.clean_processes import start
from tests.config.small import small_config

# 6 clips in batches of 1: an epoch is 6 batches in one process and 3 in two
TINY = [
    "debug=limit",
    "trainer.max_epochs=-1",
    "trainer.limit_train_batches=null",
    "logger=none",
    "callback.progress=null",
    "callback.throughput=null",
    "callback.validation_table=null",
    "callback.validation_video=null",
    "scheduled_sampling=self",
    "scheduled_sampling.probability.end=0.5",
    "scheduled_sampling.probability.warmup_steps=6",
    "data.writer.num_train=6",
    "data.writer.num_val=2",
    "data.writer.height=16",
    "data.writer.width=16",
    "data.batch_size=1",
    "data.val_samples=2",
    "backbone=wan_tiny",
    "backbone.size.num_layers=1",
    "backbone.size.num_attention_heads=1",
    "backbone.size.ffn_dim=32",
    "optimizer.warmup_steps=2",
    "trainer.max_steps=8",
    "trainer.val_check_interval=4",
    "trainer.enable_progress_bar=false",
    "trainer.enable_model_summary=false",
    "checkpoint.every_n_steps=1",
]


def digest(tensors: Sequence[Tensor]) -> str:
    """Changes with any bit of any tensor; of a sharded one, of what this process has of it."""
    text = hashlib.blake2b(digest_size=8)
    for tensor in (t.to_local() if isinstance(t, DTensor) else t for t in tensors):
        text.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return text.hexdigest()


class Recorder(L.Callback):
    """Writes one line a batch, and one at the end, in which every bit that matters leaves a trace."""

    def __init__(self, file: Path):
        self.file = file

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        draws = [batch.x, batch.level, batch.known, batch.replaced, batch.tau]
        row = {"batch": trainer.fit_loop.epoch_loop.total_batch_idx, "step": trainer.global_step}
        row |= {"loss": float(outputs["loss"]).hex(), "keys": batch.clip.keys, "epochs": batch.clip.epochs}
        self.write({**row, "draws": digest(draws), "rate": trainer.optimizers[0].param_groups[0]["lr"]})

    def on_train_end(self, trainer, pl_module):
        ema = next(callback for callback in trainer.callbacks if isinstance(callback, EMA))
        average = [ema.average[name] for name in sorted(ema.average)]  # a sharded checkpoint has its own order
        end = {"weights": digest(list(pl_module.state_dict().values())), "ema": digest(average)}
        level_error = pl_module.objective.level_error if isinstance(pl_module, Refiner) else None
        running = [level_error.totals, level_error.counts] if level_error else [pl_module.flow.square]
        self.write({"batch": "end", **end, "errors": digest(running)})

    def write(self, row):
        with open(self.file, "a") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())


class At(L.Callback):
    """Does something in one hook at one batch of the run, in one process."""

    def __init__(self, batch: int, act: Callable[[], Any], hook: str = "on_train_batch_end", rank: int = 0):
        def when(trainer: L.Trainer, *_: Any) -> None:
            if trainer.fit_loop.epoch_loop.total_batch_idx == batch and trainer.global_rank == rank:
                act()

        setattr(self, hook, when)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fit(folder: Path, overrides: Sequence[str] = (), extra: Sequence[L.Callback] = (), rank: int = 0) -> L.Trainer:
    """Trains in the run folder ``folder/run``, from its last checkpoint if there is one; records in ``folder``."""
    cfg = small_config(folder, *TINY, f"paths.cache={folder.parent / 'cache'}", *overrides)
    callbacks = [build(node) for node in [*cfg.callback.values(), cfg.get("checkpoint")] if node is not None]
    callbacks += [Recorder(folder / f"record_{rank}.jsonl"), *extra]
    trainer = build(cfg.trainer, callbacks=callbacks, logger=False)
    checkpoint = resume_path("last", folder / "run")
    run = assemble(cfg if checkpoint is None else with_stored_adapters(cfg, checkpoint))
    if checkpoint is not None:
        check_state(checkpoint, run.module)
    elif cfg.initial_weights is not None:
        start_from(run.module, cfg.initial_weights)
    save_config(cfg, cfg.paths.output_dir)
    trainer.fit(run.module, datamodule=run.data, ckpt_path=checkpoint)
    return trainer


def processes(folder: Path, overrides: Sequence[str] = (), extra: Sequence[L.Callback] = (), world: int = 1) -> list:
    """Starts :func:`fit` in ``world`` processes of one gloo group."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob("done_*"):
        left.unlink()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return [start(_work, folder, overrides, extra, rank, world, port) for rank in range(world)]


def _work(
    folder: Path, overrides: Sequence[str], extra: Sequence[L.Callback], rank: int, world: int, port: int
) -> None:
    sys.stdout = sys.stderr = open(folder / f"printed_{rank}.txt", "a", buffering=1)  # noqa: SIM115
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, force=True)
    torch.set_num_threads(1)
    if world > 1:
        names = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": world, "NODE_RANK": 0}
        os.environ.update({name: str(value) for name, value in {**names, "LOCAL_RANK": rank}.items()})
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        chosen = [] if any(o.startswith("strategy=") for o in overrides) else ["strategy=ddp"]
        overrides = [*overrides, *chosen, f"trainer.devices={world}"]
    try:
        fit(folder, overrides, extra, rank)
    except Stopped as stopped:
        print(stopped)
        os._exit(stopped.exit_code)
    _leave_together(folder, rank, world)
    os._exit(0)


def _leave_together(folder: Path, rank: int, world: int, patience: float = 30.0) -> None:
    """A process that leaves closes its sockets, and what another has not read from them yet is lost (gloo)."""
    (folder / f"done_{rank}").touch()
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and not all((folder / f"done_{r}").exists() for r in range(world)):
        time.sleep(0.01)


def finish(started: list, timeout: float = 200.0) -> list[int]:
    """Exit codes. Once one process has ended on its own with an error, the others are killed, as launchers do."""
    for process in started:
        process.join(timeout)
    for process in started:
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode for process in started]


def record(folder: Path, rank: int = 0) -> dict[Any, dict[str, Any]]:
    """What was recorded, by batch; of a batch that was repeated after a kill, the last time."""
    rows = [json.loads(line) for line in (folder / f"record_{rank}.jsonl").read_text().splitlines()]
    return {row["batch"]: row for row in rows}
