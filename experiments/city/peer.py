"""Compares a refiner with ffmpeg on the same keyframes: ``python peer.py <clips> <data root> <run>``.

Prints PSNR and SSIM of decoded missing frames for all keyframe counts, means over clips.
"""

import sys

import torch
from by_level import ByLevel

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
    table = ByLevel()
    for batch in data.val_dataloader():
        c = data.on_after_batch_transfer(batch, 0)
        rows = {name: interpolator(c.values, c.known).latents for name, interpolator in others.items()}
        rows |= {"the refiner's base": c.interpolation, "refined": run.refiner.sample(c, "val")}
        truth, missing = run.codec.decode(c.clean), c.missing.float()
        for name, latents in rows.items():
            video = run.codec.decode(latents)
            frames = torch.stack([psnr(video, truth), ssim(video, truth)], -1)
            table.add(name, c.level, (frames * missing[..., None]).sum(1) / missing.sum(1, keepdim=True))
    counts = run.refiner.corruption.schedule.counts_for(data.spec.num_frames)
    table.print("PSNR dB / SSIM", counts, lambda row, level: "{:.2f} / {:.4f}".format(*table.mean(row, level)))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
