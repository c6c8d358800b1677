"""Paths through mazes, shown on their maps."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import cycle
from typing import final

import torch
from jaxtyping import Bool, Float
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from interp_refiner.core import BadValue, Clip, ClipSpec, per_frame
from interp_refiner.core.maps import WALLS
from interp_refiner.data.codec import Codec
from interp_refiner.data.medium.medium import Medium, Versions

COLOURS = ("#333333", "#0072B2", "#D55E00", "#009E73", "#CC79A7")  # Okabe and Ito: safe for colour blindness
SCALE = 6  # pixels per cell in a video
BETWEEN = 8  # points drawn between two neighbouring points of a path
WALL, PATH, HEAD = 0.25, (0.0, 0.45, 0.7), (0.84, 0.37, 0.0)  # grey; RGB of the path so far and of its last point


@final
class Maze(Medium):
    """Latents ``[2, t]``: rows and columns of a path, normalised; the walls are in its context.

    Args:
        codec: accepted for a uniform interface; coordinates need none.
        spec: of the clips; its statistics convert between coordinates in 0..1 and latents.

    Raises:
        BadValue: the clips are not paths on maps.
    """

    domains = ("latents", "paths")
    measured_in = "the unit square of the map"

    def __init__(self, codec: Codec | None, spec: ClipSpec):
        if len(spec.latent_shape) != 2 or spec.channels != 2 or spec.context_shape is None:
            raise BadValue("medium", "maze", f"a medium for clips {list(spec.latent_shape)}, such as medium=video")
        self.mean = torch.tensor(spec.latents_mean or [0.0, 0.0]).view(2, 1)
        self.std = torch.tensor(spec.latents_std or [1.0, 1.0]).view(2, 1)

    def to(self, device: torch.device | str) -> "Maze":
        self.mean, self.std = self.mean.to(device), self.std.to(device)
        return self

    def views(self, latents: Float[Tensor, "b 2 t"]) -> dict[str, Tensor]:
        return {"paths": self.path(latents)}

    def path(self, latents: Float[Tensor, "b 2 t"]) -> Float[Tensor, "b 2 t"]:
        """Rows and columns in 0..1."""
        return latents.float() * self.std.to(latents.device) + self.mean.to(latents.device)

    def blurred(self, clean: Float[Tensor, "b 2 t"], known: Bool[Tensor, "b t"]) -> Float[Tensor, "b 2 t"]:
        """The paths with missing points averaged with their two neighbours, which cuts corners."""
        smooth = F.avg_pool1d(F.pad(clean, (1, 1), mode="replicate"), 3, stride=1)
        return torch.where(per_frame(known, clean), clean, smooth)

    def sheet(self, versions: Versions, known: Bool[Tensor, " t"], clip: Clip, title: str) -> Image.Image:
        """All versions drawn on one map."""
        paths = {name: self.path(version.cpu()) for name, version in versions.items()}
        canvas = paths_on_maps(walls_of(clip).cpu(), paths, known.unsqueeze(0), [self.titled(title)])
        file = BytesIO()
        canvas.savefig(file, format="png", dpi=120)
        return Image.open(file).convert("RGB")

    def videos(
        self, versions: Versions, known: Bool[Tensor, " t"], clip: Clip
    ) -> tuple[list[Float[Tensor, "3 _n h w"]], Bool[Tensor, " _n"]]:
        """One video per version: the path grows on its map, point by point."""
        walls = walls_of(clip)[0].cpu()
        return [growing_path(walls, self.path(version.cpu())[0]) for version in versions.values()], known


def walls_of(clip: Clip) -> Bool[Tensor, "b g h"]:
    """The walls in the context of clips; raises :class:`BadValue` for clips without maps."""
    if clip.context is None:
        raise BadValue("context", None, "the maps of every path's maze")
    return clip.context[:, WALLS] > 0.5


def paths_on_maps(
    walls: Bool[Tensor, "n g h"],
    paths: Mapping[str, Float[Tensor, "n 2 t"]],
    known: Bool[Tensor, "n t"],
    titles: Sequence[str] = (),
) -> Figure:
    """Draws paths on their maps, one panel per maze, with keyframes as dots.

    Args:
        walls: the maps.
        paths: coordinates in 0..1, rows then columns, by method; the first is drawn below the others.
        known: the keyframes.
        titles: of the panels.
    """
    canvas = Figure(figsize=(3.4 * len(walls), 3.9), layout="constrained")
    panels = list(canvas.subplots(1, len(walls), squeeze=False)[0])
    for i, axes in enumerate(panels):
        axes.imshow(walls[i].cpu(), cmap="Greys", extent=(0, 1, 1, 0), vmax=1.6)
        for (method, path), colour in zip(paths.items(), cycle(COLOURS), strict=False):
            row, column = path[i].cpu()
            axes.plot(column, row, color=colour, linewidth=1.4, label=method)
        row, column = next(iter(paths.values()))[i].cpu()[:, known[i].cpu()]
        axes.plot(column, row, ".", color=COLOURS[0], markersize=6)
        axes.set_axis_off()
        if i < len(titles):
            axes.set_title(titles[i], fontsize=7)
    handles, labels = panels[0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 5), frameon=False, fontsize=8)
    return canvas


def growing_path(walls: Bool[Tensor, "g h"], path: Float[Tensor, "2 t"]) -> Float[Tensor, "3 t y x"]:
    """RGB video of a growing path: frame i shows it up to point i. Points outside the map are clamped to its border."""
    size = torch.tensor(walls.shape) * SCALE
    steps = F.interpolate(path.unsqueeze(0), size=(path.shape[1] - 1) * BETWEEN + 1, mode="linear", align_corners=True)
    pixel = (steps[0] * size.view(2, 1)).long().clamp(min=torch.zeros(2, 1).long(), max=(size - 1).view(2, 1))
    drawn = torch.zeros(path.shape[1], *size.tolist())
    frame = (torch.arange(steps.shape[2]) + BETWEEN - 1) // BETWEEN  # the frame from which on each point is drawn
    drawn[frame, pixel[0], pixel[1]] = 1
    so_far, head = drawn.cummax(0).values, torch.zeros_like(drawn)
    last = pixel[:, ::BETWEEN]
    head[torch.arange(path.shape[1]), last[0], last[1]] = 1
    thick, dot = (F.max_pool2d(mask.unsqueeze(0), k, stride=1, padding=k // 2) for mask, k in ((so_far, 3), (head, 7)))
    ground = 1 - (1 - WALL) * walls.float().repeat_interleave(SCALE, 0).repeat_interleave(SCALE, 1)
    video = ground.expand(3, *drawn.shape)
    for mask, colour in ((thick, PATH), (dot, HEAD)):
        video = torch.where(mask > 0, torch.tensor(colour).view(3, 1, 1, 1), video)
    return video
