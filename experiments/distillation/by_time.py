"""How far a student is from the teacher at every bridge time: ``python by_time.py <clips> <data root> <run> ...``.

Prints a Markdown table: the squared distance of ``f(x, tau)`` from the end of the teacher's ODE through ``x``, on the
missing frames of held-out clips with 8 keyframes, relative to the base's error. The first column is the teacher's own
estimate.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from measure import batches_of, held_out
from torch import Tensor

from interp_refiner import load_run
from interp_refiner.core import Corrupted
from interp_refiner.evaluation.records.markdown import markdown_table
from interp_refiner.training.missing_frame import missing_frame_mse
from interp_refiner.training.tangent import along

TIMES = (1.0, 0.9, 0.75, 0.5, 0.25, 0.125, 0.0625)
STEPS = 16  # the teacher's steps from tau = 1


def distances(estimates: dict[str, Callable], teacher: Callable, noised: Corrupted) -> dict[str, Tensor]:
    """Squared distances from the end of the teacher's ODE, ``[b]``, and the base's error."""
    steps = round(STEPS * noised.tau[0].item())
    end = along(teacher, noised, torch.zeros_like(noised.tau), steps).x
    made = {name: noised.keep_given(f(noised)) for name, f in estimates.items()}
    found = {name: missing_frame_mse(x, end, noised.missing) for name, x in made.items()}
    return found | {"base": missing_frame_mse(noised.interpolation, noised.clean, noised.missing)}


@torch.no_grad()
def main(clips: int, root: str, paths: list[str]) -> None:
    """Measures all students on the same clips and prints the table."""
    run, teacher = held_out(paths[0], root), load_run("shipped").refiner
    refiners = {"teacher": teacher} | {Path(path).name: load_run(path).refiner for path in paths}
    estimates = {name: partial(type(refiner).clean_estimate, refiner) for name, refiner in refiners.items()}
    sums: dict[float, dict[str, float]] = {tau: dict.fromkeys([*refiners, "base"], 0.0) for tau in TIMES}
    for batch in batches_of(run, clips, teacher.corruption):
        start = next(start for level, start, _ in batch if level == 1)
        for tau, row in sums.items():
            noised = teacher.corruption.renoised(replace(start, tau=torch.full_like(start.tau, tau)), "val")
            for name, error in distances(estimates, teacher.clean_estimate, noised).items():
                row[name] += error.sum().item()
    rows = [[f"{tau:g}", *(f"{row[name] / row['base']:.4f}" for name in refiners)] for tau, row in sums.items()]
    print(markdown_table(["tau", *refiners], rows))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
