"""Bootstrap intervals: a slow loop, coverage, and the gain of pairing."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp_refiner.core import BadValue, Interval
from interp_refiner.evaluation.measures import Bootstrap, paired_bootstrap


def test_equals_a_loop_over_resamples():
    a, b = torch.rand(2, 17, generator=torch.Generator().manual_seed(0)).double()
    bootstrap = Bootstrap(num_resamples=200, confidence=0.8, seed=3)
    ratios = []
    for counts in bootstrap.weights(17).long().tolist():
        drawn = [i for i, count in enumerate(counts) for _ in range(count)]
        assert len(drawn) == 17
        ratios.append(a[drawn].mean().item() / b[drawn].mean().item())
    low, high = torch.tensor(ratios, dtype=torch.float64).quantile(torch.tensor([0.1, 0.9], dtype=torch.float64))
    found = paired_bootstrap(a, b, bootstrap)
    assert found.low == pytest.approx(low.item())
    assert found.high == pytest.approx(high.item())
    assert found.value == pytest.approx((a.mean() / b.mean()).item())


def test_every_clip_is_drawn_equally_often():
    drawn = Bootstrap(num_resamples=20_000).weights(5).mean(0)
    assert drawn.tolist() == pytest.approx([1.0] * 5, abs=0.03)  # standard error sqrt(0.8 / 20000) = 0.006


@given(st.integers(1, 30), st.floats(0.1, 10), st.integers(0, 99))
def test_a_constant_ratio_has_no_width(n, ratio, seed):
    b = torch.rand(n, generator=torch.Generator().manual_seed(seed)).double() + 0.1
    found = paired_bootstrap(ratio * b, b, Bootstrap(num_resamples=50, seed=seed))
    assert (found.low, found.value, found.high) == pytest.approx((ratio,) * 3)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    generator = torch.Generator().manual_seed(0)
    trials, covered = 300, 0
    for trial in range(trials):
        b = 1 + torch.rand(60, generator=generator)
        a = 0.8 * b * (0.5 + torch.rand(60, generator=generator))
        found = paired_bootstrap(a, b, Bootstrap(num_resamples=300, confidence=0.9, seed=trial))
        covered += found.low <= 0.8 <= found.high
    assert 0.84 < covered / trials < 0.95  # 0.9 with a standard error of 0.017


def test_pairing_narrows_the_interval():
    generator = torch.Generator().manual_seed(0)
    difficulty = torch.rand(100, generator=generator) * 10 + 0.1
    refined = difficulty * (0.8 + 0.02 * torch.randn(100, generator=generator))
    paired = paired_bootstrap(refined, difficulty)
    unpaired = paired_bootstrap(refined[torch.randperm(100, generator=generator)], difficulty)
    assert paired.high - paired.low < 0.2 * (unpaired.high - unpaired.low)


def test_more_clips_narrow_the_interval():
    a, b = torch.rand(2, 1600, generator=torch.Generator().manual_seed(0))
    few, many = paired_bootstrap(a[:100], b[:100]), paired_bootstrap(a, b)
    assert many.high - many.low == pytest.approx((few.high - few.low) / 4, rel=0.35)


def test_is_a_function_of_its_seed():
    a, b = torch.rand(2, 20, generator=torch.Generator().manual_seed(0))
    assert paired_bootstrap(a, b) == paired_bootstrap(a, b)
    assert paired_bootstrap(a, b) != paired_bootstrap(a, b, Bootstrap(seed=1))


def test_undefined_resamples_are_left_out():
    low, high = Bootstrap().interval(torch.tensor([[1.0], [float("nan")], [1.0]]))
    assert (low.item(), high.item()) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"num_resamples": 0}, "num_resamples=0: expected at least 1"),
        ({"confidence": 95.0}, r"confidence=95\.0: expected a number between 0 and 1"),
    ],
)
def test_refuses_bad_settings(arguments, text):
    with pytest.raises(BadValue, match=text):
        Bootstrap(**arguments)


def test_refuses_no_clips():
    with pytest.raises(BadValue, match="numerator=no clips"):
        paired_bootstrap(torch.zeros(0), torch.zeros(0))


def test_interval_is_plain():
    assert Interval(1.0, 0.5, 2.0) == Interval(value=1.0, low=0.5, high=2.0)
