"""Compares a refiner with ffmpeg on the same keyframes: ``python peer.py <clips> <data root> <run>``.

Prints PSNR and SSIM of decoded missing frames for all keyframe counts, means over clips.
"""

import sys
from collections import defaultdict

import torch
from torch import Tensor

from interp_refiner import load_run
from interp_refiner.evaluation.benchmarks.peers import Minterpolate
from interp_refiner.evaluation.measures import psnr, ssim
from interp_refiner.forward.interpolator import InPixels, Linear

PEERS = {"bidir, blocks of 8": ("bidir", 8), "bidir, blocks of 16": ("bidir", 16), "bilat, blocks of 16": ("bilat", 16)}


@torch.no_grad()
def main(clips: int, root: str, path: str) -> None:
    """Prints a Markdown table."""
    run = load_run(path, overrides={"data.root": root})
    data = run.data.validating(samples=clips)
    others = {"linear": Linear()} | {
        f"minterpolate, {name}": InPixels(Minterpolate(*setting)).with_codec(run.codec)
        for name, setting in PEERS.items()
    }
    found: dict[tuple[str, int], list[Tensor]] = defaultdict(list)
    for batch in data.val_dataloader():
        c = data.on_after_batch_transfer(batch, 0)
        rows = {name: interpolator(c.values, c.known).latents for name, interpolator in others.items()}
        rows |= {"the refiner's base": c.interpolation, "refined": run.refiner.sample(c, "val")}
        truth, missing = run.codec.decode(c.clean), c.missing.float()
        for name, latents in rows.items():
            video = run.codec.decode(latents)
            frames = torch.stack([psnr(video, truth), ssim(video, truth)], -1)
            means = (frames * missing[..., None]).sum(1) / missing.sum(1, keepdim=True)
            for level, mean in zip(c.level.tolist(), means, strict=True):
                found[name, level].append(mean)
    levels = sorted({level for _, level in found})
    counts = run.refiner.corruption.schedule.counts_for(data.spec.num_frames)
    print("| PSNR dB / SSIM | " + " | ".join(f"{counts[level]} keyframes" for level in levels) + " |")
    print("|---" * (1 + len(levels)) + "|")
    for row in dict.fromkeys(name for name, _ in found):
        means = [torch.stack(found[row, level]).mean(0).tolist() for level in levels]
        print(f"| {row} | " + " | ".join(f"{decibels:.2f} / {likeness:.4f}" for decibels, likeness in means) + " |")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
