"""Noise profiles against the table of docs/method.md, Corruption, written out frame by frame."""

from math import sqrt

import pytest
import torch

from interp_refiner.core import BadValue, Draws, neighbours
from interp_refiner.forward.corruption import BrownianBridge, Gauss, Noiseless, Triangular

FORMULAS = {
    Noiseless: (lambda dl, dr, last: 0.0, lambda d, last: 0.0),
    Gauss: (lambda dl, dr, last: 1.0, lambda d, last: 1.0),
    BrownianBridge: (
        lambda dl, dr, last: sqrt(4 * dl * dr / ((dl + dr) * last)),
        lambda d, last: min(1.0, sqrt(4 * d / last)),
    ),
    Triangular: (lambda dl, dr, last: 2 * min(dl, dr) / (dl + dr), lambda d, last: 1.0),
}


@pytest.mark.parametrize("profile", FORMULAS, ids=lambda cls: cls.__name__)
def test_profile_equals_the_table(profile):
    between, beyond = FORMULAS[profile]
    known = torch.rand(64, 21, generator=torch.Generator().manual_seed(0)) < 0.25
    known[:, 7] = True
    actual = profile()(neighbours(known))
    for row, mask in zip(actual, known.tolist(), strict=True):
        keys = [t for t, key in enumerate(mask) if key]
        for t in range(21):
            left, right = [k for k in keys if k <= t], [k for k in keys if k >= t]
            if t in keys:
                expected = 0.0
            elif left and right:
                expected = between(t - left[-1], right[0] - t, 20)
            else:
                expected = beyond(abs(t - (left or right)[-1 if left else 0]), 20)
            assert row[t].item() == pytest.approx(expected, abs=1e-6)


def test_the_brownian_bridge_peaks_at_one_in_a_gap_as_long_as_the_clip():
    known = torch.zeros(1, 21, dtype=torch.bool)
    known[0, [0, 20]] = True
    profile = BrownianBridge()(neighbours(known))[0]
    assert profile[10] == 1
    assert profile.argmax() == 10


def test_without_noise_any_sigma_is_zero_and_says_so():
    with pytest.warns(UserWarning, match=r"corruption=none has no noise: sigma=0\.5 is replaced by 0"):
        assert Noiseless().amplitude(0.5) == 0
    assert Gauss().amplitude(0.5) == 0.5


@pytest.mark.parametrize("correlation", [0.0, 0.6])
def test_noise_of_neighbouring_frames_is_correlated_and_of_unit_variance(correlation):
    draws, like = Draws(0, "train", ["a", "b"], [0, 0]), torch.empty(2, 3, 9, 40, 40)
    noise = Gauss(temporal_correlation=correlation).draw(draws, "noise", like, 1)
    if correlation == 0:
        assert torch.equal(noise, draws.normal("noise", like))
    for lag in range(4):
        product = (noise[:, :, lag:] * noise[:, :, : 9 - lag]).mean((0, 1, 3, 4))
        torch.testing.assert_close(product, torch.full_like(product, correlation**lag), atol=0.05, rtol=0)
    alone = Gauss(temporal_correlation=correlation).draw(Draws(0, "train", ["b"], [0]), "noise", like[1:], 1)
    torch.testing.assert_close(noise[1:], alone)


def test_a_profile_for_other_clips_keeps_its_correlation():
    assert BrownianBridge(temporal_correlation=0.4).of_clips(9).temporal_correlation == 0.4


@pytest.mark.parametrize("correlation", [-0.1, 1.0, float("nan")])
def test_correlations_outside_the_stationary_range_are_refused(correlation):
    with pytest.raises(BadValue, match="temporal_correlation="):
        BrownianBridge(temporal_correlation=correlation)
