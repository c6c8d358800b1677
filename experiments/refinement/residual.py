"""Compares scales for the noise by how well a Gaussian of each scale fits the interpolation's residual.

``python experiments/refinement/residual.py [config overrides of the data]`` prints a Markdown table.
"""

import sys

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.assemble import forward_process
from interp_refiner.config import build
from interp_refiner.core import Clip
from interp_refiner.data.codec import declared_codec
from interp_refiner.evaluation.benchmarks.interpolators import HeldOutClips
from interp_refiner.evaluation.run.notebook import config

CLIPS = 128


def explained(residual: Float[Tensor, "n c h w"], scale: Float[Tensor, "n c h w"]) -> tuple[float, float, float]:
    """Nats per value under ``N(0, (a scale)^2)`` at the best ``a``, that ``a``, and the kurtosis of the ratio."""
    ratio = residual / scale
    square = ratio.square().mean()
    nats = scale.log().mean() + 0.5 * (square.log() + 1 + torch.tensor(2 * torch.pi).log())
    return nats.item(), square.sqrt().item(), (ratio.pow(4).mean() / square.square()).item()


@torch.no_grad()
def main() -> None:
    """Prints a row for every law of the noise and number of keyframes."""
    cfg = config("+experiment=gt_keyframes", *sys.argv[1:])
    codec = declared_codec(build(cfg.data).open().spec)
    corruption = forward_process(cfg.corruption, codec)
    clean, _ = HeldOutClips(cfg.data.root, "val", CLIPS).read()
    keys = [str(number) for number in range(len(clean))]
    print("| noise | keyframes | nats a value | residual / scale | kurtosis |\n|---|---|---|---|---|")
    for level in range(1, corruption.num_levels(clean.shape[2]) + 1):
        made = corruption(Clip(clean, keys, level=torch.full((len(clean),), level)), "val")
        residual, local = (x.transpose(1, 2)[made.missing] for x in (clean - made.interpolation, made.local_scale))
        of_channel = residual.square().mean((0, 2, 3)).sqrt().view(1, -1, 1, 1)
        scales = {
            "one amplitude": torch.ones_like(residual),
            "one amplitude for every channel": of_channel.expand_as(residual),
            "where hypotheses disagree": local,
        }
        for name, scale in scales.items():
            figures = " | ".join(f"{x:.2f}" for x in explained(residual, scale))
            print(f"| {name} | {int(made.known[0].sum())} | {figures} |")


if __name__ == "__main__":
    main()
