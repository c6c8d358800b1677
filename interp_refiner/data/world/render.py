"""Renders scenes as RGB video."""

from functools import reduce
from math import ceil, pi

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp_refiner.data.world.scene import SHAPES, SIDES, Scene, rotate

EDGE = 0.5  # pixels: coverage is sigmoid(-distance / EDGE), 10 to 90% within 2.2 pixels
FADE = 5.0  # pixels outside an outline beyond which coverage (below 5e-5) is treated as 0
MAX_SIDES = 4  # of a polygon
RING_WIDTH = 0.5  # of the radius


def render(scene: Scene) -> Float[Tensor, "b 3 t h w"]:
    """RGB in 0..1; the worlds' constants are chosen such that nothing is clipped.

    Outlines and textures are evaluated at pixel centres. Both are smooth enough not to alias, so motion is sub-pixel.
    """
    video = background(scene)
    for n in range(scene.present.shape[1]):
        paint(video, scene, n)
    return video.transpose(1, 2).contiguous()


def background(scene: Scene) -> Float[Tensor, "b t 3 h w"]:
    """The panned background: ``backdrop + sum_w shade_w cos(k_w . (p - pan) + phase_w)``.

    Computed as one matrix product, by ``cos(x + y) = cos x cos y - sin x sin y``.
    """
    wave = scene.shading.unsqueeze(1)  # [b, 1, w, 3], beside the frames
    shifted = wave[..., 2] - (wave[..., :2] * scene.pan.unsqueeze(2)).sum(-1)  # [b, t, w]
    in_x = wave[..., 0, None] * torch.arange(scene.width) + shifted.unsqueeze(-1)
    in_y = wave[..., 1, None] * torch.arange(scene.height)
    columns = torch.cat([in_x.cos(), in_x.sin()], 2)  # [b, t, 2 w, width]
    rows = torch.cat([in_y.cos(), -in_y.sin()], 2)
    rows = scene.shade.transpose(1, 2).repeat(1, 1, 2)[..., None] * rows  # [b, 3, 2 w, height]
    video = rows.flatten(1, 1).unsqueeze(1).transpose(-1, -2) @ columns.unsqueeze(2)
    return video + scene.backdrop[:, None, :, None, None]


def paint(video: Float[Tensor, "b t 3 h w"], scene: Scene, n: int) -> None:
    """Draws object n of every scene into ``video``, in a window around it, in the frames where it is visible."""
    clip, frame = in_sight(scene, n).nonzero(as_tuple=True)
    radius, tilt = scene.radius[:, n], scene.tilt[:, n]
    size = ceil(2 * (radius.max().item() + FADE)) + 1
    tall, wide = min(size, scene.height), min(size, scene.width)
    centre = scene.centre[clip, n, frame]
    most = torch.tensor([scene.width - wide, scene.height - tall])
    left, top = (centre.round().long() - size // 2).clamp(min=0).minimum(most).unbind(-1)
    dx = (left.unsqueeze(1) + torch.arange(wide) - centre[:, :1]).unsqueeze(1)
    dy = (top.unsqueeze(1) + torch.arange(tall) - centre[:, 1:]).unsqueeze(2)
    outline = signed_distance(scene.shape[clip, n], radius[clip, frame], tilt[clip, frame], dx, dy)
    growth = (radius / radius[:, :1])[clip, frame]
    turned = rotate(scene.texture[clip, n, :, :2], (tilt - tilt[:, :1])[clip, frame].unsqueeze(1))
    kx, ky = (k[..., None, None] for k in (turned / growth[:, None, None]).unbind(-1))
    phase = scene.texture[clip, n, :, 2, None, None]
    waves = (kx * dx.unsqueeze(1) + (ky * dy.unsqueeze(1) + phase)).cos()
    relief = waves.sum(1) * (scene.contrast[clip, n, None, None] / 2)
    surface = scene.colour[clip, n, :, None, None] + relief.unsqueeze(1)
    windows = video.unfold(3, tall, 1).unfold(4, wide, 1)  # [b, t, 3, tops, lefts, tall, wide], a view
    place = clip, frame, slice(None), top, left
    coverage = torch.sigmoid(outline / -EDGE).unsqueeze(1)
    windows[place] = windows[place].lerp(surface, coverage)


def in_sight(scene: Scene, n: int) -> Bool[Tensor, "b t"]:
    """Whether object n, including its soft edge, overlaps the frame."""
    reach = (scene.radius[:, n] + FADE).unsqueeze(-1)
    border = torch.tensor([scene.width, scene.height]) - 1
    inside = (scene.centre[:, n] > -reach) & (scene.centre[:, n] < border + reach)
    return inside.all(-1) & scene.present[:, n, None]


def signed_distance(
    shape: Int[Tensor, " m"],
    radius: Float[Tensor, " m"],
    tilt: Float[Tensor, " m"],
    dx: Float[Tensor, "m 1 x"],
    dy: Float[Tensor, "m y 1"],
) -> Float[Tensor, "m y x"]:
    """Distance in pixels to an object's outline, negative inside; for a polygon, to the line of its nearest side.

    A regular polygon of k sides in a circle of radius R: ``max_i q . (cos a_i, sin a_i) - R cos(pi / k)`` over the
    directions ``a_i = tilt + 2 pi i / k`` of its sides. A circle: ``|q| - R``. A ring: a band inside a circle's
    outline.
    """
    shape, radius, tilt = (value[:, None, None] for value in (shape, radius, tilt))
    sector = 2 * pi / torch.tensor(SIDES)[shape]
    sides = [tilt + side * sector for side in range(MAX_SIDES)]  # a triangle repeats one
    to_side = reduce(torch.maximum, (a.cos() * dx + a.sin() * dy for a in sides))
    is_round, is_ring = sector == 0, shape == SHAPES.index("ring")
    outline = torch.where(is_round, (dx.square() + dy.square()).sqrt(), to_side) - radius * (sector / 2).cos()
    half_band = radius * RING_WIDTH / 2
    return torch.where(is_ring, (outline + half_band).abs() - half_band, outline)
