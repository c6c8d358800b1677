"""Controls: how they are made, and what they do not change."""

import pytest
import torch
from scipy.ndimage import uniform_filter

from interp_refiner.core import BadValue
from interp_refiner.data.medium.soft import blurred
from interp_refiner.evaluation.evaluator.controls import nearest_keyframe_copy, noise_of_its_size, shuffled_keyframes


def clips_and_known(space=(5, 6)):
    g = torch.Generator().manual_seed(0)
    known = torch.rand(4, 9, generator=g) < 0.4
    known[:, 4] = True
    return torch.randn(4, 3, 9, *space, generator=g), known


@pytest.mark.parametrize("space", [(5, 6), ()])
def test_copies_the_nearest_keyframe_and_reads_no_other_frame(space):
    clean, known = clips_and_known(space)
    hidden = clean.masked_fill(~known.view(4, 1, 9, *[1] * len(space)), float("nan"))
    found = nearest_keyframe_copy(hidden, known)
    for i in range(4):
        frames = [t for t in range(9) if known[i, t]]
        for t in range(9):
            nearest = min(frames, key=lambda k: (abs(k - t), k))
            assert torch.equal(found[i, :, t], clean[i, :, nearest])


def test_blurs_missing_frames_only():
    clean, known = clips_and_known()
    found = blurred(clean, known)
    for i in range(4):
        for t in range(9):
            if known[i, t]:
                assert torch.equal(found[i, :, t], clean[i, :, t])
            else:
                expected = uniform_filter(clean[i, :, t].double().numpy(), size=(1, 3, 3), mode="nearest")
                assert torch.allclose(found[i, :, t].double(), torch.from_numpy(expected), atol=1e-6)


def test_shuffled_keyframes_come_from_another_clip():
    clean, known = clips_and_known()
    found = shuffled_keyframes(clean, known)
    for i in range(4):
        for t in range(9):
            assert torch.equal(found[i, :, t], clean[i - 1 if known[i, t] else i, :, t])
    with pytest.raises(BadValue, match="clean=1 clip: expected at least 2 clips"):
        shuffled_keyframes(clean[:1], known[:1])


@pytest.mark.parametrize("space", [(5, 6), ()])
def test_noise_of_its_size_has_the_samples_energy_place_by_place(space):
    interpolation, _ = clips_and_known(space)
    g = torch.Generator().manual_seed(1)
    where = torch.rand(4, 3, 9, *space, generator=g) * (torch.arange(9) > 3).view(9, *[1] * len(space))
    sample = interpolation + where
    noise = torch.randn(400, *sample.shape, generator=g)
    added = torch.stack([noise_of_its_size(sample, interpolation, eps) for eps in noise]) - interpolation
    assert (added[:, :, :, :4].abs().max() < 1e-6).all()  # where the sample adds nothing
    expected = where.square().double().numpy()
    if space:
        expected = uniform_filter(expected, size=(1, 1, 1, 3, 3), mode="nearest")
    found = added.square().double().mean(0)
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=0.5, atol=1e-6)
    assert found.mean() == pytest.approx(expected.mean(), rel=0.02)
