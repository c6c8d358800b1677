"""A minimal program: ``python -m tests.config.toy_program``."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from omegaconf import DictConfig

from interp_refiner.config import Settings, build, main
from interp_refiner.data import BadSample, Unavailable

FAULTS = {"bad_data": BadSample, "no_answer": Unavailable}


@dataclass
class ToySettings(Settings):
    mode: Literal["run", "crash", "late", "exit75", "bad_data", "no_answer"] = "run"
    dry_run: bool = False


@main("toy", ToySettings, conf=Path(__file__).parent / "conf")
def toy(cfg: DictConfig) -> float:
    corruption = build(cfg.corruption)
    data = build(cfg.data, corruption=corruption, num_frames=21)
    trainer = build(cfg.trainer)
    if cfg.mode == "late":
        data.setup()
    if cfg.mode == "crash":
        raise ValueError("a bug of the program")
    if cfg.mode in FAULTS:
        raise FAULTS[cfg.mode]("shard-00000.tar", "clip-7", "why")
    if cfg.mode == "exit75":
        sys.exit(75)
    print(f"done: sigma {corruption.sigma}, {trainer.max_steps} steps")
    return corruption.sigma


if __name__ == "__main__":
    toy()
