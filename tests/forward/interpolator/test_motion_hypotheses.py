"""Every hypothesis keeps the laws of interpolators, and follows the motion of its law."""

import pytest
import torch

from interp_refiner.core import BadValue, per_frame
from interp_refiner.forward.interpolator import (
    Backward,
    BlockFields,
    Forward,
    Leading,
    Linear,
    LinearBlend,
    MotionFields,
    MotionHypotheses,
    Nearest,
    Quadratic,
)
from interp_refiner.forward.interpolator.splatting import splat
from tests.factories import make_interpolator

NAMES = ["motion_hypotheses", "motion_hypotheses_pixels", "quadratic_pixels"]
LAWS = [Forward(), Backward(), Quadratic(), LinearBlend(), Nearest()]
FORWARD, BACKWARD, QUADRATIC, BLEND, NEAREST = range(1, 6)
KNOWN = torch.tensor([[frame % 4 == 0 for frame in range(13)]])  # three gaps of four frames
EDGE = 10  # positions from the border, where new content comes in


def hypotheses(laws=LAWS, **fields):
    return MotionHypotheses(Linear(), MotionFields(**{"radius": 8, "window": 5, "smoothness": 0.01, **fields}), laws)


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def masks(seed, frames=9):
    """Random masks; the first has its endpoints known, the second one frame only."""
    known = torch.rand(3, frames, generator=torch.Generator().manual_seed(seed)) < 0.4
    known[0, [0, -1]], known[1], known[2, 3] = True, torch.arange(frames) == 4, True
    return known


def hidden(latents, known):
    return torch.where(per_frame(known, latents), latents, torch.nan)


def waves(way, height=40, width=48, seed=0):
    """A picture of 16 plane waves at every position (x, y) of ``way``, sub-pixel: ``[1, 3, t, h, w]``."""
    generator = torch.Generator().manual_seed(seed)
    number = torch.randn(3, 16, 2, generator=generator) * 0.35
    phase = 6.3 * torch.rand(3, 16, generator=generator)
    x = torch.arange(width).view(1, 1, -1) - way[:, 0].view(-1, 1, 1)
    y = torch.arange(height).view(1, -1, 1) - way[:, 1].view(-1, 1, 1)
    angle = torch.einsum("cn,thw->cnthw", number[..., 0], x.expand(-1, height, -1))
    angle = angle + torch.einsum("cn,thw->cnthw", number[..., 1], y.expand(-1, -1, width))
    return ((angle + phase[..., None, None, None]).cos().sum(1) / 8**0.5).unsqueeze(0)


def errors(result, clip, frames):
    """Squared error of every hypothesis in ``frames``, away from the border."""
    difference = (result.hypotheses - clip.unsqueeze(1))[:, :, :, frames, EDGE:-EDGE, EDGE:-EDGE]
    return difference.square().mean((0, 2, 3, 4, 5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_every_hypothesis_keeps_keyframes_and_reads_no_missing_frame(name, dtype):
    interpolator, latents, known = make_interpolator(name), noise(3, 16, 9, 8, 12, dtype=dtype), masks(0)
    result = interpolator(hidden(latents, known), known)
    assert result.hypotheses.shape == (3, interpolator.num_hypotheses, *latents.shape[1:])
    assert result.hypotheses.dtype == dtype
    assert result.hypotheses.isfinite().all()
    assert torch.equal(result.hypotheses[:, 0], result.latents)
    frame = per_frame(known, latents).unsqueeze(1)
    assert torch.equal(
        *(
            torch.where(frame, z, 0.0)
            for z in (result.hypotheses, result.latents.unsqueeze(1).expand_as(result.hypotheses))
        )
    )
    assert (result.hypotheses != result.latents.unsqueeze(1)).flatten(2).any(2)[0, 1:].all()


@pytest.mark.parametrize("name", NAMES)
def test_a_hypothesis_is_the_base_wherever_it_is_absent(name):
    latents, known = noise(3, 16, 9, 8, 12), masks(1)
    result = make_interpolator(name)(latents, known)
    absent = (result.present == 0).unsqueeze(2).expand_as(result.hypotheses)
    base = result.latents.unsqueeze(1).expand_as(result.hypotheses)
    assert torch.equal(result.hypotheses[absent], base[absent])
    assert ((result.present >= 0) & (result.present <= 1)).all()
    assert (result.present[:, 0] == 1).all()
    assert (result.present[:, 1:].transpose(1, 2)[known] == 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_its_samples_one_by_one(name):
    interpolator, latents, known = make_interpolator(name), noise(3, 16, 9, 8, 12), masks(2)
    whole = interpolator(latents, known)
    for i in range(3):
        alone = interpolator(latents[i : i + 1], known[i : i + 1])
        torch.testing.assert_close(alone.hypotheses[0], whole.hypotheses[i], atol=1e-4, rtol=0)
        torch.testing.assert_close(alone.present[0], whole.present[i], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_stills_stay_still_in_every_hypothesis(name):
    still, known = noise(3, 16, 1, 8, 12, seed=3).expand(-1, -1, 9, -1, -1), masks(3)
    result = make_interpolator(name)(hidden(still, known), known)
    assert torch.equal(result.hypotheses, still.unsqueeze(1).expand_as(result.hypotheses))


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_rounded_once_in_every_hypothesis(name):
    interpolator, latents, known = make_interpolator(name), noise(3, 16, 9, 8, 12, dtype=torch.bfloat16), masks(4)
    exact = interpolator(latents.double(), known).hypotheses
    once = interpolator(latents.float(), known).hypotheses.bfloat16()
    error = (interpolator(latents, known).hypotheses.double() - exact).square().mean((0, 2, 3, 4, 5))
    assert (error <= 1.05**2 * (once.double() - exact).square().mean((0, 2, 3, 4, 5))).all()


def test_where_a_side_is_missing_nothing_is_guessed():
    clip = waves(torch.arange(13).view(-1, 1) * torch.tensor([0.7, 0.3]))
    present = hypotheses()(clip, KNOWN).present.amax((0, 3, 4)) > 0
    gaps = [slice(1, 4), slice(5, 8), slice(9, 12)]
    has = {law: [bool(present[law, gap].all()) for gap in gaps] for law in (FORWARD, BACKWARD, QUADRATIC, BLEND)}
    assert has[FORWARD] == [False, True, True]
    assert has[BACKWARD] == [True, True, False]
    assert has[QUADRATIC] == has[BLEND] == [True, True, True]
    ends_only = torch.arange(13).remainder(12).eq(0).unsqueeze(0)
    alone = hypotheses()(clip, ends_only).present.amax((0, 2, 3, 4)) > 0
    assert alone.tolist() == [True, False, False, False, True, True]


def test_a_constant_velocity_is_carried_on_and_back():
    clip = waves(torch.arange(13).view(-1, 1) * torch.tensor([1.3, -0.6]))
    result = hypotheses()(hidden(clip, KNOWN), KNOWN)
    error = errors(result, clip, [5, 6, 7])
    assert (error[[FORWARD, BACKWARD, QUADRATIC]] < 0.05 * error[BLEND]).all()


@pytest.mark.parametrize("frames", [[1, 2, 3], [5, 6, 7], [9, 10, 11]])
def test_a_constant_acceleration_is_recovered(frames):
    """Between four keyframes, and at the ends by the parabola through three."""
    t = torch.arange(13.0).view(-1, 1) - 6
    clip = waves(0.06 * t * t * torch.tensor([1.0, -0.7]) + 0.4 * t)
    at_ends = hypotheses([Quadratic()])(hidden(clip, KNOWN), KNOWN)
    straight = hypotheses([Forward(), Backward()])(hidden(clip, KNOWN), KNOWN)
    error = errors(at_ends, clip, frames)[1]
    assert error < 0.1 * errors(at_ends, clip, frames)[0]
    assert error < 0.5 * errors(straight, clip, frames).amin()


def test_what_moves_covers_what_stands():
    """A textured square passes before a textured wall: forward, it is whole and the wall is not mixed into it."""
    t = torch.arange(13.0).view(-1, 1)
    way = t * torch.tensor([1.5, 0.0])
    wall, square = waves(0 * way), waves(way, seed=1)
    x, y = torch.arange(48.0).view(1, -1) - way[:, :1, None] - 4, torch.arange(40.0).view(-1, 1)
    clip = torch.where((x >= 0) & (x < 14) & (y >= 12) & (y < 26), square, wall)
    result = hypotheses()(hidden(clip, KNOWN), KNOWN)
    inside = (result.hypotheses[:, FORWARD] - clip)[:, :, 6, 15:23, 16:24]  # of 13..26
    assert inside.square().mean() < 0.05 * clip.var()


def test_blend_and_nearest_are_what_they_say():
    clip = noise(1, 4, 13, 12, 12)
    result = hypotheses()(hidden(clip, KNOWN), KNOWN)
    torch.testing.assert_close(result.hypotheses[:, BLEND], result.latents)
    nearest = torch.tensor([0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12])
    torch.testing.assert_close(result.hypotheses[:, NEAREST], clip[:, :, nearest])


def test_splatting_against_a_loop():
    values, flow, weight = noise(1, 2, 4, 5), 2 * noise(1, 2, 4, 5, seed=1), noise(1, 1, 4, 5, seed=2).exp()
    expected, total = torch.zeros_like(values), torch.zeros_like(weight)
    for y in range(4):
        for x in range(5):
            at_x, at_y = x + flow[0, 0, y, x], y + flow[0, 1, y, x]
            for row in range(4):
                for col in range(5):
                    share = (1 - (at_x - col).abs()).clamp(min=0) * (1 - (at_y - row).abs()).clamp(min=0)
                    share = share * weight[0, 0, y, x]
                    expected[0, :, row, col] += share * values[0, :, y, x]
                    total[0, :, row, col] += share
    carried, arrived = splat(values, flow, weight)
    torch.testing.assert_close(carried, expected)
    torch.testing.assert_close(arrived, total)


@pytest.mark.parametrize("pooling", [1, 2])
def test_fields_are_those_of_the_motion_below_a_pixel(pooling):
    start, end = waves(torch.tensor([[0.0, 0.0], [5.4, -2.7]])).unbind(2)
    fields = MotionFields(radius=8, pooling=pooling, window=5, smoothness=0.01)
    for motion, sign in zip(fields(start, end, torch.ones(1, 1, 1, 1)), (1, -1), strict=True):
        error = (motion.flow - sign * torch.tensor([5.4, -2.7]).view(1, 2, 1, 1))[..., EDGE:-EDGE, EDGE:-EDGE].abs()
        assert error.mean() < 0.1
        assert (error < 0.25).float().mean() > 0.95


def test_a_field_between_equal_pictures_is_exactly_zero():
    picture = noise(2, 3, 9, 11)
    there, back = MotionFields(radius=4, pooling=2, window=5)(picture, picture, torch.ones(2, 1, 1, 1))
    assert (there.flow == 0).all()
    assert (back.flow == 0).all()


def test_what_the_other_keyframe_does_not_confirm_counts_little():
    """A square of another texture stands in the later keyframe only: nothing in the earlier one is found there."""
    start, end = waves(torch.tensor([[0.0, 0.0], [3.0, 1.0]])).unbind(2)
    end = end.clone()
    end[..., 14:26, 14:26] = noise(1, 3, 12, 12)
    _, back = MotionFields(radius=8, window=5, smoothness=0.01)(start, end, torch.ones(1, 1, 1, 1))
    weight = back.weight[0, 0]
    assert weight[16:24, 16:24].mean() < 0.5 * weight[EDGE:-EDGE, 30:-EDGE].mean()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"radius": 0}, "radius=0: expected a finite number > 0"),
        ({"radius": 5, "pooling": 2}, "pooling=2: expected a divisor of radius=5"),
        ({"window": 4}, "window=4: expected an odd number"),
        ({"steps": -1}, "steps=-1: expected 0 or more"),
        ({"tolerance": 0.0}, "tolerance=0.0: expected a finite number > 0, or null"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(BadValue, match=message):
        MotionFields(**arguments)


def test_hypotheses_stand_on_hypotheses_of_another_kind_of_field():
    inner = hypotheses()
    both = MotionHypotheses(inner, BlockFields(), LAWS)
    values = noise(2, 3, 13, 8, 12)
    filled, below = both(values, KNOWN.expand(2, -1)), inner(values, KNOWN.expand(2, -1))
    assert both.num_hypotheses == inner.num_hypotheses + len(LAWS)
    assert torch.equal(filled.hypotheses[:, : inner.num_hypotheses], below.hypotheses)
    assert torch.equal(filled.latents, below.latents)


def test_no_law_at_all_and_paths_are_refused():
    with pytest.raises(BadValue, match=r"laws=.*: expected at least one law of motion"):
        hypotheses([])
    with pytest.raises(BadValue, match=r"latents=\(1, 2, 13\): expected video \[b, c, t, h, w\]"):
        hypotheses()(noise(1, 2, 13), KNOWN)


def test_another_hypothesis_leads():
    latents, known = waves(4.0 * torch.randn(13, 2, generator=torch.Generator().manual_seed(1))), KNOWN
    inner = hypotheses()
    plain, led = inner(latents, known), Leading(inner, leader=QUADRATIC)(latents, known)
    order = [QUADRATIC, FORWARD, BACKWARD, 0, BLEND, NEAREST]
    assert torch.equal(led.latents, plain.hypotheses[:, QUADRATIC])
    present = (led.present > 0).unsqueeze(2)
    assert torch.equal(led.hypotheses, torch.where(present, plain.hypotheses[:, order], led.latents.unsqueeze(1)))
    assert torch.equal(led.present[:, [1, 2, 4, 5]], plain.present[:, [1, 2, 4, 5]])
    assert led.present[:, 0].eq(1).all()
    assert torch.equal(led.confidence, plain.confidence)
    assert not led.latents.equal(plain.latents)


@pytest.mark.parametrize("leader", [6, -7])
def test_a_leader_that_does_not_exist_is_refused(leader):
    with pytest.raises(BadValue, match=rf"leader={leader}: expected a hypothesis from -6 to 5"):
        Leading(hypotheses(), leader)
