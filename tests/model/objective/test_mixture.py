"""The gate that chooses among hypotheses: its laws, alone and inside every objective that has one."""

import math

import pytest
import torch

from interp_refiner.core import Alternatives, BadValue, Draws, per_frame
from interp_refiner.forward.corruption import Uniform
from interp_refiner.model.objective import Correction, EnergyScore, Gate, Mixture, Preconditioned
from interp_refiner.model.sampler import Bridge, Hierarchical, OneJump
from tests.factories import make_objective, spec_of
from tests.helpers import group_members
from tests.three_laws import clip_of_three_laws, three_laws

OBJECTIVES = {
    "correction": lambda **gate: Correction(spec_of(), 4, gate=Gate(**gate)),
    "preconditioned": lambda **gate: Preconditioned(spec_of(), 4, gate=Gate(**gate)),
    "energy_score": lambda **gate: EnergyScore(spec_of(), 4, gain=0.0, gate=Gate(**gate)),
}
STUDENTS = {"consistency", "distribution_matching", "rcm"}  # with the head of preconditioned
of_every_objective = pytest.mark.parametrize("make", OBJECTIVES.values(), ids=OBJECTIVES)
SPACES = [(4, 6), ()]


def drawn(n=3, groups=2, seed=0):
    """Logits and present of n hypotheses, a quarter of them absent."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, n, groups, 5, 4, 6, generator=generator)
    present = torch.rand(2, n, 5, 4, 6, generator=generator)
    return logits, present.masked_fill(present < 0.25, 0.0)


def output_of(objective, corrupted, seed=1):
    size = corrupted.x.shape[0], objective.out_channels(4, 3), *corrupted.x.shape[2:]
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def test_the_objectives_with_a_gate_are_these():
    found = {name for name in group_members("objective") if isinstance(make_objective(name), Mixture)}
    assert found == set(OBJECTIVES) | STUDENTS


class TestGate:
    def test_weights_are_softmax_less_what_its_start_would_give(self):
        logits, present = drawn()
        weights = Gate(bias=1.5).weights(logits, present)
        prior = (present.double().log() - 1.5).unsqueeze(2).expand_as(logits)
        everything = torch.cat([torch.zeros_like(prior[:, :1]), logits.double() + prior], 1)
        shares = everything.softmax(1)
        expected = shares[:, 1:] - shares[:, :1] * prior.exp()
        torch.testing.assert_close(weights, expected.float(), atol=1e-6, rtol=0)
        lowest = -math.exp(-1.5) * present.unsqueeze(2)
        assert ((weights >= lowest - 1e-6) & (weights <= 1)).all()
        assert (1 - weights.sum(1) > 0).all()  # that of zbar

    def test_zero_logits_choose_nothing_and_have_the_gradient_of_softmax(self):
        logits, present = drawn()
        logits = torch.zeros_like(logits, requires_grad=True)
        weights = Gate(bias=1.5).weights(logits, present)
        assert torch.equal(weights, torch.zeros_like(weights))
        weights.sum().backward()
        odds = math.exp(-1.5) * present.unsqueeze(2).expand_as(logits)
        torch.testing.assert_close(logits.grad, odds / (1 + odds.sum(1, keepdim=True)))

    def test_one_large_logit_is_its_hypothesis_alone_and_nothing_overflows(self):
        logits, present = drawn()
        present[:, 1] = present[:, 1].clamp(min=0.25)
        logits[:, 1] = 1e4
        logits[:, 0] = -1e4
        weights = Gate().weights(logits.requires_grad_(), present)
        assert torch.equal(weights, torch.tensor([0.0, 1.0, 0.0]).view(1, 3, 1, 1, 1, 1).expand_as(weights))
        weights.square().sum().backward()
        assert logits.grad.isfinite().all()

    def test_absent_hypotheses_have_no_weight_and_no_gradient_whatever_their_logit(self):
        logits, present = drawn()
        absent = (present == 0).unsqueeze(2).expand_as(logits)
        weights = Gate().weights(logits, present)
        loud = torch.where(absent, 1e4, logits).requires_grad_()
        again = Gate().weights(loud, present)
        assert absent.any()
        assert torch.equal(weights, again)
        assert (weights[absent] == 0).all()
        again.square().sum().backward()
        assert (loud.grad[absent] == 0).all()

    def test_groups_of_channels_choose_apart(self):
        generator = torch.Generator().manual_seed(2)
        offsets = torch.randn(2, 2, 6, 5, 4, 6, generator=generator)
        offered = Alternatives(offsets, torch.ones(2, 2, 5, 1, 1))
        logits = torch.full((2, 2, 3, 5, 4, 6), -30.0)
        for group, hypothesis in enumerate((1, 0, 1)):
            logits[:, hypothesis, group] = 300.0
        chosen = Gate(groups=3)(logits.flatten(1, 2), offered)
        expected = torch.cat([offsets[:, 1, :2], offsets[:, 0, 2:4], offsets[:, 1, 4:]], 1)
        torch.testing.assert_close(chosen, expected)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [({"bias": math.inf}, "bias=inf: expected a finite number"), ({"groups": 0}, "groups=0: expected a number")],
    )
    def test_bad_settings_name_themselves(self, settings, message):
        with pytest.raises(BadValue, match=message):
            Gate(**settings)

    def test_groups_that_do_not_divide_the_channels_are_refused_where_there_is_a_choice(self):
        assert Correction(spec_of(), 4, gate=Gate(groups=3)).out_channels(16, num_hypotheses=1) == 16
        with pytest.raises(BadValue, match=r"objective\.gate\.groups=3: expected a divisor of the 16 latent channels"):
            Correction(spec_of(), 4, gate=Gate(groups=3)).out_channels(16, num_hypotheses=2)


@of_every_objective
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("groups", [1, 2])
def test_an_output_of_zero_is_the_interpolation_and_its_gradient_reaches_the_gate(make, space, groups):
    if space == () and make is OBJECTIVES["energy_score"]:
        pytest.skip("its score is of patches of videos")
    corrupted, objective = clip_of_three_laws(space=space), make(groups=groups)
    output = torch.zeros_like(output_of(objective, corrupted), requires_grad=True)
    estimate = objective.clean_estimate(output, corrupted)
    torch.testing.assert_close(estimate, corrupted.interpolation, atol=1e-6, rtol=0)
    if isinstance(objective, Correction):
        assert torch.equal(estimate, corrupted.interpolation)
    objective(output, corrupted).total.backward()
    gradient = output.grad[:, 4:].unflatten(1, (2, groups))
    present = (corrupted.present[:, 1:] > 0).unsqueeze(2).expand_as(gradient)
    assert (gradient[present] != 0).float().mean() > 0.99
    assert (gradient[~present] == 0).all()


@of_every_objective
def test_an_oracle_of_the_gate_gives_the_hypothesis_of_its_choice(make):
    corrupted, objective = clip_of_three_laws(), make()
    for chosen in (1, 2):
        output = objective.undecided(torch.zeros_like(corrupted.x), corrupted)
        output[:, 3 + chosen] = 300.0
        there = (corrupted.present[:, chosen] > 0).unsqueeze(1).expand_as(corrupted.x)
        estimate = objective.clean_estimate(output, corrupted)
        torch.testing.assert_close(estimate[there], corrupted.hypotheses[:, chosen][there], atol=1e-6, rtol=0)
        torch.testing.assert_close(estimate[~there], corrupted.interpolation[~there], atol=1e-6, rtol=0)


@of_every_objective
@pytest.mark.parametrize("space", SPACES)
def test_target_and_clean_estimate_round_trip(make, space):
    bridge_time = None if make is OBJECTIVES["energy_score"] else Uniform()
    corrupted, objective = clip_of_three_laws(bridge_time, space=space, batch=6), make()
    target = objective.target(corrupted)
    assert target.shape[1] == objective.out_channels(4, 3) == 6
    estimate = corrupted.keep_given(objective.clean_estimate(target, corrupted))
    torch.testing.assert_close(estimate, corrupted.clean, atol=1e-5, rtol=1e-5)


def test_a_choice_is_the_mean_of_the_residual_before_the_state_is_seen():
    """r ~ N(mu, sd^2), y = a r + b eps: E[r | y] = mu + a sd^2 / (a^2 sd^2 + b^2) (y - a mu)."""
    corrupted = clip_of_three_laws(Uniform(), batch=6)
    objective = Preconditioned(spec_of(), 4, variance=2.0)
    output = 3 * output_of(objective, corrupted)
    output[:, :4] = 0.0
    _, mu = objective.chosen(output, corrupted)
    sd = objective.arc.deviation(corrupted).detach()
    a, b = (1 - corrupted.tau).view(-1, 1, 1, 1, 1), per_frame(corrupted.noise_level, mu)
    gain = a * sd.square() / (a.square() * sd.square() + b.square()).clamp(min=1e-12)
    expected = mu + gain * (corrupted.x - corrupted.interpolation - a * mu)
    free = per_frame(~corrupted.given, mu).expand_as(mu)
    found = objective.clean_estimate(output, corrupted) - corrupted.interpolation
    torch.testing.assert_close(found[free], expected[free], atol=1e-4, rtol=1e-4)
    assert mu[free].abs().mean() > 0.1


@of_every_objective
@pytest.mark.parametrize("sampler", [OneJump(), Bridge(steps=3), Hierarchical()], ids=lambda s: type(s).__name__)
def test_given_frames_are_bit_for_bit_whatever_the_network_says(make, sampler):
    corruption, objective = three_laws(), make()
    corrupted = clip_of_three_laws(stream="val")
    corrupted.values[:, :, 0, 0, 0] = -0.0
    seen = []

    def loud(state):
        seen.append(state)
        return objective.clean_estimate(10 * output_of(objective, state, seed=len(seen)), state)

    sample = sampler(loud, corrupted, Draws(0, "sample", corrupted.clip.keys), corruption)
    where = corrupted.given.nonzero(as_tuple=True)
    kept, values = (x.transpose(1, 2)[where].view(torch.int32) for x in (sample, corrupted.values))
    assert torch.equal(kept, values)
    assert all(torch.equal(state.hypotheses[:, 0], state.interpolation) for state in seen)
    assert not torch.equal(sample, corrupted.x)


@pytest.mark.parametrize("name", sorted(set(group_members("objective")) - set(OBJECTIVES) - STUDENTS))
def test_objectives_whose_estimate_is_no_correction_refuse_hypotheses(name):
    objective = make_objective(name)
    assert objective.out_channels(4, num_hypotheses=1) == 4
    allowed = r"expected correction \| preconditioned \| energy_score \| consistency, .* 3 hypotheses"
    with pytest.raises(BadValue, match=rf"objective={type(objective).__name__}: {allowed}"):
        objective.out_channels(4, num_hypotheses=3)


def test_an_output_without_logits_says_what_is_missing():
    corrupted = clip_of_three_laws()
    with pytest.raises(ValueError, match="output of 4 channels: expected 6 for 3 hypotheses"):
        Correction(spec_of(), 4).clean_estimate(torch.zeros_like(corrupted.x), corrupted)
