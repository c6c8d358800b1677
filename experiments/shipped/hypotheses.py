"""The error of every hypothesis of the shipped model, relative to its base: what one law of motion alone is worth.

Arguments are overrides of ``interp_refiner.train`` for the data: ``data.root=data/shipped data.writer.num_train=3000``.
"""

import sys

import torch

from interp_refiner.assemble import load_run
from interp_refiner.evaluation import by_level
from interp_refiner.evaluation.measures import missing_frame_mse
from interp_refiner.evaluation.notebook import config


@torch.no_grad()
def main(clips: int = 64) -> None:
    """Prints one line a level: keyframes, then every hypothesis' mean squared error over that of the first."""
    run = load_run("shipped", overrides={"data": config(*sys.argv[1:]).data, "data.val_samples": clips}).in_batches(32)
    errors: dict[int, list[torch.Tensor]] = {}
    for _, level, c in by_level(run):
        by_hypothesis = [missing_frame_mse(made, c.clean, c.missing) for made in c.hypotheses.unbind(1)]
        errors.setdefault(level, []).append(torch.stack(by_hypothesis))
    for level, parts in sorted(errors.items()):
        mean = torch.cat(parts, 1).mean(1)
        print(level, " ".join(f"{ratio:.3f}" for ratio in (mean / mean[0]).tolist()))


if __name__ == "__main__":
    main()
