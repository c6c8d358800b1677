"""The embedded world: small shapes glide along curves over a panning background."""

from dataclasses import dataclass
from math import pi
from typing import Annotated, ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import UNBOUNDED, BadValue, Draws
from interp_refiner.data.world.bouncing import abrupt
from interp_refiner.data.world.scene import Scene, between, looks, plane_waves, tint
from interp_refiner.data.world.world import MAX_OBJECTS, World

RADIUS = (0.1, 0.2)  # of the frame's shorter side
SPEED = (0.8, 2.2)  # pixels per frame, before it changes
SURGE = (0.0, 0.5)  # amplitude of the logarithm of the speed
SURGE_PERIOD = (14.0, 40.0)  # frames
CURVE = 0.34  # largest turn per frame, radians, to either side
TURN_ANGLE = (pi / 4, pi)  # of an abrupt turn, to either side
SPIN = 0.12  # largest rotation per frame, radians, to either side
GROWTH = 0.015  # largest change per frame of the logarithm of the radius, up or down
ANCHORED = (0.2, 0.8)  # time, as a share of the clip, when an object is at a chosen place inside the frame

PAN = (0.0, 1.0)  # pixels per frame
PAN_CURVE = 0.08  # largest turn per frame, radians, to either side
SHADING_PERIOD = (50.0, 100.0)  # pixels
PATTERN_PERIOD = (12.0, 24.0)
SHADING_CONTRAST = (0.02, 0.05)
PATTERN_CONTRAST = (0.01, 0.03)


@final
@dataclass(frozen=True)
class Gliding(World):
    """Motion that several keyframes mostly determine, except for occasional abrupt turns.

    Shapes turn at a constant rate, speed up and slow down, spin and grow. They cover each other, leave the frame and
    enter it. The background pans with its pattern. Now and then a shape turns abruptly.

    Attributes:
        turn_probability: probability of an abrupt turn, per frame and object.

    Raises:
        BadValue: a probability outside 0..1. See :class:`World` for the others.
    """

    version: ClassVar[int] = 2
    curve: ClassVar[float] = CURVE
    max_gain: Annotated[float, UNBOUNDED] = 5.0
    turn_probability: float = 0.015

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.turn_probability <= 1:
            raise BadValue("turn_probability", self.turn_probability, "0 to 1")

    def draw(self, draws: Draws, num_frames: int, height: int, width: int) -> Scene:
        b, n, steps = len(draws.keys), MAX_OBJECTS, num_frames - 1
        count = 1 + (draws.uniform("count", 1) * self.max_objects).long()
        body = draws.uniform("body", n * 4).view(b, n, 4)
        way = draws.uniform("way", n * 9).view(b, n, 9)
        turns = draws.uniform("turns", n * steps * 2).view(b, n, steps, 2)
        ground = draws.uniform("ground", 4 * 8).view(b, 4, 8)
        anchor = (between(way[..., 8], *ANCHORED) * steps).round().long().unsqueeze(-1)
        since = torch.arange(num_frames) - anchor
        radius = between(body[..., :1], *RADIUS) * min(height, width) * (GROWTH * signed(body[..., 1:2]) * since).exp()
        path = glide(way[..., :6], abrupt(turns, self.turn_probability, TURN_ANGLE), SPEED, CURVE)
        room = torch.tensor([width, height]) - 1 - 2 * radius.gather(-1, anchor)
        place = radius.gather(-1, anchor) + way[..., 6:8] * room
        camera = draws.uniform("camera", 6)
        periods = torch.tensor([SHADING_PERIOD] * 2 + [PATTERN_PERIOD] * 2).T
        contrasts = torch.tensor([SHADING_CONTRAST] * 2 + [PATTERN_CONTRAST] * 2).T.unsqueeze(-1)
        return Scene(
            height=height,
            width=width,
            present=torch.arange(n) < count,
            centre=place.unsqueeze(2) + path - path.take_along_dim(anchor.unsqueeze(-1), 2),
            radius=radius,
            tilt=2 * pi * body[..., 2:3] + SPIN * signed(body[..., 3:]) * since,
            pan=glide(camera, camera.new_zeros(b, steps), PAN, PAN_CURVE),
            backdrop=between(ground[:, 0, :1], 0.45, 0.55) + tint(ground[:, 0, 1], ground[:, 1, 1]),
            shading=plane_waves(2 * ground[..., 2], ground[..., 3], ground[..., 4], periods),
            shade=between(ground[..., 5:6], *contrasts) + tint(ground[..., 6], ground[..., 7]) / 4,
            **looks(draws.uniform("look", n * 10).view(b, n, 10)),
        )


def signed(u: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Maps a number in 0..1 to -1..1."""
    return 2 * u - 1


def glide(
    u: Float[Tensor, "*shape 6"], turns: Float[Tensor, "*shape steps"], speeds: tuple[float, float], curve: float
) -> Float[Tensor, "*shape t 2"]:
    """Smooth paths from the origin: at step i, with a heading ``a_i`` and a speed ``s_i``,

        a_i = a_0 + i w + sum_{j <= i} turn_j,    log s_i = log s + g sin(2 pi i / P + phase)

    Args:
        u: numbers in 0..1 for the first heading, ``w``, ``s``, ``g``, ``P`` and the phase.
        turns: abrupt turn before every step, in radians.
        speeds: range of ``s``, in pixels per frame.
        curve: the largest ``w``, in radians per frame.
    """
    heading, rate, speed, gain, period, phase = u.unsqueeze(-1).unbind(-2)
    step = torch.arange(turns.shape[-1])
    angle = 2 * pi * heading + curve * signed(rate) * step + turns.cumsum(-1)
    surge = between(gain, *SURGE) * (2 * pi * (step / between(period, *SURGE_PERIOD) + phase)).sin()
    velocity = (between(speed, *speeds) * surge.exp()).unsqueeze(-1) * torch.stack([angle.cos(), angle.sin()], -1)
    return torch.cat([torch.zeros_like(velocity[..., :1, :]), velocity.cumsum(-2)], -2)
