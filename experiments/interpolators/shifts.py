"""Does sinkhorn follow shifts on Wan's grid, and how does this change its error on real frames?

    python experiments/interpolators/shifts.py <test_latents_wan.pth>

It prints, for noise and smooth noise of 60 x 104 latents (15 x 26 tokens) moved by whole tokens: the share of mass that
finds a partner, among the tokens whose partner is in the picture, and the largest error of their mean displacement. For
unrelated noise: the share that finds a partner nevertheless. For the real clip: missing-frame error relative to linear,
and the rank correlation of confidence and error, at gaps 2, 4 and 8.
"""

import sys
from math import inf

import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Tensor

from interp_refiner.forward.interpolator import Linear, Sinkhorn

ROWS, COLUMNS, SIDE = 15, 26, 4
SHIFTS = ((0, 1), (0, 2), (2, 2), (0, 4), (3, 3), (0, 6), (-3, 6))  # tokens, rows and columns
SETTINGS = (
    {"epsilon": 0.05, "distance_limit": inf},  # the earlier default
    {"epsilon": 0.05, "distance_limit": inf, "distance_weight": 0.01},
    {"epsilon": 0.05},
    {"epsilon": 0.04},
    {},
)


def worlds() -> list[Tensor]:
    """Noise, and noise blurred over 5 x 5 positions."""
    generator = torch.Generator().manual_seed(0)
    height, width = ROWS * SIDE + 64, COLUMNS * SIDE + 128
    rough = torch.randn(1, 16, height, width, generator=generator)
    smooth = F.avg_pool2d(torch.randn(1, 16, height + 4, width + 4, generator=generator), 5, stride=1)
    return [rough, smooth / smooth.std()]


def window(world: Tensor, dy: int = 0, dx: int = 0) -> Tensor:
    """The picture with its content moved by ``dy`` and ``dx`` tokens."""
    top, left = 32 - SIDE * dy, 64 - SIDE * dx
    return world[..., top : top + ROWS * SIDE, left : left + COLUMNS * SIDE]


def followed(sinkhorn: Sinkhorn, world: Tensor, dy: int, dx: int) -> tuple[float, float]:
    """The matched mass, and the largest error of a token's displacement."""
    plan = sinkhorn.plan(window(world), window(world, dy, dx))[0, :-1, :-1]
    mass = plan.sum(1)
    position = torch.cartesian_prod(torch.arange(float(ROWS)), torch.arange(float(COLUMNS)))
    moved = (plan @ position / mass.unsqueeze(1) - position).view(ROWS, COLUMNS, 2)
    rows, columns = (slice(max(0, -d), size - max(0, d)) for d, size in ((dy, ROWS), (dx, COLUMNS)))
    error = (moved - torch.tensor([float(dy), dx])).abs()[rows, columns].max()
    return float(mass.view(ROWS, COLUMNS)[rows, columns].mean()), float(error)


def on_real_frames(sinkhorn: Sinkhorn, clip: Tensor, gap: int) -> tuple[float, float]:
    """Error relative to linear, and rank correlation of confidence and error, at the missing frames."""
    known = torch.zeros(1, clip.shape[2], dtype=torch.bool)
    known[:, ::gap] = True
    missing = ~known[0] & (torch.arange(clip.shape[2]) < int(known[0].nonzero().max()))
    result, linear = sinkhorn(clip, known), Linear()(clip, known)
    error, reference = ((made.latents - clip)[:, :, missing].square().mean(1) for made in (result, linear))
    rank = spearmanr(result.confidence[:, missing].flatten(), error.flatten()).statistic
    return float(error.mean() / reference.mean()), float(rank)


def main() -> None:
    """Prints the table."""
    clip = torch.load(sys.argv[1], map_location="cpu", weights_only=True).float()
    unrelated = [
        torch.randn(1, 16, ROWS * SIDE, COLUMNS * SIDE, generator=torch.Generator().manual_seed(s)) for s in (1, 2)
    ]
    print(
        "| settings | "
        + " | ".join(f"{dy}, {dx}" for dy, dx in SHIFTS)
        + " | off by | unrelated | real, gaps 2 / 4 / 8 | rank |"
    )
    print("| --- |" + " ---: |" * (len(SHIFTS) + 4))
    for settings in SETTINGS:
        sinkhorn = Sinkhorn(**settings)
        found = [[followed(sinkhorn, world, *shift) for shift in SHIFTS] for world in worlds()]
        mass = [min(world[k][0] for world in found) for k in range(len(SHIFTS))]
        worst = max(error for world in found for _, error in world)
        by_chance = float(sinkhorn.plan(*unrelated)[0, :-1, :-1].sum()) / (ROWS * COLUMNS)
        real = [on_real_frames(sinkhorn, clip, gap) for gap in (2, 4, 8)]
        cells = [f"{share:.2f}" for share in mass] + [f"{worst:.2f}", f"{by_chance:.3f}"]
        cells += [" / ".join(f"{ratio:.3f}" for ratio, _ in real), " / ".join(f"{rank:.2f}" for _, rank in real)]
        name = ", ".join(f"{key} {value}" for key, value in settings.items()) or "the defaults"
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
