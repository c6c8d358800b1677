from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp_refiner.core import Draws
from interp_refiner.data.world import DIRECTIONS, SHAPES, SPEED, Scene, draw_scenes, render

HEIGHT, WIDTH, FRAMES = 32, 56, 21


def scenes(
    number: int = 64, seed: int = 0, num_frames: int = FRAMES, height: int = HEIGHT, width: int = WIDTH
) -> Scene:
    return draw_scenes(Draws(seed, "train", [f"clip-{i}" for i in range(number)]), num_frames, height, width)


def only(scene: Scene, shape: str, centre: Tensor, **changes: Tensor) -> Scene:
    """Every clip shows one object of one shape, frame by frame at ``centre`` ``[t, 2]``."""
    first = torch.tensor([True, False, False]).expand_as(scene.present)
    kinds = torch.full_like(scene.shape, SHAPES.index(shape))
    b, n = scene.shape.shape
    return replace(scene, present=first, shape=kinds, centre=centre.expand(b, n, *centre.shape), **changes)


@settings(max_examples=10)
@given(st.integers(0, 10_000), st.integers(2, 40), st.sampled_from([(16, 16), (32, 56), (64, 20)]))
def test_objects_keep_their_speed_and_stay_inside(seed: int, num_frames: int, size: tuple[int, int]):
    scene = scenes(16, seed, num_frames, *size)
    speed = scene.centre.diff(dim=2).norm(dim=-1)
    torch.testing.assert_close(speed, speed[:, :, :1].expand_as(speed), atol=1e-3, rtol=0)
    assert speed.min() >= SPEED[0] - 1e-3
    assert speed.max() <= SPEED[1] + 1e-3
    radius = scene.radius.view(16, 3, 1, 1)
    far = torch.tensor([size[1], size[0]]) - 1 - radius
    assert ((scene.centre >= radius - 1e-3) & (scene.centre <= far + 1e-3)).all()


def test_turns_are_as_frequent_as_asked():
    step = scenes(512).centre.diff(dim=2)
    cross = step[:, :, 1:, 0] * step[:, :, :-1, 1] - step[:, :, 1:, 1] * step[:, :, :-1, 0]
    flipped = torch.isclose(step[:, :, 1:].abs(), step[:, :, :-1].abs(), atol=1e-4).all(-1)  # straight on, or a bounce
    turned = (cross.abs() > 1e-3) & ~flipped
    assert 0.05 < turned.float().mean() < 0.07


def test_one_to_three_objects_equally_often():
    shares = scenes(600).present.sum(1).bincount(minlength=4) / 600
    assert shares[0] == 0
    assert (shares[1:] - 1 / 3).abs().max() < 0.08


def test_a_clip_depends_on_its_seed_and_key_alone():
    def picture(seed: int, stream: str, keys: list[str]) -> Tensor:
        return render(draw_scenes(Draws(seed, stream, keys), 5, HEIGHT, WIDTH), HEIGHT, WIDTH)

    batch = picture(0, "train", ["a", "b", "c"])
    torch.testing.assert_close(picture(0, "train", ["b"])[0], batch[1], atol=1e-5, rtol=0)
    for other in (picture(1, "train", ["b"]), picture(0, "val", ["b"]), picture(0, "train", ["d"])):
        assert (other[0] - batch[1]).abs().max() > 0.1


def test_pixels_stay_in_range_unclipped():
    video = render(scenes(96), HEIGHT, WIDTH)
    assert video.shape == (96, 3, FRAMES, HEIGHT, WIDTH)
    assert 0 < video.min() < 0.15
    assert 0.85 < video.max() < 1


def test_every_frame_moves_a_little_and_nothing_pops():
    change = render(scenes(96), HEIGHT, WIDTH).diff(dim=2).abs()
    per_frame = change.mean((1, 3, 4))
    assert per_frame.min() > 1e-4
    assert per_frame.max() < 0.06
    assert change.max() < 0.6  # the steepest edge, moved by the highest speed


@pytest.mark.parametrize("shape", SHAPES)
def test_outline_and_texture_move_with_the_object(shape: str):
    path = torch.tensor([[26.25, 16.5], [29.25, 14.5]])  # a whole number of pixels: (3, -2)
    plain = {"shade": torch.zeros(8, 2, 3), "radius": torch.full((8, 3), 6.0)}
    first, second = render(only(scenes(8), shape, path, **plain), HEIGHT, WIDTH).unbind(2)
    torch.testing.assert_close(second, first.roll((-2, 3), (2, 3)), atol=1e-3, rtol=0)
    assert (second - first).abs().max() > 0.1


def test_motion_is_sub_pixel():
    """The centre of a circle's mass follows positions between the pixels."""
    path = torch.stack([torch.linspace(20, 22, 9), torch.linspace(15, 16, 9)], -1)
    flat = {"shade": torch.zeros(4, 2, 3), "contrast": torch.zeros(4, 3)}
    scene = only(scenes(4), "circle", path, **flat)
    mass = (render(scene, HEIGHT, WIDTH) - scene.backdrop.view(4, 3, 1, 1, 1)).abs().sum(1)
    x = (mass.sum(2) * torch.arange(WIDTH)).sum(-1) / mass.sum((2, 3))
    y = (mass.sum(3) * torch.arange(HEIGHT)).sum(-1) / mass.sum((2, 3))
    torch.testing.assert_close(torch.stack([x, y], -1), path.expand(4, 9, 2), atol=0.01, rtol=0)


@pytest.mark.parametrize(
    ("shape", "area"),  # of the unit circle's inscribed polygon; a ring's band is half as wide as its radius
    [("triangle", 1.299), ("square", 2.0), ("circle", 3.1416), ("ring", 3.1416 * 0.75)],
)
def test_shapes_have_their_area(shape: str, area: float):
    flat = {"shade": torch.zeros(16, 2, 3), "contrast": torch.zeros(16, 3)}
    scene = only(scenes(16), shape, torch.tensor([[28.0, 16.0]]), **flat)
    difference = (scene.colour[:, 0] - scene.backdrop).view(16, 3, 1, 1)
    coverage = ((render(scene, HEIGHT, WIDTH)[:, :, 0] - scene.backdrop[..., None, None]) / difference)[:, 0]
    measured = coverage.sum((1, 2)) / scene.radius[:, 0].square()
    torch.testing.assert_close(measured, torch.full((16,), area), rtol=0.15, atol=0)


def test_directions_name_every_step():
    compass = torch.tensor([[1, 0], [1, 1], [0, 1], [-1, 1], [-1, 0], [-1, -1], [0, -1], [1, -1]]).float()
    scene = scenes(128)
    step = scene.centre.diff(dim=2)
    named = compass[scene.directions]
    cosine = torch.nn.functional.cosine_similarity(step, named, dim=-1)
    assert cosine.min() > 0.923  # within 22.5 degrees
    assert [DIRECTIONS[i] for i in (0, 2, 4, 6)] == ["right", "down", "left", "up"]
    assert scene.directions.unique().numel() == len(DIRECTIONS)
