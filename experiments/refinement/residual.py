"""Scales for the noise, judged by how well a Gaussian of each explains what the interpolation gets wrong.

``python experiments/refinement/residual.py [config overrides of the data]`` prints a Markdown table.
"""

import sys
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.assemble import forward_process
from interp_refiner.config import build
from interp_refiner.data.codec import declared_codec
from interp_refiner.evaluation.interpolator_table import held_out_clips
from interp_refiner.evaluation.notebook import config
from interp_refiner.forward.corruption import Disagreement
from interp_refiner.forward.schedule.uniform import evenly_spaced

CLIPS, COUNTS = 128, (5, 8)


def explained(residual: Float[Tensor, "n c h w"], scale: Float[Tensor, "n c h w"]) -> tuple[float, float, float]:
    """Nats a value under ``N(0, (a scale)^2)`` at the best ``a``, that ``a``, and the kurtosis that is left."""
    ratio = residual / scale
    square = ratio.square().mean()
    nats = scale.log().mean() + 0.5 * (square.log() + 1 + torch.tensor(2 * torch.pi).log())
    return nats.item(), square.sqrt().item(), (ratio.pow(4).mean() / square.square()).item()


@torch.no_grad()
def main() -> None:
    """Prints a row for every law of the noise and number of keyframes."""
    cfg = config("+experiment=gt_keyframes", *sys.argv[1:])
    spec = build(cfg.data).open().spec
    interpolator = forward_process(cfg.corruption, declared_codec(spec)).interpolator
    clean, _ = held_out_clips(Path(cfg.data.root), "val", CLIPS, None)
    print("| noise | keyframes | nats a value | residual / scale | kurtosis |\n|---|---|---|---|---|")
    for count in COUNTS:
        known = torch.zeros(len(clean), clean.shape[2], dtype=torch.bool)
        known[:, evenly_spaced(clean.shape[2], count)] = True
        made = interpolator(clean, known)
        residual = (clean - made.latents).transpose(1, 2)[~known]
        of_channel = residual.square().mean((0, 2, 3)).sqrt().view(1, -1, 1, 1)
        local = Disagreement().local_scale(made)
        assert local is not None
        scales = {
            "one amplitude": torch.ones_like(residual),
            "one amplitude for every channel": of_channel.expand_as(residual),
            "where hypotheses disagree": local.transpose(1, 2)[~known],
        }
        for name, scale in scales.items():
            print(f"| {name} | {count} | " + " | ".join(f"{x:.2f}" for x in explained(residual, scale)) + " |")


if __name__ == "__main__":
    main()
