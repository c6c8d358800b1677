"""flow_warp_pixels against linear on held-out clips: python by_gap.py <checkpoint> <moving_shapes/val> <clips>."""

import sys

import torch

from interp_refiner.codec import PatchDCT
from interp_refiner.core import frame_mean, masked_mean
from interp_refiner.data import ShardDataset
from interp_refiner.interpolator import FlowWarp, InPixels, Linear

BATCH = 16


@torch.no_grad()
def main(checkpoint: str, root: str, clips: int) -> None:
    """Keyframes every g frames, the frames between them judged, for g = 2..8."""
    data = ShardDataset(root)
    codec = PatchDCT(data.metadata.latents_mean, data.metadata.latents_std)
    warp = InPixels(FlowWarp(channels=3, stride=2), codec, checkpoint)
    clean = torch.stack([data[index].latents.float() for index in range(clips)])
    for gap in range(2, 9):
        known = (torch.arange(clean.shape[2]) % gap == 0).expand(clips, -1)
        missing = ~known & (torch.arange(clean.shape[2]) < (clean.shape[2] - 1) // gap * gap)

        def error(interpolator, known=known, missing=missing):
            parts = zip(clean.split(BATCH), known.split(BATCH), strict=True)
            filled = torch.cat([interpolator(z, mask).latents for z, mask in parts])
            return masked_mean(frame_mean((filled - clean).square()), missing)

        warped, linear = error(warp), error(Linear())
        better = (warped < linear).float().mean()
        print(f"{gap} | {linear.mean():.4f} | {warped.mean():.4f} | {warped.mean() / linear.mean():.3f} | {better:.0%}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
