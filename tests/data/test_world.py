"""Laws of the embedded worlds and of their rendering."""

from dataclasses import replace
from math import pi

import pytest
import torch
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp_refiner.core import BadValue, Draws
from interp_refiner.data.world import DIRECTIONS, SHAPES, Bouncing, Gliding, Scene, World, render
from interp_refiner.data.world.bouncing import SPEED
from interp_refiner.data.world.gliding import CURVE, GROWTH, SPIN, glide
from tests.helpers import group_config, group_members

HEIGHT, WIDTH, FRAMES = 32, 56, 21
BOUNCING, GLIDING = Bouncing(), Gliding()
both_worlds = pytest.mark.parametrize("world", [BOUNCING, GLIDING], ids=lambda world: world.name)


def scenes(
    world: World, number: int = 64, seed: int = 0, size: tuple[int, int, int] = (FRAMES, HEIGHT, WIDTH)
) -> Scene:
    return world.draw(Draws(seed, "train", [f"clip-{i}" for i in range(number)]), *size)


def only(scene: Scene, shape: str, centre: Tensor, **changes: Tensor) -> Scene:
    """Every clip shows one object of one shape, frame by frame at ``centre`` ``[t, 2]``."""
    b, n, t = *scene.shape.shape, len(centre)
    first = torch.tensor([True, False, False]).expand_as(scene.present)
    kinds = torch.full_like(scene.shape, SHAPES.index(shape))
    moving = {name: getattr(scene, name)[:, :, :t] for name in ("radius", "tilt")} | {"pan": scene.pan[:, :t]}
    return replace(
        scene, **{**moving, "present": first, "shape": kinds, "centre": centre.expand(b, n, t, 2), **changes}
    )


@pytest.mark.parametrize("name", group_members("data/world"))
def test_every_option_is_the_world_that_its_constructor_makes(name: str):
    node = group_config("data", "moving_shapes", f"data/world={name}").writer.world
    world = instantiate(node)
    assert (world.name, world) == (name, type(world)())


@both_worlds
def test_one_to_three_objects_equally_often(world: World):
    present = scenes(world, 600).present
    shares = present.sum(1).bincount(minlength=4) / 600
    assert shares[0] == 0
    assert (shares[1:] - 1 / 3).abs().max() < 0.08
    fewer = scenes(replace(world, max_objects=1), 600)
    assert fewer.present.sum(1).eq(1).all()
    torch.testing.assert_close(fewer.centre, scenes(world, 600).centre)


@both_worlds
def test_a_clip_depends_on_its_seed_and_key_alone(world: World):
    def picture(seed: int, stream: str, keys: list[str]) -> Tensor:
        return render(world.draw(Draws(seed, stream, keys), 5, HEIGHT, WIDTH))

    batch = picture(0, "train", ["a", "b", "c"])
    torch.testing.assert_close(picture(0, "train", ["b"])[0], batch[1], atol=1e-4, rtol=0)
    for other in (picture(1, "train", ["b"]), picture(0, "val", ["b"]), picture(0, "train", ["d"])):
        assert (other[0] - batch[1]).abs().max() > 0.1


@both_worlds
def test_pixels_stay_in_range_unclipped(world: World):
    video = render(scenes(world, 64))
    assert video.shape == (64, 3, FRAMES, HEIGHT, WIDTH)
    assert 0 < video.min() < 0.15
    assert 0.85 < video.max() < 1


@both_worlds
def test_every_frame_moves_a_little_and_nothing_pops(world: World):
    change = render(scenes(world, 64)).diff(dim=2).abs()
    per_frame = change.mean((1, 3, 4))
    assert per_frame.min() > 1e-4
    assert per_frame.max() < 0.06
    assert change.max() < 0.7  # the steepest edge, moved by the highest speed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_objects": 4}, "max_objects=4: expected 1 to 3"),
        ({"max_gain": 0.5}, "max_gain=0.5: expected at least 1"),
        ({"turn_probability": 1.5}, "turn_probability=1.5: expected 0 to 1"),
    ],
)
def test_bad_settings_are_refused(arguments: dict[str, float], message: str):
    with pytest.raises(BadValue, match=message):
        Gliding(**arguments)


@settings(max_examples=10)
@given(st.integers(0, 10_000), st.integers(2, 40), st.sampled_from([(16, 16), (32, 56), (64, 20)]))
def test_bouncing_objects_keep_their_speed_and_stay_inside(seed: int, num_frames: int, size: tuple[int, int]):
    scene = scenes(BOUNCING, 16, seed, (num_frames, *size))
    speed = scene.centre.diff(dim=2).norm(dim=-1)
    torch.testing.assert_close(speed, speed[:, :, :1].expand_as(speed), atol=1e-3, rtol=0)
    assert speed.min() >= SPEED[0] - 1e-3
    assert speed.max() <= SPEED[1] + 1e-3
    radius = scene.radius.unsqueeze(-1)
    far = torch.tensor([size[1], size[0]]) - 1 - radius
    assert ((scene.centre >= radius - 1e-3) & (scene.centre <= far + 1e-3)).all()


def test_bouncing_objects_turn_as_often_as_asked():
    step = scenes(BOUNCING, 512).centre.diff(dim=2)
    cross = step[:, :, 1:, 0] * step[:, :, :-1, 1] - step[:, :, 1:, 1] * step[:, :, :-1, 0]
    flipped = torch.isclose(step[:, :, 1:].abs(), step[:, :, :-1].abs(), atol=1e-4).all(-1)  # straight on, or a bounce
    turned = (cross.abs() > 1e-3) & ~flipped
    assert 0.05 < turned.float().mean() < 0.07


def heading_changes(scene: Scene) -> Tensor:
    """Radians from step to step, ``[b, n, t - 2]``."""
    x, y = scene.centre.diff(dim=2).unbind(-1)
    return (torch.atan2(y, x).diff(dim=2) + pi) % (2 * pi) - pi


@settings(max_examples=10)
@given(st.integers(0, 10_000), st.integers(3, 40), st.sampled_from([(16, 16), (32, 56), (64, 20)]))
def test_without_turns_gliding_objects_curve_at_a_constant_rate(seed: int, num_frames: int, size: tuple[int, int]):
    scene = scenes(Gliding(turn_probability=0.0), 16, seed, (num_frames, *size))
    rate = heading_changes(scene)
    torch.testing.assert_close(rate, rate[:, :, :1].expand_as(rate), atol=2e-3, rtol=0)
    assert rate.abs().max() <= CURVE + 2e-3
    for value, most in ((scene.tilt, SPIN), (scene.radius.log(), GROWTH)):
        change = value.diff(dim=2)
        torch.testing.assert_close(change, change[:, :, :1].expand_as(change), atol=1e-4, rtol=0)
        assert change.abs().max() <= most + 1e-4


@pytest.mark.parametrize("probability", [0.015, 0.2])
def test_gliding_objects_turn_as_often_as_asked(probability: float):
    turned = heading_changes(scenes(Gliding(turn_probability=probability), 1000)).abs() > CURVE + 0.01
    assert turned.float().mean() == pytest.approx(probability, rel=0.15)


def test_gliding_objects_enter_and_leave_but_are_all_seen():
    scene = scenes(GLIDING, 400)
    seen = scene.in_view[scene.present]
    assert seen.any(1).all()
    assert 0.8 < seen.float().mean() < 0.95
    assert (~seen[:, 0]).float().mean() > 0.05
    assert (~seen[:, -1]).float().mean() > 0.05


def test_a_glide_is_the_integral_of_its_law():
    """A constant speed s and turning rate w: a circle of radius s / w, through chords of length s."""
    u = torch.tensor([[0.25, 1.0, 0.5, 0.0, 0.5, 0.5]])  # heads down (y), turns by 0.1 a step, no surge
    path = glide(u, torch.zeros(1, 60), (2.0, 4.0), 0.1)[0]
    torch.testing.assert_close(path[1], torch.tensor([0.0, 3.0]), atol=1e-5, rtol=0)
    circle = 3 / (2 * torch.tensor(0.05).sin())
    middle = path[:-1] + circle * torch.stack(
        [-(pi / 2 + 0.1 * (torch.arange(60) - 0.5)).sin(), (pi / 2 + 0.1 * (torch.arange(60) - 0.5)).cos()], -1
    )
    torch.testing.assert_close(middle, middle[:1].expand_as(middle), atol=1e-4, rtol=0)


def test_the_background_pans():
    """By whole pixels a frame it is the same picture, shifted; what comes in was not seen before."""
    scene = scenes(GLIDING, 8, size=(4, HEIGHT, WIDTH))
    pan = torch.tensor([3.0, -2.0]) * torch.arange(4).unsqueeze(1)
    video = render(replace(scene, present=torch.zeros_like(scene.present), pan=pan.expand(8, 4, 2)))
    torch.testing.assert_close(video[:, :, 1:, :-2, 3:], video[:, :, :-1, 2:, :-3], atol=1e-4, rtol=0)
    assert (video[:, :, 1] - video[:, :, 0]).abs().max() > 0.05


@pytest.mark.parametrize("shape", SHAPES)
def test_objects_spin_and_grow_with_their_texture(shape: str):
    """A quarter of a turn about a pixel is a rotated picture; twice the size is the same picture at half the steps."""
    flat = {"shade": torch.zeros(8, 4, 3), "radius": torch.full((8, 3, 2), 5.0)}
    spun = only(scenes(GLIDING, 8), shape, torch.tensor([[28.0, 16.0]]).expand(2, 2), **flat)
    spun = replace(spun, tilt=torch.tensor([0.3, 0.3 + pi / 2]).expand(8, 3, 2))
    before, after = render(spun)[..., 4:29, 16:41].unbind(2)
    torch.testing.assert_close(after, before.rot90(-1, (2, 3)), atol=1e-4, rtol=0)
    grown = replace(spun, tilt=torch.full((8, 3, 2), 0.3), radius=torch.tensor([6.0, 12.0]).expand(8, 3, 2))
    small, large = render(grown)[..., 13:20, 25:32].unbind(2)
    torch.testing.assert_close(large[..., 1::2, 1::2], small[..., 2:5, 2:5], atol=0.03, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_outline_and_texture_move_with_the_object(shape: str):
    path = torch.tensor([[26.25, 16.5], [29.25, 14.5]])  # a whole number of pixels: (3, -2)
    plain = {"shade": torch.zeros(8, 2, 3), "radius": torch.full((8, 3, 2), 6.0)}
    first, second = render(only(scenes(BOUNCING, 8), shape, path, **plain)).unbind(2)
    torch.testing.assert_close(second, first.roll((-2, 3), (2, 3)), atol=1e-3, rtol=0)
    assert (second - first).abs().max() > 0.1


def test_motion_is_sub_pixel():
    """The centre of a circle's mass follows positions between the pixels."""
    path = torch.stack([torch.linspace(20, 22, 9), torch.linspace(15, 16, 9)], -1)
    flat = {"shade": torch.zeros(4, 2, 3), "contrast": torch.zeros(4, 3)}
    scene = only(scenes(BOUNCING, 4), "circle", path, **flat)
    mass = (render(scene) - scene.backdrop.view(4, 3, 1, 1, 1)).abs().sum(1)
    x = (mass.sum(2) * torch.arange(WIDTH)).sum(-1) / mass.sum((2, 3))
    y = (mass.sum(3) * torch.arange(HEIGHT)).sum(-1) / mass.sum((2, 3))
    torch.testing.assert_close(torch.stack([x, y], -1), path.expand(4, 9, 2), atol=0.01, rtol=0)


@pytest.mark.parametrize(
    ("shape", "area"),  # of the unit circle's inscribed polygon; a ring's band is half as wide as its radius
    [("triangle", 1.299), ("square", 2.0), ("circle", 3.1416), ("ring", 3.1416 * 0.75)],
)
def test_shapes_have_their_area(shape: str, area: float):
    flat = {"shade": torch.zeros(16, 2, 3), "contrast": torch.zeros(16, 3)}
    scene = only(scenes(BOUNCING, 16), shape, torch.tensor([[28.0, 16.0]]), **flat)
    difference = (scene.colour[:, 0] - scene.backdrop).view(16, 3, 1, 1)
    coverage = ((render(scene)[:, :, 0] - scene.backdrop[..., None, None]) / difference)[:, 0]
    measured = coverage.sum((1, 2)) / scene.radius[:, 0, 0].square()
    torch.testing.assert_close(measured, torch.full((16,), area), rtol=0.15, atol=0)


@both_worlds
def test_directions_name_every_step(world: World):
    compass = torch.tensor([[1, 0], [1, 1], [0, 1], [-1, 1], [-1, 0], [-1, -1], [0, -1], [1, -1]]).float()
    scene = scenes(world, 128)
    step = scene.centre.diff(dim=2)
    named = compass[scene.directions]
    cosine = torch.nn.functional.cosine_similarity(step, named, dim=-1)
    assert cosine.min() > 0.923  # within 22.5 degrees
    assert [DIRECTIONS[i] for i in (0, 2, 4, 6)] == ["right", "down", "left", "up"]
    assert scene.directions.unique().numel() == len(DIRECTIONS)
