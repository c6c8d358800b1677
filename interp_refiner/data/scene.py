"""Scenes of moving shapes: drawn at random, rendered at any sub-pixel position."""

from dataclasses import dataclass
from functools import reduce
from math import inf, pi, sqrt

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp_refiner.core import Draws

MAX_OBJECTS = 3
SHAPES = ("triangle", "square", "circle", "ring")
SIDES = (3.0, 4.0, inf, inf)
MAX_SIDES = 4  # of a polygon
RING_WIDTH = 0.5  # of the radius
BRIGHTNESS = ("dark", "dim", "pale", "bright")
LUMA = (0.22, 0.36, 0.64, 0.78)
DIRECTIONS = ("right", "down-right", "down", "down-left", "left", "up-left", "up", "up-right")

SPEED = (0.5, 2.1)  # pixels a frame
TURN_PROBABILITY = 0.06  # a frame and object
TURN_ANGLE = (pi / 4, pi)  # to either side
RADIUS = (0.17, 0.3)  # of the frame's shorter side
EDGE = 0.5  # pixels: coverage is sigmoid(-distance / EDGE), 10 to 90% within 2.2 pixels
TEXTURE_PERIOD = (6.0, 12.0)  # pixels
TEXTURE_CONTRAST = (0.07, 0.12)
BACKGROUND_PERIOD = (50.0, 100.0)  # pixels
BACKGROUND_CONTRAST = (0.02, 0.06)
SATURATION = (0.04, 0.12)


@dataclass(frozen=True)
class Scene:
    """b scenes of up to n = 3 objects over a smooth background, through t frames.

    Coordinates are pixels, x to the right and y down, (0, 0) the centre of the upper left pixel. Later objects cover
    earlier ones. Textures and backgrounds are plane waves, (wave vector x, wave vector y, phase) in radians; an
    object's are attached to it.

    Attributes:
        present: which of the n objects a scene has.
        shape, brightness: indices into :data:`SHAPES` and :data:`BRIGHTNESS`.
        centre: of every object in every frame.
        radius: of the circle around an object.
        tilt: rotation of an object, radians; constant in time.
        colour: of an object, RGB.
        texture: two crossed waves on every object.
        contrast: amplitude of the texture, the same for R, G and B.
        backdrop: colour of the background, RGB.
        shading: two long waves over the background.
        shade: RGB amplitude of either.
    """

    present: Bool[Tensor, "b n"]
    shape: Int[Tensor, "b n"]
    brightness: Int[Tensor, "b n"]
    centre: Float[Tensor, "b n t 2"]
    radius: Float[Tensor, "b n"]
    tilt: Float[Tensor, "b n"]
    colour: Float[Tensor, "b n 3"]
    texture: Float[Tensor, "b n 2 3"]
    contrast: Float[Tensor, "b n"]
    backdrop: Float[Tensor, "b 3"]
    shading: Float[Tensor, "b 2 3"]
    shade: Float[Tensor, "b 2 3"]

    @property
    def directions(self) -> Int[Tensor, "b n steps"]:
        """Where every object goes: each of its steps as an index into :data:`DIRECTIONS`."""
        x, y = self.centre.diff(dim=2).unbind(-1)
        return (torch.atan2(y, x) / (pi / 4)).round().long() % len(DIRECTIONS)


def draw_scenes(draws: Draws, num_frames: int, height: int, width: int, max_objects: int = MAX_OBJECTS) -> Scene:
    """One scene of 1 to ``max_objects`` objects per key of ``draws``, a function of (seed, stream, key) alone.

    At least 2 frames. A scene's first objects are the same whatever the most is.
    """
    b, n = len(draws.keys), MAX_OBJECTS
    count = 1 + (draws.uniform("count", 1) * max_objects).long()
    place = draws.uniform("place", n * 6).view(b, n, 6)
    look = draws.uniform("look", n * 10).view(b, n, 10)
    ground = draws.uniform("ground", 2 * 8).view(b, 2, 8)
    turns = draws.uniform("turns", n * (num_frames - 1) * 2).view(b, n, num_frames - 1, 2)
    radius = between(place[..., 4], *RADIUS) * min(height, width)
    brightness = (look[..., 0] * len(BRIGHTNESS)).long()
    crossed = look[..., 5:6] + torch.tensor([0.0, 0.5])  # half a turn of the wave's axis is a right angle
    return Scene(
        present=torch.arange(n) < count,
        shape=(look[..., 1] * len(SHAPES)).long(),
        brightness=brightness,
        centre=trajectories(place[..., :4], turns, radius, height, width),
        radius=radius,
        tilt=2 * pi * place[..., 5],
        colour=torch.tensor(LUMA)[brightness].unsqueeze(-1) + tint(look[..., 2], look[..., 3]),
        texture=plane_waves(crossed, look[..., 6:8], look[..., 8:10], TEXTURE_PERIOD),
        contrast=between(look[..., 4], *TEXTURE_CONTRAST),
        backdrop=between(ground[:, 0, :1], 0.45, 0.55) + tint(ground[:, 0, 1], ground[:, 1, 1]),
        shading=plane_waves(2 * ground[..., 2], ground[..., 3], ground[..., 4], BACKGROUND_PERIOD),
        shade=between(ground[..., 5:6], *BACKGROUND_CONTRAST) + tint(ground[..., 6], ground[..., 7]) / 2,
    )


def between(u: Float[Tensor, "*shape"], low: float, high: float) -> Float[Tensor, "*shape"]:
    """A number in 0..1, brought to ``low``..``high``."""
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
    periods: tuple[float, float],
) -> Float[Tensor, "*shape 3"]:
    """(wave vector x, wave vector y, phase) from numbers in 0..1; an axis of 1 is half a turn."""
    number = 2 * pi / between(period, *periods)
    return torch.stack([number * (pi * axis).cos(), number * (pi * axis).sin(), 2 * pi * phase], -1)


def trajectories(
    u: Float[Tensor, "b n 4"],
    turns: Float[Tensor, "b n steps 2"],
    radius: Float[Tensor, "b n"],
    height: int,
    width: int,
) -> Float[Tensor, "b n t 2"]:
    """Centres of objects that keep their speed, turn at random, and bounce so that they stay wholly in the frame.

    ``p_{t+1} = p_t + v_t``: first ``v`` turns with probability :data:`TURN_PROBABILITY`, then every component of it
    that would lead out of the frame changes sign. No step is ever shortened.

    Args:
        u: numbers in 0..1 for the first x, y, direction and speed.
        turns: numbers in 0..1 that decide whether, and by what angle, an object turns at each step.
        radius: pixels kept between a centre and the frame's border.
        height, width: of the frame.
    """
    side = 2 * turns[..., 1] - 1
    angle = side.sign() * between(side.abs(), *TURN_ANGLE)
    angle = torch.where(turns[..., 0] < TURN_PROBABILITY, angle, 0.0)
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


def rotate(vector: Float[Tensor, "*shape 2"], angle: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape 2"]:
    """``vector`` turned by ``angle`` radians from x towards y."""
    (x, y), cos, sin = vector.unbind(-1), angle.cos(), angle.sin()
    return torch.stack([cos * x - sin * y, sin * x + cos * y], -1)


def render(scene: Scene, height: int, width: int) -> Float[Tensor, "b 3 t h w"]:
    """RGB, within 0..1 by the choice of the constants above, so that nothing is clipped.

    Outlines and textures are evaluated at pixel centres; both are too smooth to alias, so motion is sub-pixel.
    """
    y, x = torch.arange(height).float().view(-1, 1), torch.arange(width).float().view(1, -1)
    shading = wave_values(scene.shading, x, y)  # [b, 2, h, w]
    ground = scene.backdrop[..., None, None] + torch.einsum("bkhw,bkc->bchw", shading, scene.shade)
    video = ground.unsqueeze(2).repeat(1, 1, scene.centre.shape[2], 1, 1)
    for n in range(scene.present.shape[1]):
        dx, dy = (p - c[..., None, None] for p, c in zip((x, y), scene.centre[:, n].unbind(-1), strict=True))
        coverage = torch.sigmoid(signed_distance(scene, n, dx, dy) / -EDGE) * _full(scene.present[:, n])
        waves = [wave_values(wave.unsqueeze(1), dx, dy) for wave in scene.texture[:, n].unbind(1)]
        relief = (waves[0] + waves[1]) * _full(scene.contrast[:, n] / 2)
        surface = scene.colour[:, n, :, None, None, None] + relief.unsqueeze(1)
        video.lerp_(surface, coverage.unsqueeze(1))
    return video


def wave_values(
    waves: Float[Tensor, "*#batch 3"], x: Float[Tensor, "*#batch 1 w"], y: Float[Tensor, "*#batch h 1"]
) -> Float[Tensor, "*#batch h w"]:
    """``cos(kx x + ky y + phase)`` of every wave."""
    kx, ky, phase = (v[..., None, None] for v in waves.unbind(-1))
    return ((kx * x + phase) + ky * y).cos()


def signed_distance(
    scene: Scene, n: int, dx: Float[Tensor, "b t 1 w"], dy: Float[Tensor, "b t h 1"]
) -> Float[Tensor, "b t h w"]:
    """Pixels from object n's outline, negative inside; for a polygon the distance to its nearest side's line.

    A regular polygon of k sides in a circle of radius R: ``max_i q . (cos a_i, sin a_i) - R cos(pi / k)`` over the
    directions ``a_i = tilt + 2 pi i / k`` of its sides. A circle: ``|q| - R``. A ring: a band inside a circle's
    outline.
    """
    radius, sector = _full(scene.radius[:, n]), _full(2 * pi / torch.tensor(SIDES)[scene.shape[:, n]])
    directions = [_full(scene.tilt[:, n]) + side * sector for side in range(MAX_SIDES)]  # a triangle's repeat
    to_side = reduce(torch.maximum, (a.cos() * dx + a.sin() * dy for a in directions))
    is_round, is_ring = sector == 0, _full(scene.shape[:, n] == SHAPES.index("ring"))
    outline = torch.where(is_round, torch.hypot(dx, dy), to_side) - radius * (sector / 2).cos()
    half_band = radius * RING_WIDTH / 2
    return torch.where(is_ring, (outline + half_band).abs() - half_band, outline)


def _full(value: Tensor) -> Tensor:
    """``[b]`` -> ``[b, 1, 1, 1]``, beside ``[b, t, h, w]``."""
    return value.view(-1, 1, 1, 1)
