"""The energy score that trains a one-step sampler: known values, and that it is proper."""

import pytest
import torch

from interp_refiner.core import BadValue
from interp_refiner.model.objective import EnergyScore, PatchScore
from interp_refiner.model.objective.energy_score import local_energy_score, patch_norm
from interp_refiner.training import check_method
from tests.factories import corrupted_clip, make_corruption, make_objective, spec_of
from tests.helpers import build


def test_patch_norm_equals_a_slow_loop():
    x = torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    norm = patch_norm(x, 2)
    assert norm.shape == (2, 4, 4, 5)
    for i in range(4):
        for j in range(5):
            expected = x[..., i : i + 2, j : j + 2].square().mean((1, 3, 4)).sqrt()
            torch.testing.assert_close(norm[:, :, i, j], expected)
    path = x[..., 0, 0]
    torch.testing.assert_close(patch_norm(path, 2), path.square().mean(1).sqrt())


def test_score_equals_a_slow_loop():
    generator = torch.Generator().manual_seed(0)
    samples, clean = torch.randn(3, 2, 4, 5, 3, 3, generator=generator), torch.randn(2, 4, 5, 3, 3, generator=generator)
    to_truth = sum(patch_norm(x - clean, 2) for x in samples) / 3
    between = sum(patch_norm(samples[i] - samples[j], 2) for i in range(3) for j in range(3) if i != j)
    expected = (to_truth - between / (2 * 3 * 2)).mean((2, 3))
    torch.testing.assert_close(local_energy_score(samples, clean, 2), expected)


def test_the_score_is_least_for_samples_spread_like_the_truth():
    """Strictly proper: a spread that is too small or too large, or a mean that is off, scores worse."""
    generator = torch.Generator().manual_seed(0)

    def normal(scale: float, shift: float = 0.0) -> torch.Tensor:
        return scale * torch.randn(2, 1, 4, 400, 4, 4, generator=generator) + shift

    clean = normal(1.0)[0]
    right = local_energy_score(normal(1.0), clean, 2).mean()
    for scale, shift in ((0.0, 0.0), (0.6, 0.0), (1.6, 0.0), (1.0, 0.5)):
        assert local_energy_score(normal(scale, shift), clean, 2).mean() > right + 0.01


def test_samples_of_one_clip_enter_the_loss_together_and_given_frames_do_not():
    corrupted, corruption, _ = corrupted_clip("corruption.sigma=0.5", batch=3, stream="train")
    other = corruption.renoised(corrupted, "train", "noise_1")
    assert not torch.equal(other.x, corrupted.x)
    assert torch.equal(other.interpolation, corrupted.interpolation)
    objective = EnergyScore(spec_of(), 4, gain=1.0)
    outputs = torch.randn(2, *corrupted.x.shape, generator=torch.Generator().manual_seed(0))
    loss = objective(outputs[0], corrupted, (outputs[1], other)).total
    swapped = objective(outputs[1], other, (outputs[0], corrupted)).total
    torch.testing.assert_close(loss, swapped)
    spoiled = torch.where(corrupted.given.view(1, 3, 1, 21, 1, 1), 1e3, outputs)
    again = objective(spoiled[0], corrupted, (spoiled[1], other)).total
    torch.testing.assert_close(loss, again)
    alone = objective(outputs[0], corrupted).total
    together = objective(outputs[0], corrupted, (outputs[0], corrupted)).total
    torch.testing.assert_close(alone, together, atol=2e-4, rtol=1e-3)  # samples that agree say nothing about spread


def test_the_estimate_at_zero_output_is_the_interpolation_with_noise_of_the_residuals_size():
    corrupted, _, _ = corrupted_clip("corruption.sigma=0.5", batch=2)
    objective = EnergyScore(spec_of(), 4, gain=0.7)
    estimate = objective.clean_estimate(torch.zeros_like(corrupted.x), corrupted)
    sd = objective.arc.deviation(corrupted).expand_as(corrupted.x)
    missing = corrupted.missing.view(2, 1, 21, 1, 1).expand_as(sd)
    added = (estimate - corrupted.interpolation)[missing]
    torch.testing.assert_close(added, (0.7 * sd * corrupted.noise)[missing], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("name", "value"), [("samples", 1), ("patch", 0)])
def test_bad_arguments_are_refused(name, value):
    with pytest.raises(BadValue, match=f"{name}={value}"):
        EnergyScore(spec_of(), 4, score=PatchScore(**{name: value}))


def test_bridge_times_and_steps_away_from_the_start_are_refused():
    """At tau < 1 the state holds the truth, which would be added back as if it were noise."""
    objective, jump = make_objective("energy_score"), build("sampler", "one_jump")
    check_method(make_corruption(), objective, jump)
    check_method(make_corruption(), objective, build("sampler", "bridge", "sampler.steps=1"))
    check_method(make_corruption(), objective, build("sampler", "hierarchical"))
    message = r"corruption\.drawn\.bridge_time=Uniform: expected fully_corrupted with .*EnergyScore"
    with pytest.raises(BadValue, match=message):
        check_method(make_corruption("corruption/bridge_time=uniform"), objective, jump)
    with pytest.raises(BadValue, match=r"sampler=Bridge: expected one_jump with objective=EnergyScore.*tau = 1"):
        check_method(make_corruption(), objective, build("sampler", "bridge"))
