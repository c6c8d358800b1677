"""The first embedded world: shapes that keep their speed, turn at random and bounce off the frame."""

from dataclasses import dataclass
from math import pi
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import Draws
from interp_refiner.data.world.scene import Scene, between, looks, plane_waves, rotate, tint
from interp_refiner.data.world.world import MAX_OBJECTS, World

SPEED = (0.5, 2.1)  # pixels per frame
TURN_PROBABILITY = 0.06  # per frame and object
TURN_ANGLE = (pi / 4, pi)  # to either side
RADIUS = (0.17, 0.3)  # of the frame's shorter side
BACKGROUND_PERIOD = (50.0, 100.0)  # pixels
BACKGROUND_CONTRAST = (0.02, 0.06)


@final
@dataclass(frozen=True)
class Bouncing(World):
    """Large shapes over a still background, in straight lines from one abrupt turn or bounce to the next."""

    version: ClassVar[int] = 1
    curve: ClassVar[float] = 0.0

    def draw(self, draws: Draws, num_frames: int, height: int, width: int) -> Scene:
        b, n = len(draws.keys), MAX_OBJECTS
        count = 1 + (draws.uniform("count", 1) * self.max_objects).long()
        place = draws.uniform("place", n * 6).view(b, n, 6)
        ground = draws.uniform("ground", 2 * 8).view(b, 2, 8)
        turns = draws.uniform("turns", n * (num_frames - 1) * 2).view(b, n, num_frames - 1, 2)
        radius = between(place[..., 4], *RADIUS) * min(height, width)
        return Scene(
            height=height,
            width=width,
            present=torch.arange(n) < count,
            centre=trajectories(place[..., :4], turns, radius, height, width),
            radius=radius.unsqueeze(-1).expand(-1, -1, num_frames),
            tilt=(2 * pi * place[..., 5:]).expand(-1, -1, num_frames),
            pan=torch.zeros(b, num_frames, 2),
            backdrop=between(ground[:, 0, :1], 0.45, 0.55) + tint(ground[:, 0, 1], ground[:, 1, 1]),
            shading=plane_waves(2 * ground[..., 2], ground[..., 3], ground[..., 4], BACKGROUND_PERIOD),
            shade=between(ground[..., 5:6], *BACKGROUND_CONTRAST) + tint(ground[..., 6], ground[..., 7]) / 2,
            **looks(draws.uniform("look", n * 10).view(b, n, 10)),
        )


def trajectories(
    u: Float[Tensor, "b n 4"],
    turns: Float[Tensor, "b n steps 2"],
    radius: Float[Tensor, "b n"],
    height: int,
    width: int,
) -> Float[Tensor, "b n t 2"]:
    """Centres of objects that keep their speed, turn at random, and bounce so that they stay inside the frame.

    ``p_{t+1} = p_t + v_t``. First ``v`` turns with probability :data:`TURN_PROBABILITY`; then every component that
    would leave the frame changes sign. No step is shortened.

    Args:
        u: numbers in 0..1 for the first x, y, direction and speed.
        turns: numbers in 0..1 that decide whether, and by what angle, an object turns at each step.
        radius: pixels kept between a centre and the frame's border.
        height, width: of the frame.
    """
    angle = abrupt(turns, TURN_PROBABILITY, TURN_ANGLE)
    low = radius.unsqueeze(-1)
    high = torch.tensor([width, height]) - 1 - low
    position = low + u[..., :2] * (high - low)
    heading = 2 * pi * u[..., 2]
    velocity = between(u[..., 3:], *SPEED) * torch.stack([heading.cos(), heading.sin()], -1)
    centres = [position]
    for turn in angle.unbind(-1):
        velocity = rotate(velocity, turn)
        ahead = position + velocity
        velocity = torch.where((ahead < low) | (ahead > high), -velocity, velocity)
        position = position + velocity
        centres.append(position)
    return torch.stack(centres, 2)


def abrupt(u: Float[Tensor, "*shape 2"], probability: float, angles: tuple[float, float]) -> Float[Tensor, "*shape"]:
    """The angle that an object turns by at a step, in radians: 0, or with a probability an angle to either side."""
    side = 2 * u[..., 1] - 1
    return torch.where(u[..., 0] < probability, side.sign() * between(side.abs(), *angles), 0.0)
