"""Measures how well a few keyframe positions predict an embedded world's motion, without rendering video."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import pi
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from tqdm import trange

from interp_refiner.core import BadValue, Draws, Measure
from interp_refiner.data.world import Scene, World
from interp_refiner.evaluation.measures import paired_bootstrap
from interp_refiner.evaluation.records.markdown import figure_table
from interp_refiner.forward.interpolator import Linear
from interp_refiner.forward.schedule.uniform import evenly_spaced

CHUNK = 1000  # scenes drawn at a time
TURN = 1e-2  # radians; a turn larger than a world's smooth curve plus this is abrupt
WIDTH = 256  # of the network's hidden layers
LEARNING_RATE = 2e-3  # at the start; falls to 0 along a cosine
MEASURES = (
    Measure("ratio", "of straight lines' squared error"),
    Measure("ratio_interval", "95%"),
    Measure("straight_gaps", "gaps without a turn", "higher", digits=2),
)


@dataclass(frozen=True)
class Paths:
    """The paths of m objects.

    Attributes:
        position: relative to the frame's centre, in units of half its shorter side.
        radius: in the first frame, in the same units.
        in_view: whether an object's centre is inside the frame, for every frame.
    """

    position: Float[Tensor, "m t 2"]
    radius: Float[Tensor, " m"]
    in_view: Bool[Tensor, "m t"]

    @classmethod
    def of(cls, scene: Scene) -> "Paths":
        """The paths of all possible objects of a scene; all have the same distribution."""
        unit = min(scene.height, scene.width) / 2
        middle = torch.tensor([scene.width - 1, scene.height - 1]) / 2
        position, radius = (scene.centre - middle) / unit, scene.radius[..., 0] / unit
        return cls(position.flatten(0, 1), radius.flatten(), scene.in_view.flatten(0, 1))

    @classmethod
    def cat(cls, parts: Sequence["Paths"]) -> "Paths":
        """The concatenation of several sets of paths."""
        return cls(*(torch.cat([getattr(p, name) for p in parts]) for name in ("position", "radius", "in_view")))

    def augmented(self, number: int, generator: torch.Generator) -> "Paths":
        """``number`` random paths, randomly mirrored and reversed in time."""
        row = torch.randint(len(self.radius), (number,), generator=generator)
        mirror = torch.randint(2, (number, 1, 2), generator=generator) * 2 - 1
        backward = torch.randint(2, (number, 1), generator=generator).bool()
        position, in_view = self.position[row] * mirror, self.in_view[row]
        position = torch.where(backward.unsqueeze(-1), position.flip(1), position)
        return Paths(position, self.radius[row], torch.where(backward, in_view.flip(1), in_view))


class PositionOracle:
    """Compares straight lines with a network that gets only the K keyframe positions of one object and its radius.

    The network's squared error relative to that of straight lines is about the best that perfect perception could
    reach: near 1 if motion between keyframes is random, 0 if keyframes determine it. Only missing frames in which the
    object's centre is inside the frame count. The table also shows the share of gaps in which no object turns abruptly.

    Args:
        world: the world that draws the paths.
        counts: K, evenly spaced keyframes; a separate network is trained for each.
        size: frames, height and width of a clip.
        scenes: number of training scenes, three paths each; a tenth as many are held out.
        steps: number of training steps.
        batch_size: paths per step.
        seed: of paths and network.

    Raises:
        BadValue: a count that leaves no frame missing, fewer than 10 scenes, 1 step or 1 path.
    """

    def __init__(
        self,
        world: World,
        counts: Sequence[int] = (5, 8),
        size: Sequence[int] = (21, 32, 56),
        scenes: int = 60_000,
        steps: int = 2500,
        batch_size: int = 1024,
        seed: int = 0,
    ):
        least = {"scenes": (scenes, 10), "steps": (steps, 1), "batch_size": (batch_size, 1)}
        for name, (number, minimum) in least.items():
            if number < minimum:
                raise BadValue(name, number, f"at least {minimum}")
        if not counts or min(counts) < 2 or max(counts) >= size[0]:
            raise BadValue("counts", list(counts), f"numbers of keyframes from 2 to {size[0] - 1}")
        self.world, self.counts, self.size = world, list(counts), (size[0], size[1], size[2])
        self.scenes, self.steps, self.batch_size, self.seed = scenes, steps, batch_size, seed

    def run(self, device: str) -> dict[str, Any]:
        """One row per K; always runs on the CPU, for any ``device``."""
        train = Paths.cat([Paths.of(scene) for scene in self.draw("train", self.scenes)])
        scenes = list(self.draw("val", self.scenes // 10))
        held_out = Paths.cat([Paths.of(scene) for scene in scenes])
        rows = []
        for count in self.counts:
            keyframes = evenly_spaced(self.size[0], count)
            ratio = paired_bootstrap(*self.judge(self.fit(train, keyframes), held_out, keyframes))
            straight = torch.cat([straight_gaps(scene, self.world.curve, keyframes) for scene in scenes])
            rows.append(
                {
                    "keyframes": count,
                    "ratio": ratio.value,
                    "ratio_interval": [ratio.low, ratio.high],
                    "straight_gaps": straight.float().mean().item(),
                }
            )
        return {"world": self.world.name, "size": self.size, "paths": len(train.radius), "rows": rows}

    def draw(self, stream: str, number: int) -> "list[Scene]":
        """``number`` scenes, in chunks."""
        keys = [f"{stream}-{index}" for index in range(number)]
        chunks = [keys[start : start + CHUNK] for start in range(0, number, CHUNK)]
        return [self.world.draw(Draws(self.seed, stream, chunk), *self.size) for chunk in chunks]

    def fit(self, train: Paths, keyframes: Sequence[int]) -> nn.Module:
        """A network trained on the squared error of the frames that count."""
        torch.manual_seed(self.seed)
        network = DeviationNetwork(keyframes, self.size[0])
        generator = torch.Generator().manual_seed(self.seed)
        optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        for _ in trange(self.steps, desc=f"{len(keyframes)} keyframes"):
            paths = train.augmented(self.batch_size, generator)
            loss = squared_error(network(paths), paths).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        return network

    @torch.no_grad()
    def judge(
        self, network: nn.Module, paths: Paths, keyframes: Sequence[int]
    ) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"]]:
        """Squared errors of the network and of straight lines."""
        lines = straight_lines(paths, keyframes)
        return squared_error(network(paths), paths), squared_error(lines, paths)

    def markdown(self, result: dict[str, Any]) -> str:
        """A Markdown table, one row per K."""
        table = figure_table("K", ((str(row["keyframes"]), row) for row in result["rows"]), MEASURES)
        return f"World {result['world']}, {result['paths']} paths.\n\n{table}"


class DeviationNetwork(nn.Module):
    """Positions in all frames: straight lines plus an MLP of the keyframes' positions, whose output starts at 0."""

    def __init__(self, keyframes: Sequence[int], num_frames: int):
        super().__init__()
        self.keyframes = list(keyframes)
        out = nn.Linear(WIDTH, 2 * num_frames)
        nn.init.zeros_(out.weight)
        nn.init.zeros_(out.bias)
        sizes = [2 * len(keyframes) + 1, WIDTH, WIDTH, WIDTH]
        layers = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.GELU())]
        self.layers = nn.Sequential(*layers, out)

    def forward(self, paths: Paths) -> Float[Tensor, "m t 2"]:
        seen = torch.cat([paths.position[:, self.keyframes].flatten(1), paths.radius.unsqueeze(1)], 1)
        return straight_lines(paths, self.keyframes) + self.layers(seen).unflatten(1, (-1, 2))


def straight_lines(paths: Paths, keyframes: Sequence[int]) -> Float[Tensor, "m t 2"]:
    """Positions with constant velocity from one keyframe to the next."""
    values = paths.position.transpose(1, 2)
    known = torch.zeros(values.shape[0], values.shape[2], dtype=torch.bool)
    known[:, list(keyframes)] = True
    return Linear()(values, known).latents.transpose(1, 2)


def squared_error(position: Float[Tensor, "m t 2"], paths: Paths) -> Float[Tensor, " m"]:
    """The squared error of every path, summed over the frames in which its object is in view."""
    return ((position - paths.position).square().sum(-1) * paths.in_view).sum(-1)


def straight_gaps(scene: Scene, curve: float, keyframes: Sequence[int]) -> Bool[Tensor, "b gaps"]:
    """Whether no object of a scene turns by more than ``curve`` from step to step between two keyframes."""
    x, y = scene.centre.diff(dim=2).unbind(-1)
    change = torch.atan2(y, x).diff(dim=2)  # at frames 1 to t - 2
    change = (change + pi) % (2 * pi) - pi
    turns = ((change.abs() > curve + TURN) & scene.present.unsqueeze(-1)).any(1)
    return torch.stack([~turns[:, left : right - 1].any(1) for left, right in pairwise(keyframes)], 1)
