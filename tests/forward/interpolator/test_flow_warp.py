"""Flows, warps, matching, and the network that starts at linear interpolation; in latents and in pixels."""

import pytest
import torch
import torch.nn.functional as F

from interp_refiner.core import BadValue
from interp_refiner.data.codec import LatentPreview, PatchDCT
from interp_refiner.forward.interpolator import FlowWarp, InPixels, Linear
from interp_refiner.forward.interpolator.flow_warp import (
    NUM_FIELDS,
    appearance,
    best_match,
    blend,
    enlarge,
    flows,
    matching,
    roughness,
    warp,
)


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def known_at(frames, num_frames, batch=1):
    known = torch.zeros(batch, num_frames, dtype=torch.bool)
    known[:, frames] = True
    return known


def untidy(module, seed=0):
    """The module with random weights everywhere, zero-initialised ones included."""
    with torch.no_grad():
        for number, weight in enumerate(module.parameters()):
            weight.copy_(0.1 * randn(*weight.shape, seed=seed + number))
    return module


def test_a_warp_by_whole_positions_is_a_shift():
    image, flow = randn(2, 3, 6, 8), torch.zeros(2, 2, 6, 8)
    flow[:, 0], flow[:, 1] = 2, -1
    moved = warp(image, flow)
    torch.testing.assert_close(moved[:, :, 1:, :-2], image[:, :, :-1, 2:], atol=1e-5, rtol=0)
    torch.testing.assert_close(moved[:, :, 1:, -1], image[:, :, :-1, -1], atol=1e-5, rtol=0)  # the edge goes on


def test_a_warp_by_half_a_position_is_a_mean():
    image, flow = randn(1, 2, 5, 7), torch.zeros(1, 2, 5, 7)
    flow[:, 0] = 0.5
    torch.testing.assert_close(warp(image, flow)[..., :-1], (image[..., :-1] + image[..., 1:]) / 2, atol=1e-5, rtol=0)


def test_flows_point_along_one_path():
    fields, alpha = randn(4, NUM_FIELDS, 3, 5), torch.tensor([0.0, 0.25, 0.6, 1.0]).view(-1, 1, 1, 1)
    to_left, to_right = flows(fields, alpha)
    torch.testing.assert_close(to_right - to_left, fields[:, :2])
    assert (to_left[0] == 0).all()  # at a keyframe it is where it is
    assert (to_right[3] == 0).all()


@pytest.mark.parametrize("alpha", [0.25, 0.5, 0.8])
def test_the_right_displacement_restores_a_moving_picture(alpha):
    still = randn(1, 3, 8, 20)
    left, middle, right = (still.roll(shift, 3) for shift in (0, round(alpha * 20), 20))
    fields = torch.zeros(1, NUM_FIELDS, 8, 20)
    fields[:, 0] = 20  # a full turn of the picture, so that right is left
    assert torch.equal(left, right)
    a = torch.full((1, 1, 1, 1), alpha)
    wide = [F.pad(frame, (20, 20, 0, 0), mode="circular") for frame in (left, right)]
    moved = blend(*wide, F.pad(fields, (20, 20, 0, 0), mode="replicate"), a)[..., 20:40]
    torch.testing.assert_close(moved, middle, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("visibility", "side"), [(50.0, "right"), (-50.0, "left")])
def test_what_only_one_keyframe_shows_is_taken_from_it(visibility, side):
    left, right, fields = randn(1, 3, 4, 4), randn(1, 3, 4, 4, seed=1), torch.zeros(1, NUM_FIELDS, 4, 4)
    fields[:, 4] = visibility
    blended = blend(left, right, fields, torch.full((1, 1, 1, 1), 0.3))
    torch.testing.assert_close(blended, {"left": left, "right": right}[side], atol=1e-5, rtol=0)


def test_matching_is_highest_at_the_true_displacement():
    left = F.normalize(randn(1, 32, 9, 12))
    right = left.roll((1, -2), (2, 3))  # d = (-2, 1) in (x, y)
    scores = matching(left, right, torch.full((1, 1, 1, 1), 0.0), radius=3)
    index = (1 + 3) * 7 + (-2 + 3)  # row by row over d_y, then d_x
    assert (scores.argmax(1)[:, 3:-3, 3:-3] == index).all()
    torch.testing.assert_close(scores[:, index, 3:-3, 3:-3], torch.ones(1, 3, 6), atol=1e-4, rtol=0)


def test_the_best_match_is_the_displacement_of_the_highest_score():
    scores = torch.zeros(1, 49, 2, 2)
    scores[:, (1 + 3) * 7 + (-2 + 3)] = 1.0
    torch.testing.assert_close(
        best_match(scores, torch.tensor(30.0), 3), torch.tensor([-2.0, 1.0]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    )
    assert best_match(torch.zeros(1, 49, 2, 2), torch.tensor(30.0), 3).abs().max() < 1e-6  # undecided: no motion


def test_untrained_looks_match_a_picture_with_itself_moved():
    left = F.avg_pool2d(randn(1, 3, 37, 53), 2, 1)  # 36 x 52
    coarse = torch.zeros(1, 1, 9, 13)
    looks, others = appearance(left, coarse), appearance(left.roll(8, 3), coarse)  # 8 positions are 2 cells
    found = best_match(matching(looks, others, torch.zeros(1, 1, 1, 1), 3), torch.tensor(100.0), 3)
    expected = torch.tensor([2.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 3, 5)
    torch.testing.assert_close(found[:, :, 3:6, 4:9], expected, atol=0.1, rtol=0)


def test_lengths_grow_with_the_grid_and_logits_do_not():
    fields = torch.full((1, NUM_FIELDS, 2, 3), 0.7)
    fine = enlarge(fields, 2)
    assert fine.shape == (1, NUM_FIELDS, 4, 6)
    torch.testing.assert_close(fine[0, :, 0, 0], torch.tensor([1.4, 1.4, 1.4, 1.4, 0.7, 0.7]))


def test_roughness_counts_frames_inside_gaps_only():
    flow = torch.zeros(3, 4, 4, 4)
    flow[0, :, :, 2:] = 3.0  # one step of 3 in three differences along x: mean 1
    flow[2] = randn(4, 4, 4)
    inside = torch.tensor([True, True, False]).view(-1, 1, 1, 1)
    torch.testing.assert_close(roughness(flow, inside), torch.tensor(0.5))
    assert roughness(flow, torch.zeros_like(inside)) == 0


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(8, 12), (7, 9), (3, 3)], ids=str)
def test_it_starts_at_linear_bit_for_bit_and_can_leave_it(stride, size):
    values, known = randn(2, 4, 7, *size), known_at([1, 5], 7, batch=2)
    network = FlowWarp(channels=4, width=8, stride=stride, radius=2)
    assert torch.equal(network(values, known).latents, Linear()(values, known).latents)
    away = untidy(network)(torch.where(known.view(2, 1, 7, 1, 1), values, torch.nan), known)
    linear = Linear()(values, known).latents
    assert away.latents.isfinite().all()
    assert (away.latents - linear)[:, :, 2:5].abs().amax() > 0.01
    assert torch.equal(away.latents[:, :, [0, 1, 5, 6]], linear[:, :, [0, 1, 5, 6]])  # known, or held at the ends
    assert away.confidence.shape == (2, 7, *size)
    assert away.roughness > 0


def test_every_weight_learns_once_the_last_layers_have_moved():
    values, known = randn(2, 4, 5, 8, 8), known_at([0, 4], 5, batch=2)
    network = untidy(FlowWarp(channels=4, width=8, radius=2))
    filled = network(values, known)
    (filled.latents.square().mean() + filled.roughness + filled.confidence.mean()).backward()
    assert all(weight.grad.abs().sum() > 0 for weight in network.parameters())


def test_weights_in_bfloat16_work_on_values_in_float32():
    values, known = randn(1, 4, 5, 8, 8), known_at([0, 4], 5)
    network = untidy(FlowWarp(channels=4, width=8, radius=2))
    exact = network(values, known).latents
    torch.testing.assert_close(network.bfloat16()(values, known).latents, exact, atol=0.1, rtol=0.1)


def test_pixels_of_linear_are_linear_latents():
    values, known = randn(2, 16, 6, 3, 4), known_at([0, 5], 6, batch=2)
    codec = PatchDCT([0.3] * 16, [0.5] * 16)
    assert torch.equal(InPixels(Linear(), codec)(values, known).latents, Linear()(values, known).latents)


def test_the_right_displacement_restores_a_moving_picture_in_pixels():
    class Shifts(FlowWarp):
        def fields(self, left, right_frame, alpha, gap):
            return torch.tensor([4.0, 0, 0, 0, 0, 0]).view(1, -1, 1, 1).expand(len(left), -1, *left.shape[2:])

    smooth = F.avg_pool2d(randn(1, 3, 24, 40) * 2, 7, 1)[..., :16, :32].sigmoid()
    codec = PatchDCT()
    clip = codec.encode(torch.stack([smooth.roll(2 * t, 3) for t in range(3)], 2))
    known = known_at([0, 2], 3)
    warped, linear = (module(clip, known).latents for module in (InPixels(Shifts(channels=3), codec), Linear()))
    inner = (slice(None), slice(None), 1, slice(None), slice(2, -2))
    error, base = ((filled - clip)[inner].square().mean() for filled in (warped, linear))
    assert error < 0.2 * base  # what is left is detail that the codec does not keep


def test_confidence_in_pixels_is_told_per_latent_position():
    values, known = randn(1, 16, 5, 2, 3), known_at([0, 4], 5)
    filled = InPixels(untidy(FlowWarp(channels=3, width=8, stride=2, radius=1)), PatchDCT())(values, known)
    assert filled.confidence.shape == (1, 5, 2, 3)
    assert ((filled.confidence > 0) & (filled.confidence <= 1)).all()


def test_the_codec_comes_later_and_is_a_copy():
    interpolator, codec = InPixels(Linear()), PatchDCT()
    with pytest.raises(BadValue, match="codec=None: expected a codec"):
        interpolator(randn(1, 16, 3, 2, 2), known_at([0, 2], 3))
    interpolator = interpolator.with_codec(codec)
    values, known = randn(1, 16, 3, 2, 2), known_at([0, 2], 3)
    before = interpolator(values, known).latents
    codec.set_statistics([1.0] * 16, [3.0] * 16)
    assert torch.equal(interpolator(values, known).latents, before)
    assert not list(interpolator.state_dict())


def test_a_codec_without_pixels_of_its_own_frames_is_refused():
    with pytest.raises(BadValue, match="codec=latent_preview: expected a codec that encodes"):
        InPixels(Linear(), LatentPreview())


@pytest.mark.parametrize("name", ["channels", "width", "stride", "radius"])
def test_sizes_below_1_are_refused(name):
    with pytest.raises(BadValue, match=f"{name}=0: expected at least 1"):
        FlowWarp(**{name: 0})


@pytest.mark.parametrize("shape", [(1, 16, 3), (1, 3, 3, 4, 4)], ids=str)
def test_other_values_than_video_of_these_channels_are_refused(shape):
    with pytest.raises(BadValue, match=r"video \[b, 16, t, h, w\]"):
        FlowWarp()(randn(*shape), known_at([0, 2], 3))
