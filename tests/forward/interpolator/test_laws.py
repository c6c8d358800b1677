"""The laws of every interpolator (docs/method.md, Interpolators), over all members of the config group."""

from copy import deepcopy
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp_refiner.core import neighbours, per_frame
from interp_refiner.forward.interpolator import Learned, Remembered
from tests.factories import make_interpolator
from tests.helpers import NoHostSync, cuda_sync_is_an_error, group_members

MEMBERS = group_members("interpolator")
# match positions, so paths [b, c, t] are not for them
NEEDS_SPACE = {
    "sinkhorn", "flow_warp", "flow_warp_pixels", "motion_compensated", "motion_compensated_pixels", "straightened",
    "motion_hypotheses", "motion_hypotheses_pixels", "two_fields_pixels", "two_fields_linear_pixels",
    "quadratic_pixels", "remembered",
}  # fmt: skip
OF_PATHS = sorted(set(MEMBERS) - NEEDS_SPACE)
STILL_TOLERANCE = {"sinkhorn": 0.02}  # relative to the clip's deviation; other members return stills exactly
STRAIGHT = {"linear", "spline"}  # exact for z(t) = a + b t

VIDEO, PATH = (3, 16, 9, 8, 12), (3, 2, 9)
SHAPES = [pytest.param(VIDEO, id="video"), pytest.param(PATH, id="path")]


@pytest.fixture(params=MEMBERS)
def name(request):
    return request.param


@pytest.fixture
def interpolator(name):
    return make_interpolator(name)


@cache
def moved(name):
    """The member; a learned one with weights that have left its start."""
    built = deepcopy(make_interpolator(name))
    if isinstance(built, Learned):
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in built.parameters():
                weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return built


def skip_paths(name, shape):
    if name in NEEDS_SPACE and len(shape) == 3:
        pytest.skip(f"{name} matches positions in space")


def keyframe_masks(seed, batch, num_frames):
    """Random masks with at least one keyframe each; the first has its endpoints known, the second one frame only."""
    generator = torch.Generator().manual_seed(seed)
    known = torch.rand(batch, num_frames, generator=generator) < 0.4
    known[torch.arange(batch), torch.randint(num_frames, (batch,), generator=generator)] = True
    known[0, [0, -1]] = True
    known[1] = torch.arange(num_frames) == num_frames // 2
    return known


def clip(shape, seed=0, dtype=torch.float32):
    """Latents of unit variance with a negative zero in every frame."""
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    latents.view(*shape[:3], -1)[:, -1, :, 0] = -0.0
    return latents


def hide_missing(latents, known):
    return torch.where(per_frame(known, latents), latents, torch.nan)


def bits(latents):
    return latents.contiguous().view({2: torch.int16, 4: torch.int32}[latents.element_size()])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", OF_PATHS)
def test_known_frames_of_paths_come_out_bit_for_bit(name, dtype):
    known, latents = keyframe_masks(0, PATH[0], PATH[2]), clip(PATH, dtype=dtype)
    result = make_interpolator(name)(hide_missing(latents, known), known)
    assert result.latents.dtype == dtype
    same = bits(result.latents) == bits(latents)
    assert same[per_frame(known, latents).expand_as(latents)].all()


@given(
    seed=st.integers(0, 10**6),
    frames=st.integers(2, 9),
    height=st.integers(4, 9),
    width=st.integers(4, 9),
    order=st.permutations(range(3)),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
)
@settings(max_examples=8)
@pytest.mark.parametrize("name", MEMBERS)
def test_the_contract_of_every_interpolator(name, seed, frames, height, width, order, dtype):
    """Keyframes bit for bit, missing frames never read, any order of the batch, whatever its weights have learned."""
    interpolator, shape = moved(name), (3, 16, frames, height, width)
    known, latents = keyframe_masks(seed, 3, frames), clip(shape, seed, dtype)
    result = interpolator(hide_missing(latents, known), known)
    frame = per_frame(known, latents).expand_as(latents)
    assert torch.equal(bits(result.latents)[frame], bits(latents)[frame])
    assert result.latents.isfinite().all()
    assert result.confidence.isfinite().all()
    turned = interpolator(hide_missing(latents, known)[order], known[order])
    step = torch.finfo(dtype).eps  # another order may round the other way
    torch.testing.assert_close(turned.latents, result.latents[order], atol=1e-5 + step, rtol=2 * step)
    torch.testing.assert_close(turned.confidence, result.confidence[order], atol=1e-5, rtol=0)


@given(seed=st.integers(0, 10**6), frames=st.integers(3, 9), dtype=st.sampled_from([torch.float32, torch.bfloat16]))
@settings(max_examples=5)
@pytest.mark.parametrize("name", MEMBERS)
def test_stills_stay_still_at_any_keyframes(name, seed, frames, dtype):
    """Exact at its start for every member but sinkhorn, which moves what looks alike."""
    still = clip((3, 16, 1, 8, 12), seed, dtype).expand(3, 16, frames, 8, 12)
    known = keyframe_masks(seed, 3, frames)
    filled = make_interpolator(name)(hide_missing(still, known), known).latents
    difference = (filled - still).float().square().mean().sqrt()
    assert difference <= STILL_TOLERANCE.get(name, 0)


@pytest.mark.parametrize("name", OF_PATHS)
def test_order_of_a_batch_of_paths_changes_nothing(name):
    known, latents = keyframe_masks(1, PATH[0], PATH[2]), clip(PATH)
    interpolator, order = make_interpolator(name), [2, 0, 1]
    whole, turned = interpolator(latents, known), interpolator(latents[order], known[order])
    torch.testing.assert_close(turned.latents, whole.latents[order], atol=1e-6, rtol=0)
    torch.testing.assert_close(turned.confidence, whole.confidence[order], atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", OF_PATHS)
def test_paths_that_stand_still_stay_still(name, dtype):
    still = clip((*PATH[:2], 1), dtype=dtype).expand(PATH)
    known = keyframe_masks(2, PATH[0], PATH[2])
    assert torch.equal(make_interpolator(name)(hide_missing(still, known), known).latents, still)


@pytest.mark.parametrize("shape", SHAPES)
def test_blank_clips_stay_constant(name, interpolator, shape):
    """Constant in time and space: exact for every member."""
    skip_paths(name, shape)
    blank = clip((*shape[:2], 1, *[1] * (len(shape) - 3)), seed=4).expand(shape)
    known = keyframe_masks(2, shape[0], shape[2])
    filled = interpolator(hide_missing(blank, known), known).latents
    torch.testing.assert_close(filled, blank.contiguous(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_outside_the_outermost_keyframes_the_nearest_is_held(name, interpolator, shape):
    skip_paths(name, shape)
    latents = clip(shape)
    known = torch.zeros(shape[0], shape[2], dtype=torch.bool)
    known[:, [2, 5]] = True
    filled = interpolator(hide_missing(latents, known), known).latents
    for held, keyframe in (((0, 1), 2), ((6, 7, 8), 5)):
        for frame in held:
            torch.testing.assert_close(filled[:, :, frame], latents[:, :, keyframe], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_confidence_is_1_on_known_frames_and_a_share_elsewhere(name, interpolator, shape):
    skip_paths(name, shape)
    known, latents = keyframe_masks(3, shape[0], shape[2]), clip(shape)
    confidence = interpolator(latents, known).confidence
    assert confidence.shape[:2] == known.shape
    assert confidence.shape[2:] in (shape[3:], (1,) * (len(shape) - 3))
    assert (confidence[known] == 1).all()
    assert ((confidence >= 0) & (confidence <= 1)).all()
    assert (confidence[~known] < 1).any()


def test_half_precision_is_rounded_once(interpolator):
    """bf16 error <= 1.05x that of computing in float32 and rounding once."""
    known = keyframe_masks(0, VIDEO[0], VIDEO[2])
    latents = clip(VIDEO, dtype=torch.bfloat16)
    exact = interpolator(latents.double(), known).latents
    once = interpolator(latents.float(), known).latents.bfloat16()
    error = (interpolator(latents, known).latents.double() - exact).square().mean()
    assert 0 < error <= 1.05**2 * (once.double() - exact).square().mean()


def test_autocast_does_not_reach_inside(interpolator):
    known, latents = keyframe_masks(5, VIDEO[0], VIDEO[2]), clip(VIDEO)
    with torch.autocast("cpu", torch.bfloat16):
        inside = interpolator(latents, known).latents
    assert torch.equal(inside, interpolator(latents, known).latents)


def test_a_segment_depends_on_its_own_keyframes_if_it_says_so(interpolator):
    latents, other = clip(VIDEO, 1), clip(VIDEO, 2)
    known = torch.zeros(VIDEO[0], VIDEO[2], dtype=torch.bool)
    known[:, [0, 3, 6, 8]] = True
    other[:, :, 3:7] = latents[:, :, 3:7]
    inside, beside = (interpolator(z, known).latents[:, :, 3:7] for z in (latents, other))
    assert torch.equal(inside, beside) == interpolator.segment_local


def test_gradients_reach_known_frames_and_no_others(interpolator):
    known = torch.zeros(VIDEO[0], VIDEO[2], dtype=torch.bool)
    known[:, [1, 4, 8]] = True
    values = hide_missing(clip(VIDEO), known).requires_grad_()
    weight = clip(VIDEO, 9)
    (interpolator(values, known).latents * weight).sum().backward()
    assert values.grad.isfinite().all()
    used = values.grad.abs().flatten(3).sum((1, 3)) > 0
    assert torch.equal(used, known)


def test_nothing_waits_for_the_device(interpolator):
    known, latents = keyframe_masks(6, VIDEO[0], VIDEO[2]), clip(VIDEO)
    if isinstance(interpolator, Remembered):  # keeps on the CPU only
        interpolator = interpolator.inner
    with NoHostSync(), torch.no_grad():
        result = interpolator(latents, known)
    assert result.latents.shape == latents.shape


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_nothing_waits_on_a_gpu_and_known_frames_stay_there_too(interpolator):
    known, latents = keyframe_masks(6, VIDEO[0], VIDEO[2]).cuda(), clip(VIDEO).cuda()
    on_gpu = deepcopy(interpolator).cuda()
    on_gpu(hide_missing(latents, known), known)  # what is allocated and moved once
    with cuda_sync_is_an_error(), torch.no_grad():
        result = on_gpu(hide_missing(latents, known), known)
    assert (bits(result.latents) == bits(latents))[per_frame(known, latents).expand_as(latents)].all()


@pytest.mark.parametrize("name", sorted(STRAIGHT & set(MEMBERS)))
@given(seed=st.integers(0, 10**6))
@settings(max_examples=20)
def test_straight_motion_is_exact_between_the_outermost_keyframes(name, seed):
    known = keyframe_masks(seed, *PATH[::2])
    start, speed = clip((*PATH[:2], 1), seed), clip((*PATH[:2], 1), seed + 1)
    straight = start + speed * torch.arange(PATH[2])
    filled = make_interpolator(name)(hide_missing(straight, known), known).latents
    inside = per_frame(~neighbours(known).one_sided, straight)
    torch.testing.assert_close(filled * inside, straight * inside, atol=1e-5, rtol=1e-6)
