"""Scenes of moving shapes, and their shapes, colours and waves."""

from dataclasses import dataclass
from math import inf, pi, sqrt

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

SHAPES = ("triangle", "square", "circle", "ring")
SIDES = (3.0, 4.0, inf, inf)
BRIGHTNESS = ("dark", "dim", "pale", "bright")
LUMA = (0.22, 0.36, 0.64, 0.78)
DIRECTIONS = ("right", "down-right", "down", "down-left", "left", "up-left", "up", "up-right")

TEXTURE_PERIOD = (6.0, 12.0)  # pixels
TEXTURE_CONTRAST = (0.07, 0.12)
SATURATION = (0.04, 0.12)


@dataclass(frozen=True)
class Scene:
    """b scenes with up to n objects on a background of w waves, over t frames.

    Coordinates are pixels, x to the right and y down, (0, 0) the centre of the upper left pixel. Later objects cover
    earlier ones. Textures and backgrounds are plane waves, (wave vector x, wave vector y, phase) in radians. An
    object's texture rotates and grows with the object.

    Attributes:
        height, width: of the frame.
        present: which of the n objects a scene has.
        shape, brightness: indices into :data:`SHAPES` and :data:`BRIGHTNESS`.
        centre: of every object in every frame; it may lie outside the frame.
        radius: of the circle around an object.
        tilt: rotation of an object, radians.
        colour: of an object, RGB.
        texture: two crossed waves on every object, in frame 0.
        contrast: amplitude of the texture, the same for R, G and B.
        pan: how far the background has moved since frame 0.
        backdrop: colour of the background, RGB.
        shading: the waves of the background, in frame 0.
        shade: RGB amplitude of each wave.
    """

    height: int
    width: int
    present: Bool[Tensor, "b n"]
    shape: Int[Tensor, "b n"]
    brightness: Int[Tensor, "b n"]
    centre: Float[Tensor, "b n t 2"]
    radius: Float[Tensor, "b n t"]
    tilt: Float[Tensor, "b n t"]
    colour: Float[Tensor, "b n 3"]
    texture: Float[Tensor, "b n 2 3"]
    contrast: Float[Tensor, "b n"]
    pan: Float[Tensor, "b t 2"]
    backdrop: Float[Tensor, "b 3"]
    shading: Float[Tensor, "b w 3"]
    shade: Float[Tensor, "b w 3"]

    @property
    def directions(self) -> Int[Tensor, "b n steps"]:
        """The direction of every object's steps, as indices into :data:`DIRECTIONS`."""
        return octant(self.centre.diff(dim=2))

    @property
    def in_view(self) -> Bool[Tensor, "b n t"]:
        """Whether an object's centre lies in the frame."""
        border = torch.tensor([self.width, self.height]) - 1
        return ((self.centre >= 0) & (self.centre <= border)).all(-1)


def octant(way: Float[Tensor, "*shape 2"]) -> Int[Tensor, "*shape"]:
    """The nearest of the eight :data:`DIRECTIONS`, as an index."""
    x, y = way.unbind(-1)
    return (torch.atan2(y, x) / (pi / 4)).round().long() % len(DIRECTIONS)


def looks(u: Float[Tensor, "b n 10"]) -> dict[str, Tensor]:
    """Shape, brightness, colour, texture and contrast of every object, from numbers in 0..1."""
    brightness = (u[..., 0] * len(BRIGHTNESS)).long()
    crossed = u[..., 5:6] + torch.tensor([0.0, 0.5])  # an axis difference of 0.5 is a right angle
    return {
        "shape": (u[..., 1] * len(SHAPES)).long(),
        "brightness": brightness,
        "colour": torch.tensor(LUMA)[brightness].unsqueeze(-1) + tint(u[..., 2], u[..., 3]),
        "texture": plane_waves(crossed, u[..., 6:8], u[..., 8:10], TEXTURE_PERIOD),
        "contrast": between(u[..., 4], *TEXTURE_CONTRAST),
    }


def between(u: Float[Tensor, "*shape"], low: float | Tensor, high: float | Tensor) -> Float[Tensor, "*shape"]:
    """Maps a number in 0..1 to ``low``..``high``."""
    return low + (high - low) * u


def tint(hue: Float[Tensor, "*shape"], saturation: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape 3"]:
    """An RGB offset of zero luma, from numbers in 0..1."""
    axes = torch.tensor([[1 / sqrt(2), 0, -1 / sqrt(2)], [-1 / sqrt(6), 2 / sqrt(6), -1 / sqrt(6)]])
    angle = 2 * pi * hue.unsqueeze(-1)
    return between(saturation, *SATURATION).unsqueeze(-1) * (angle.cos() * axes[0] + angle.sin() * axes[1])


def plane_waves(
    axis: Float[Tensor, "*shape"],
    period: Float[Tensor, "*shape"],
    phase: Float[Tensor, "*shape"],
    periods: tuple[float, float] | Float[Tensor, "2 w"],
) -> Float[Tensor, "*shape 3"]:
    """(wave vector x, wave vector y, phase) from numbers in 0..1; ``axis`` 1 means 180 degrees."""
    number = 2 * pi / between(period, *periods)
    return torch.stack([number * (pi * axis).cos(), number * (pi * axis).sin(), 2 * pi * phase], -1)


def rotate(vector: Float[Tensor, "*#shape 2"], angle: Float[Tensor, "*#shape"]) -> Float[Tensor, "*#shape 2"]:
    """``vector`` rotated by ``angle`` radians, from x towards y."""
    (x, y), cos, sin = vector.unbind(-1), angle.cos(), angle.sin()
    return torch.stack([cos * x - sin * y, sin * x + cos * y], -1)
