"""A network that reads captions from keyframes: it finds the objects of a scene and follows them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, pi
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from tqdm import trange

from interp_refiner.data.text.caption import words_of
from interp_refiner.data.world.scene import BRIGHTNESS, DIRECTIONS, SHAPES, Scene

CELL = 4  # pixels along the side of a cell of the map
UNKNOWN = -1


@dataclass(frozen=True)
class Said:
    """The content of captions by brightness. If two objects have the same brightness, shape and direction are unknown.

    Attributes:
        present: whether an object of this brightness is named.
        shape, direction: indices into ``SHAPES`` and ``DIRECTIONS``; -1 if not said, or if no single object is named.
    """

    present: Bool[Tensor, "b 4"]
    shape: Int[Tensor, "b 4"]
    direction: Int[Tensor, "b 4"]

    @classmethod
    def by(cls, captions: Sequence[str]) -> "Said":
        """Reads captions such as ``"bright circle moving left and dark square moving up"``.

        An object begins with its brightness and ends at "and"; its first shape and its first direction count.
        """
        count = torch.zeros(len(captions), len(BRIGHTNESS), dtype=torch.long)
        shape, direction = torch.full_like(count, UNKNOWN), torch.full_like(count, UNKNOWN)
        for row, caption in enumerate(captions):
            for words in objects(caption):
                place = row, BRIGHTNESS.index(words[0])
                count[place] += 1
                shape[place], direction[place] = (_first_of(words, known) for known in (SHAPES, DIRECTIONS))
        alone = count == 1
        return cls(count > 0, shape.masked_fill(~alone, UNKNOWN), direction.masked_fill(~alone, UNKNOWN))


@dataclass(frozen=True)
class Read:
    """The output of the reader: logits of the fields of :class:`Said`, and the maps that they come from.

    Attributes:
        present, shape, direction: logits for every brightness.
        places: logits of an object's centre in every cell.
        shapes: logits of an object's shape, if its centre is in the cell.
        traits: for every brightness, the largest expected number of occupied cells in a keyframe, and the longest step
            from one keyframe to the next, in cells.
        usual: their means and standard deviations on real clips.
    """

    present: Float[Tensor, "b 4"]
    shape: Float[Tensor, "b 4 4"]
    direction: Float[Tensor, "b 4 8"]
    places: Float[Tensor, "b 4 k y x"]
    shapes: Float[Tensor, "b 4 k y x"]
    traits: Float[Tensor, "b 4 2"]
    usual: Float[Tensor, "2 2"]

    def log_likelihood(self, said: Said) -> Float[Tensor, " b"]:
        """``log P(caption | keyframes)``, over every brightness and the shapes and directions of single objects.

        It is 0 for a caption that names no brightness: nothing was read.
        """
        present = -F.binary_cross_entropy_with_logits(self.present, said.present.float(), reduction="none")
        found = present + _log_share(self.shape, said.shape) + _log_share(self.direction, said.direction)
        return found.sum(1) * said.present.any(1)

    def oddity(self, said: Said) -> Float[Tensor, " b"]:
        """``sum max(0, (trait - mean) / deviation)^2 / 2`` over single objects whose shape was named.

        An object that jumps or appears twice may still have the right shape and end in the right direction.
        """
        mean, deviation = self.usual.unbind(1)
        excess = ((self.traits - mean) / deviation).clamp(min=0)
        alone = (said.present & (said.shape != UNKNOWN)).unsqueeze(2)
        return (excess.square() / 2 * alone).flatten(1).sum(1)


def _log_share(logits: Float[Tensor, "b 4 n"], index: Int[Tensor, "b 4"]) -> Float[Tensor, "b 4"]:
    """``log softmax`` at an index; 0 if the index is -1."""
    shares = logits.log_softmax(2).gather(2, index.clamp(min=0).unsqueeze(2)).squeeze(2)
    return shares.masked_fill(index == UNKNOWN, 0.0)


def objects(caption: str) -> list[list[str]]:
    """The words of every object that a caption names by its brightness, which comes first."""
    found: list[list[str]] = []
    inside = False
    for word in words_of(caption):
        if word in BRIGHTNESS:
            found.append([])
        inside = word in BRIGHTNESS or (inside and word != "and")
        if inside:
            found[-1].append(word)
    return found


def _first_of(words: Sequence[str], known: Sequence[str]) -> int:
    """The index in ``known`` of the first word that is there; -1 if none is."""
    return next((known.index(word) for word in words if word in known), UNKNOWN)


@final
class CaptionReader(nn.Module):
    """Finds objects in every keyframe, and follows them from one to the next.

    For every cell of 4 x 4 pixels, convolutions give a logit that an object's centre is there, for each brightness, and
    logits of its shape. The clip's logit of a brightness is the maximum over cells. The shape is read at the likeliest
    cells. The direction leads from the mean position in the first keyframe where the object is seen to that in the next
    one; with ``net``, to that in the last one where it is seen. Its logits are ``s cos(angle)``.

    Args:
        width: channels of the convolutions.
        net: whether captions name the direction of the whole path (:class:`NetDirection`).
    """

    net: Bool[Tensor, ""]  # buffers, so that they are stored with the weights
    usual: Float[Tensor, "2 2"]

    def __init__(self, width: int = 32, net: bool = False):
        super().__init__()
        self.register_buffer("net", torch.tensor(net))
        self.register_buffer("usual", torch.tensor([[0.0, inf], [0.0, inf]]))  # until it is measured
        sizes = [(3, width, 1), (width, 2 * width, 2), (2 * width, 2 * width, 2), *[(2 * width, 2 * width, 1)] * 2]
        layers = [
            layer
            for inputs, out, stride in sizes
            for layer in (nn.Conv2d(inputs, out, 3, stride, 1), nn.GroupNorm(4, out), nn.SiLU())
        ]
        self.features = nn.Sequential(*layers)
        self.head = nn.Conv2d(2 * width, len(BRIGHTNESS) + len(SHAPES), 1)
        with torch.no_grad():
            self.get_parameter("head.bias")[: len(BRIGHTNESS)] = -4.0  # most cells are empty
        self.sharpness = nn.Parameter(torch.tensor(3.0))

    def forward(self, frames: Float[Tensor, "b 3 k h w"]) -> Read:
        b, _, k = frames.shape[:3]
        maps = self.head(self.features(2 * frames.transpose(1, 2).flatten(0, 1) - 1))
        places, shapes = maps.unflatten(0, (b, k)).transpose(1, 2).split([len(BRIGHTNESS), len(SHAPES)], 1)
        where = places.flatten(2).softmax(2)
        shape = where @ shapes.flatten(2).transpose(1, 2)
        present, centre, seen = places.flatten(2).amax(2), _centre(places), places.flatten(3).amax(3).sigmoid()
        step = (seen[..., 1:] * seen[..., :-1] * centre.diff(dim=2).norm(dim=-1)).amax(2)
        traits = torch.stack([places.sigmoid().sum((3, 4)).amax(2), step], 2)
        return Read(present, shape, self._direction(centre, seen), places, shapes, traits, self.usual)

    def _direction(self, centre: Float[Tensor, "b 4 k 2"], seen: Float[Tensor, "b 4 k"]) -> Float[Tensor, "b 4 8"]:
        first = _first(seen)
        if self.net:
            way = ((_first(seen.flip(2)).flip(2) - first).unsqueeze(-1) * centre).sum(2)
        else:
            both = first[..., :-1] * seen[..., 1:]  # seen first here, and in the next frame, too
            way = (both.unsqueeze(-1) * centre.diff(dim=2)).sum(2)
        angles = torch.arange(len(DIRECTIONS), device=seen.device) * (pi / 4)
        unit = torch.stack([angles.cos(), angles.sin()])
        return self.sharpness * (way / (way.norm(dim=-1, keepdim=True) + 1e-3)) @ unit


def _centre(places: Float[Tensor, "b 4 k y x"]) -> Float[Tensor, "b 4 k 2"]:
    """The mean position (x, y) of every brightness in every keyframe, in cells."""
    y, x = (torch.arange(n, device=places.device, dtype=places.dtype) for n in places.shape[3:])
    mass = places.flatten(3).softmax(3).unflatten(3, places.shape[3:])
    return torch.stack([(mass.sum(3) * x).sum(3), (mass.sum(4) * y).sum(3)], -1)


def _first(seen: Float[Tensor, "b 4 k"]) -> Float[Tensor, "b 4 k"]:
    """The probability that an object is seen in this keyframe and in none before it."""
    return seen * torch.cat([torch.ones_like(seen[..., :1]), (1 - seen).cumprod(2)[..., :-1]], 2)


def reader_loss(read: Read, said: Said, scene: Scene, frames: Sequence[int]) -> Float[Tensor, ""]:
    """Cross-entropies of captions and of object positions.

    The clip's scene gives the cells of the objects' centres, by brightness, with their shapes. Objects that are covered
    by later ones or outside the frame count as absent.
    """
    places, shapes = read.places, read.shapes
    height, width = places.shape[3:]
    centre = scene.centre[:, :, list(frames)]  # [b, n, k, 2]
    visible = scene.in_view[:, :, list(frames)] & scene.present.unsqueeze(2)
    for later in range(1, centre.shape[1]):
        distance = (centre[:, :later] - centre[:, later : later + 1]).norm(dim=-1)
        covered = distance < scene.radius[:, later : later + 1, list(frames)]
        visible[:, :later] &= ~(covered & scene.present[:, later, None, None])
    clip, number, frame = visible.nonzero(as_tuple=True)
    x, y = (centre[clip, number, frame] / CELL).long().unbind(-1)
    cell = clip, frame, y.clamp(max=height - 1), x.clamp(max=width - 1)
    target = torch.zeros_like(places)
    target[cell[0], scene.brightness[clip, number], *cell[1:]] = 1.0
    where = F.binary_cross_entropy_with_logits(places, target, pos_weight=torch.tensor(4.0)) * (height * width / 4)
    what = F.cross_entropy(shapes[cell[0], :, *cell[1:]], scene.shape[clip, number])
    direction = F.cross_entropy(read.direction.flatten(0, 1), said.direction.flatten(), ignore_index=UNKNOWN)
    present = F.binary_cross_entropy_with_logits(read.present, said.present.float())
    shape = F.cross_entropy(read.shape.flatten(0, 1), said.shape.flatten(), ignore_index=UNKNOWN)
    return where + what + shape + present + 0.3 * direction


@torch.no_grad()
def measure_traits(reader: CaptionReader, pictures: Float[Tensor, "b 3 k h w"], captions: Sequence[str]) -> None:
    """Sets ``reader.usual``: mean and standard deviation of the traits of single objects in real clips.

    Args:
        reader: a trained reader.
        pictures: keyframes of real clips, RGB in 0..1.
        captions: their captions.
    """
    read, said = reader(pictures), Said.by(captions)
    traits = read.traits[said.present & (said.shape != UNKNOWN)]
    reader.usual.copy_(torch.stack([traits.mean(0), traits.std(0)], 1))


Drawn = Callable[[int], tuple[Scene, list[str], Tensor]]
"""The clips of a step: their scenes, their captions and their keyframes as pictures ``[b, 3, k, h, w]``."""


def train_reader(
    draw: Drawn, frames: Sequence[int], steps: int, seed: int = 0, lr: float = 3e-3, net: bool = False
) -> CaptionReader:
    """A reader trained on clips of a world; every step draws a new batch.

    Args:
        draw: makes the batch of a step.
        frames: frame numbers of the keyframes.
        steps: number of training steps.
        seed: of the initial weights.
        lr: largest learning rate of the one-cycle schedule.
        net: see :class:`CaptionReader`.
    """
    torch.manual_seed(seed)
    reader = CaptionReader(net=net)
    optimizer = torch.optim.AdamW(reader.parameters(), lr, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps + 1, pct_start=0.1)
    for step in trange(steps, desc="caption reader", mininterval=5.0):
        scene, captions, pictures = draw(step)
        loss = reader_loss(reader(pictures), Said.by(captions), scene, frames)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return reader.eval().requires_grad_(False)
