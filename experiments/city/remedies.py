"""What parts of a refiner's mean are worth on held-out clips: ``python remedies.py <clips> <data root> <run> [<run>]``.

Prints the missing-frame error relative to the interpolation, for all keyframe counts: the mean, half of its step away
from the interpolation, its gate alone, and its correction alone. With two runs, also the average of their weights
(Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022).
"""

import sys

import torch
from by_level import ByLevel
from torch import Tensor

from interp_refiner import load_run
from interp_refiner.core import Corrupted
from interp_refiner.forward.interpolator import Linear
from interp_refiner.training import Refiner
from interp_refiner.training.missing_frame import missing_frame_mse


def estimates(refiner: Refiner, corrupted: Corrupted) -> dict[str, Tensor]:
    """The mean of a refiner, and what parts of it give."""
    output, channels = refiner.backbone(corrupted), corrupted.x.shape[1]
    correction, gate = output[:, :channels], output[:, channels:]
    estimate = refiner.objective.clean_estimate
    mean = estimate(output, corrupted)
    return {
        "mean": mean,
        "half of the step": torch.lerp(corrupted.interpolation, mean, 0.5),
        "gate alone": estimate(torch.cat([torch.zeros_like(correction), gate], 1), corrupted),
        "correction alone": estimate(torch.cat([correction, torch.zeros_like(gate)], 1), corrupted),
    }


@torch.no_grad()
def main(clips: int, root: str, paths: list[str]) -> None:
    """Prints a Markdown table."""
    runs = {path: load_run(path, overrides={"data.root": root} if path == paths[0] else {}) for path in paths}
    data = next(iter(runs.values())).data.validating(samples=clips)
    refiners = {path: run.refiner for path, run in runs.items()}
    if len(paths) == 2:
        both = load_run(paths[0]).refiner
        pairs = zip(*(refiner.state_dict().items() for refiner in refiners.values()), strict=True)
        both.load_state_dict({name: (a + b) / 2 if a.is_floating_point() else a for (name, a), (_, b) in pairs})
        refiners["average of the weights"] = both
    table = ByLevel()
    for batch in data.val_dataloader():
        c = data.on_after_batch_transfer(batch, 0)
        rows = {"interpolation": c.interpolation, "linear": Linear()(c.values, c.known).latents}
        for path, refiner in refiners.items():
            rows |= {f"{path}, {name}": estimate for name, estimate in estimates(refiner, c).items()}
        for row, estimate in rows.items():
            table.add(row, c.level, missing_frame_mse(c.keep_given(estimate), c.clean, c.missing))
    counts = refiners[paths[0]].corruption.schedule.counts_for(data.spec.num_frames)

    def relative(row: str, level: int) -> str:
        return f"{float(table.mean(row, level) / table.mean('interpolation', level)):.3f}"

    table.print(f"{clips} clips of {root}", counts, relative)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
