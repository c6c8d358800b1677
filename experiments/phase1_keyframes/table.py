"""Evaluates runs from true keyframes and from proposals: python table.py <run folder> [<run folder> ...]."""

import sys

import torch

from interp_refiner.assemble import load_run
from interp_refiner.core import frame_mean, masked_mean
from interp_refiner.evaluation import by_level

BATCH = 32


@torch.no_grad()
def main(folders: list[str]) -> None:
    """Squared error of the one jump and of the interpolation on missing frames, and of the keyframes, by level."""
    print("run | keyframes | level | interpolated | refined | proposals | refined proposals")
    for folder in folders:
        for shown in (0.0, 1.0):
            key = "corruption.scheduled_sampling.probability.evaluation"
            run = load_run(folder, overrides={key: shown})
            run = run.showing(None, BATCH * run.num_levels)
            errors: dict[int, list[torch.Tensor]] = {}
            for _, level, corrupted in by_level(run):
                known, clean = corrupted.known, corrupted.clean
                refined = run.refiner.sample(corrupted, stream="val")
                pairs = [
                    (corrupted.interpolation, ~known),
                    (refined, ~known),
                    (corrupted.values, known),
                    (refined, known),
                ]
                errors.setdefault(level, []).append(
                    torch.stack([masked_mean(frame_mean((x - clean).square()), mask) for x, mask in pairs])
                )
            rows = {level: torch.cat(parts, 1).mean(1) for level, parts in sorted(errors.items())}
            rows["mean"] = torch.stack(list(rows.values())).mean(0)
            for level, figures in rows.items():
                name = "proposals" if shown else "truth"
                print(f"{folder} | {name} | {level} | " + " | ".join(f"{value:.4f}" for value in figures.tolist()))


if __name__ == "__main__":
    main(sys.argv[1:])
