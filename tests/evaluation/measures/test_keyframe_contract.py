"""The keyframe contract: equal bits, colour shift and seam flicker."""

import json
import math

import pytest
import torch

from interp_refiner.evaluation.measures import KeyframeContract, keyframe_report
from tests.evaluation.measures import tables
from tests.evaluation.measures.moving import every, linear, moving_textures

STEP, T = 4, 13


def contract(*batches) -> dict[str, float]:
    first, told = 0, []
    for output, values, keyframes in batches:
        n = len(output)
        index, level = first + torch.arange(n), torch.ones(n, dtype=torch.long)
        told.append({"estimates": {"a": output}, "clean": values, "values": values, "known": keyframes})
        told[-1] |= {"sample": index, "level": level}
        first += n
    (group,) = tables.records(KeyframeContract(), *told)
    return {name.removesuffix("/a"): figure["value"] for name, figure in group["values"].items()}


def test_the_truth_keeps_its_keyframes():
    truth, known = moving_textures(8, t=T), every(STEP, 8, T)
    found = contract((truth, truth, known))
    assert found["exact_share"] == 1.0
    assert found["colour_shift"] == found["colour_shift_max"] == 0.0
    assert found["seam_flicker"] == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_one_bit_is_seen(dtype):
    values, known = moving_textures(2, t=T).to(dtype), every(STEP, 2, T)
    output = values.clone()
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    output.view(bits)[1, 1, 8, 3, 2] ^= 1
    report = keyframe_report(output, values, known)
    expected = torch.ones(2, T, dtype=torch.bool)
    expected[1, 8] = False
    assert torch.equal(report.exact, expected)
    assert contract((output, values, known))["exact_share"] == 7 / 8


def test_zero_and_minus_zero_differ():
    values, known = torch.zeros(1, 1, 3, 2), torch.ones(1, 3, dtype=torch.bool)
    output = values.clone()
    output[0, 0, 1, 0] = -0.0
    assert keyframe_report(output, values, known).exact.tolist() == [[True, False, True]]


def test_values_are_compared_in_the_dtype_of_the_output():
    values, known = moving_textures(2, t=T), every(STEP, 2, T)
    assert contract((values.bfloat16(), values, known))["exact_share"] == 1.0


def test_only_keyframes_of_the_values_are_read():
    truth, known = moving_textures(3, t=T), every(STEP, 3, T)
    hidden = truth.masked_fill(~known.view(3, 1, T, 1, 1), float("nan"))
    assert contract((truth, hidden, known)) == contract((truth, truth, known))


def test_colour_shift_is_the_distance_of_mean_colours():
    truth, known = moving_textures(2, t=T), every(STEP, 2, T)
    output = truth.clone()
    output[0, 0, 4] += 0.3
    output[0, 1, 4] -= 0.4
    output[0, :, 5] += 9.0  # no keyframe
    report = keyframe_report(output, truth, known)
    assert report.colour_shift[0, 4].item() == pytest.approx((0.5 * (0.3**2 + 0.4**2)) ** 0.5, rel=1e-4)
    assert report.colour_shift.count_nonzero() == 1
    assert contract((output, truth, known))["colour_shift_max"] == pytest.approx(report.colour_shift[0, 4].item() / 2)


def test_a_tint_of_the_missing_frames_shows_at_the_seams():
    truth, known = moving_textures(4, t=T), every(STEP, 4, T)
    tinted = truth + 0.5 * ~known.view(4, 1, T, 1, 1)
    found, clean = contract((tinted, truth, known)), contract((truth, truth, known))
    assert found["exact_share"] == 1.0
    assert found["colour_shift"] == 0.0
    assert found["seam_colour"] > 2 * clean["seam_colour"]
    alone = torch.zeros(1, 2, 3, 4, 4) + torch.tensor([0.5, 0.0, 0.7]).view(1, 1, 3, 1, 1)
    report = keyframe_report(alone, alone, torch.tensor([[False, True, False]]))
    assert report.seam_colour[0, 1].item() == pytest.approx(0.6)


def test_seam_flicker_equals_a_loop():
    clips, known = moving_textures(2, t=7), every(3, 2, 7)
    report = keyframe_report(clips, clips, known)
    for i in range(2):
        bend = {t: (clips[i, :, t + 1] - 2 * clips[i, :, t] + clips[i, :, t - 1]).square().mean() for t in range(1, 6)}
        mean = sum(bend.values()) / 5
        assert report.seam_flicker[i, 3].item() == pytest.approx((bend[3] / mean).item(), rel=1e-4)


def test_linear_interpolation_bends_at_keyframes_only():
    truth, known = moving_textures(6, t=T), every(STEP, 6, T)
    found = contract((linear(truth, STEP), truth, known))
    assert found["seam_flicker"] == pytest.approx((T - 2) / 2, rel=1e-4)  # 11 inner frames, keyframes 4 and 8


def test_records_name_every_keyframe():
    truth, known = moving_textures(2, t=T), every(STEP, 2, T).clone()
    known[1, 4] = False
    records = keyframe_report(truth, truth, known).records()
    assert [[r["frame"] for r in clip] for clip in records] == [[0, 4, 8, 12], [0, 8, 12]]
    first, inner = records[0][0], records[0][1]
    assert (first["seam_colour"], first["seam_flicker"], first["exact"]) == (None, None, True)
    assert inner["seam_flicker"] > 0
    assert json.loads(json.dumps(records)) == records


def test_paths_without_space():
    path = moving_textures(3, t=T)[..., 0, 0]
    found = contract((path, path, every(STEP, 3, T)))
    assert found["exact_share"] == 1.0
    assert all(math.isfinite(value) for value in found.values())


def test_seams_need_a_keyframe_with_two_neighbours():
    truth = moving_textures(2, t=T)
    ends = (torch.arange(T) % (T - 1) == 0).expand(2, T)
    found = contract((truth, truth, ends))
    assert {name for name, value in found.items() if math.isnan(value)} == {"seam_colour", "seam_flicker"}


def test_the_largest_shift_is_a_mean_over_clips():
    truth, known = moving_textures(2, t=T), every(STEP, 2, T)
    output = truth.clone()
    output[0, :, 4] += 0.3
    output[0, :, 8] += 0.1
    found = contract((output, truth, known))
    assert found["colour_shift_max"] == pytest.approx(0.15, rel=1e-4)
    assert found["colour_shift"] == pytest.approx(0.4 / 8, rel=1e-4)


def test_is_the_same_in_any_batches():
    truth, known = moving_textures(6, t=T), every(STEP, 6, T)
    output = linear(truth, STEP) + 0.1
    parts = [(output[i : i + 4], truth[i : i + 4], known[i : i + 4]) for i in (0, 4)]
    assert contract(*parts) == pytest.approx(contract((output, truth, known)))
