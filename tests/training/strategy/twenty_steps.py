"""Fits of 20 steps. The program fits with compiled blocks on two processes and writes ``<folder>/compiled.pt``.

Graphs are captured and differentiated by the compiler and run by torch's own kernels, which needs no C++ compiler.
"""

import functools
import sys
from pathlib import Path

import torch

import interp_refiner.model.backbone.run_block as compiling
from tests.training.strategy.groups import Fit, dealt, fits_together

STEPS = 20
COMPILED = ["backbone.blocks.compile=true", "backbone/recomputation=selective"]
SHARED = ["trainer.strategy.size=2"]
REPLICAS = "trainer.strategy.replicas=2"
UNEVEN = ["data.writer.num_val=5", "data.val_samples=5"]  # clips to validate on: 3 + 2, or 2 + 1 + 1 + 1


def fit(name: str, strategy: str, world: int, *extra: str, micro: int = 1) -> Fit:
    return Fit(name, [*dealt(strategy, 4 // (world * micro), micro, world, STEPS, STEPS // 2), *UNEVEN, *extra])


def main(folder: Path) -> None:
    compiling.torch.compile = functools.partial(torch.compile, backend="aot_eager")
    fits = [
        fit("fsdp2, 2 processes, compiled", "fsdp2", 2, *COMPILED),
        fit("sequence, 2 processes, compiled", "sequence", 1, *SHARED, "trainer.devices=2", *COMPILED),
    ]
    torch.save(fits_together(fits, folder, 2, timeout=3000.0), folder / "compiled.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
