"""Evaluates runs from true keyframes and from proposals: python table.py <run folder> [<run folder> ...].

The last column compares with the last run on the same clips, with the 95% interval of the paired bootstrap over clips.
"""

import sys

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.assemble import load_run
from interp_refiner.core import frame_mean, masked_mean
from interp_refiner.evaluation import by_level
from interp_refiner.evaluation.statistics.bootstrap import paired_bootstrap

BATCH = 32


@torch.no_grad()
def errors(folder: str, shown: float) -> dict[str, Float[Tensor, "4 n"]]:
    """Squared errors of every clip by level, keyframes replaced by proposals with probability ``shown``.

    Of missing frames: interpolation, one jump. Of keyframes: as given, one jump. "mean" joins all levels.
    """
    run = load_run(folder, overrides={"corruption.scheduled_sampling.probability.evaluation": shown})
    run = run.showing(None, BATCH * run.num_levels)
    found: dict[str, list[Tensor]] = {}
    for _, level, corrupted in by_level(run):
        known, clean = corrupted.known, corrupted.clean
        refined = run.refiner.sample(corrupted, stream="val")
        pairs = [(corrupted.interpolation, ~known), (refined, ~known), (corrupted.values, known), (refined, known)]
        of_clips = torch.stack([masked_mean(frame_mean((x - clean).square()), mask) for x, mask in pairs])
        found.setdefault(str(level), []).append(of_clips)
    levels = {level: torch.cat(parts, 1) for level, parts in sorted(found.items())}
    return levels | {"mean": torch.stack(list(levels.values())).mean(0)}


def main(folders: list[str]) -> None:
    """One row for every run, kind of keyframes and level."""
    print("run | keyframes | level | interpolated | refined | proposals | refined proposals | refined / last run")
    for name, shown in (("truth", 0.0), ("proposals", 1.0)):
        runs = [errors(folder, shown) for folder in folders]
        for folder, levels in zip(folders, runs, strict=True):
            for level, figures in levels.items():
                ratio = paired_bootstrap(figures[1], runs[-1][level][1])
                row = " | ".join(f"{value:.4f}" for value in figures.mean(1).tolist())
                interval = f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"
                print(f"{folder} | {name} | {level} | {row} | {interval}")


if __name__ == "__main__":
    main(sys.argv[1:])
