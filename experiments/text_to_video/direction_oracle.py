"""What a direction is worth to squared error: ``python experiments/text_to_video/direction_oracle.py``.

Of clips with a single object, an MLP predicts where the object is in the last keyframe: how much of every cell of 4 x 4
pixels it covers. It knows the object's place, size and velocity in the first keyframe or only its place and size, with
and without the net direction that a caption names. Prints the share of the variance that is explained.
"""

import torch
from torch import Tensor, nn

from interp_refiner.config import build
from interp_refiner.evaluation.run.notebook import config

CLIPS, HELD_OUT, CELL, STEPS = 40000, 4000, 4, 3000


def cover(centre: Tensor, radius: Tensor, height: int, width: int) -> Tensor:
    """The share of every cell that a disc covers, flat."""
    y = torch.arange(CELL / 2 - 0.5, height, CELL).view(-1, 1)
    x = torch.arange(CELL / 2 - 0.5, width, CELL)
    distance = ((x - centre[:, 0].view(-1, 1, 1)) ** 2 + (y - centre[:, 1].view(-1, 1, 1)) ** 2).sqrt()
    return torch.sigmoid((radius.view(-1, 1, 1) - distance) / (CELL / 4)).flatten(1)


def explained(known: Tensor, target: Tensor) -> float:
    """The share of a held-out target's variance that an MLP explains."""
    torch.manual_seed(0)
    known = (known - known.mean(0)) / known.std(0).clamp(min=1e-6)
    network = nn.Sequential(nn.Linear(known.shape[1], 256), nn.SiLU(), nn.Linear(256, 256), nn.SiLU())
    network.append(nn.Linear(256, target.shape[1]))
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        rows = torch.randint(HELD_OUT, len(known), (512,))
        loss = (network(known[rows]) - target[rows]).square().sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        error = (network(known[:HELD_OUT]) - target[:HELD_OUT]).square().sum(1).mean()
    spread = (target[:HELD_OUT] - target[HELD_OUT:].mean(0)).square().sum(1).mean()
    return 1 - float(error / spread)


def main() -> None:
    """Prints a Markdown table."""
    world = build(config("+experiment=keyframes", "data=many_shapes", "data.writer.world.max_objects=1").data.writer)
    scene = world.scenes("oracle", [f"oracle-{number}" for number in range(CLIPS)])
    centre, radius = scene.centre[:, 0], scene.radius[:, 0]
    target = cover(centre[:, -1], radius[:, -1], scene.height, scene.width)
    words = [caption.split()[3] for caption in world.world.captions(scene)]
    names = sorted(set(words))
    direction = nn.functional.one_hot(torch.tensor([names.index(word) for word in words]), len(names)).float()
    place = torch.cat([centre[:, 0], radius[:, :1]], 1)
    way = centre[:, 1] - centre[:, 0]
    print("| known of the first keyframe | without the direction | with it |\n|---|---|---|")
    for name, known in {
        "nothing": torch.zeros(CLIPS, 1),
        "the object's place and size": place,
        "place, size and velocity": torch.cat([place, way], 1),
    }.items():
        shares = [explained(known, target), explained(torch.cat([known, direction], 1), target)]
        print(f"| {name} | " + " | ".join(f"{share:.3f}" for share in shares) + " |", flush=True)


if __name__ == "__main__":
    main()
