"""Does the right caption help where keyframes leave the motion open?

    python experiments/captions/right_caption.py <run folder> [clips]

Held-out moving shapes with keyframes 0, 10 and 20 of 21. Error of the one jump inside the first gap, with each clip's
own caption, with that of another clip, and with none; paired bootstrap over clips.
"""

import sys
from dataclasses import replace

import torch
from tqdm import tqdm

from interp_refiner.assemble import load_run
from interp_refiner.core import Clip
from interp_refiner.evaluation.measures import Bootstrap, missing_frame_mse
from interp_refiner.evaluation.run.run import Run, load_text_encoder
from interp_refiner.model.sampler import one_jump

GAP = slice(0, 11)  # the first gap and its two keyframes
CAPTIONS = ("own", "another's", "none")


@torch.no_grad()
def errors(run: Run, clips: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean squared error in the first gap ``[clip, caption]``, and whether an object changes its heading inside it."""
    writer, encoder = run.data.source.writer, load_text_encoder(run)
    mean, std = (torch.tensor(v) for v in (run.spec.latents_mean, run.spec.latents_std))
    writer.codec.set_statistics(mean.tolist(), std.tolist())
    found, turning = [], []
    for keys, prompts, video in tqdm(writer.clips("val", clips), total=-(-clips // 16)):
        scene = writer.scenes("val", keys)
        step = scene.centre[:, :, GAP].diff(dim=2)
        changed = (step.diff(dim=2).norm(dim=-1) > 0.1).any(-1) & scene.present
        turning.append(changed.any(1))
        text = encoder.encode(prompts)
        level = torch.ones(len(keys), dtype=torch.long)
        corrupted = run.data.corruption(Clip(writer.codec.encode(video), keys, text=text, level=level), "val")
        row = []
        for words in (text, text.roll(1, 0), torch.zeros_like(text)):
            told = replace(corrupted, clip=replace(corrupted.clip, text=words))
            estimate = one_jump(run.refiner.clean_estimate, told)
            row.append(missing_frame_mse(estimate[:, :, GAP], corrupted.clean[:, :, GAP], corrupted.missing[:, GAP]))
        found.append(torch.stack(row, 1))
    return torch.cat(found).double(), torch.cat(turning)


def report(name: str, mse: torch.Tensor) -> None:
    """One line of the table: errors, and the relative change from the own caption to each other one."""
    weights = Bootstrap().weights(len(mse))
    means, resampled = mse.mean(0), weights @ mse / len(mse)
    cells = [f"{value:.4f}" for value in means.tolist()]
    for other in (1, 2):
        change = 100 * (resampled[:, 0] / resampled[:, other] - 1)
        low, high = Bootstrap().interval(change)
        share = (mse[:, 0] < mse[:, other]).double().mean()
        cells.append(f"{100 * (means[0] / means[other] - 1):+.2f}% [{low:+.2f}, {high:+.2f}], {share:.0%} of clips")
    print(f"| {name} | {len(mse)} | " + " | ".join(cells) + " |")


def main() -> None:
    """Prints the table."""
    run = load_run(sys.argv[1])
    mse, turning = errors(run, int(sys.argv[2]) if len(sys.argv) > 2 else 1024)
    print("| clips | n | own | another's | none | own against another's | own against none |")
    print("|---|---|---|---|---|---|---|")
    report("an object turns inside the gap", mse[turning])
    report("none turns", mse[~turning])
    report("all", mse)


if __name__ == "__main__":
    main()
