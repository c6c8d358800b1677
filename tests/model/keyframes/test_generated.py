"""Samplers of keyframes, alone and with a network."""

from dataclasses import replace
from math import exp, sqrt

import pytest
import torch

from interp_refiner.core import BadValue, Draws
from interp_refiner.model.keyframes import (
    Euler,
    GeneratedKeyframes,
    Heun,
    KeyframeRequest,
    Preconditioned,
    Velocity,
)
from tests.factories import spec_of
from tests.helpers import build, group_members
from tests.model.keyframes.test_flow import random_wan

KEYS = ["a", "b", "c"]


def request(given=None, positions=((0, 4, 9), (1, 2, 3), (5, 10, 20)), seed=0):
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(3, 4, 3, 4, 6, generator=generator)
    text = torch.randn(3, 5, 8, generator=generator)
    given = torch.zeros(3, 3, dtype=torch.bool) if given is None else torch.tensor(given)
    return KeyframeRequest(torch.tensor(positions), 21, latents, given, text)


def source(sampler=None, flow=Preconditioned):
    return GeneratedKeyframes(random_wan(), flow(spec_of()), sampler or Heun(steps=3))


GIVEN = [[True, False, False], [False, True, True], [False, False, False]]


@pytest.mark.parametrize("flow", [Preconditioned, Velocity])
@pytest.mark.parametrize("sampler", sorted({*group_members("keyframe_sampler")} - {"own"}))  # own: a trained one's
def test_given_keyframes_come_back_bit_for_bit_and_others_are_not_read(sampler, flow):
    asked = request(GIVEN)
    made = source(build("keyframe_sampler", sampler, "keyframe_sampler.steps=2"), flow)
    found = made(asked, Draws(0, "sample", KEYS))
    kept, own = (x.transpose(1, 2)[asked.given] for x in (asked.latents, found))
    assert torch.equal(kept, own)
    hidden = asked.latents.masked_fill(~asked.given[:, None, :, None, None], torch.nan)
    again = made(KeyframeRequest(asked.positions, 21, hidden, asked.given, asked.text), Draws(0, "sample", KEYS))
    assert torch.equal(found, again)
    assert (found - made(request(), Draws(0, "sample", KEYS))).abs().amax() > 1e-3  # others follow the given ones


def test_a_round_keeps_the_first_free_keyframe_and_makes_the_others_beside_it():
    asked, draws = request(GIVEN), Draws(0, "sample", KEYS)
    once, twice = (source(Heun(steps=2, rounds=rounds)) for rounds in (1, 2))
    before = once._sampled(asked, draws, "keyframe_noise_1")
    kept = torch.tensor([[True, True, False], [False, True, True], [True, False, False]])
    beside = KeyframeRequest(asked.positions, 21, before, kept, asked.text)
    assert torch.equal(twice(asked, draws), once(beside, draws))
    given = asked.given[:, None, :, None, None]
    assert torch.equal(twice(asked, draws).masked_fill(~given, 0), asked.latents.masked_fill(~given, 0))
    assert [twice.evaluations(free) // once.evaluations(free) for free in (0, 1, 2, 3)] == [1, 1, 2, 2]
    assert torch.equal(source(Heun(steps=2, rounds=4))(asked, draws), source(Heun(steps=2, rounds=9))(asked, draws))


def test_rounds_end_when_one_keyframe_is_left():
    calls, made = [], source(Euler(steps=2, guidance=1.0, rounds=9))
    made.network.register_forward_hook(lambda *_: calls.append(1))
    for given, passes in ((GIVEN, 3 * 2), ([[True, False, True]] * 3, 2)):
        calls.clear()
        made(request(given), Draws(0, "sample", KEYS))
        assert len(calls) == passes


def test_a_sample_is_a_function_of_its_own_draws():
    made, asked = source(), request()
    all_three = made(asked, Draws(0, "sample", KEYS))
    assert torch.equal(all_three, made(asked, Draws(0, "sample", KEYS)))
    alone = KeyframeRequest(asked.positions[1:2], 21, asked.latents[1:2], asked.given[1:2], asked.text[1:2])
    torch.testing.assert_close(made(alone, Draws(0, "sample", KEYS[1:2])), all_three[1:2], rtol=1e-3, atol=1e-4)
    assert (made(asked, Draws(1, "sample", KEYS)) - all_three).abs().amax() > 0.1


def test_guidance_goes_on_from_without_through_with():
    asked, x, u = request(), torch.randn(3, 4, 3, 4, 6), torch.tensor([0.2, 0.5, 0.9])
    at = {scale: source(Heun(guidance=scale)).velocity(asked)(x, u) for scale in (0.0, 1.0, 3.0)}
    torch.testing.assert_close(at[3.0], at[0.0] + 3 * (at[1.0] - at[0.0]), rtol=1e-4, atol=1e-5)
    without = KeyframeRequest(asked.positions, 21, asked.latents, asked.given, torch.zeros_like(asked.text))
    torch.testing.assert_close(source(Heun(guidance=1.0)).velocity(without)(x, u), at[0.0])
    away = KeyframeRequest(asked.positions, 21, asked.latents, asked.given, asked.text, negative=asked.text)
    torch.testing.assert_close(source(Heun(guidance=3.0)).velocity(away)(x, u), at[1.0], rtol=1e-4, atol=1e-5)


def test_without_guidance_or_prompts_the_network_runs_once_an_evaluation():
    calls = []
    for text, scale, expected in ((True, 1.0, 3), (True, 2.0, 6), (False, 2.0, 3)):
        made = source(Euler(steps=3, guidance=scale, rounds=1))
        made.network.register_forward_hook(lambda *_: calls.append(1))
        asked = request()
        prompted = KeyframeRequest(asked.positions, 21, asked.latents, asked.given, asked.text if text else None)
        calls.clear()
        made(prompted, Draws(0, "sample", KEYS))
        assert len(calls) == expected


def test_samplers_have_the_order_that_they_say():
    """``dx/du = x`` from u = 1 to 0 is ``x / e``: halving the steps costs 2 times the error of Euler, 4 of Heun."""
    x, start = torch.ones(2, 1, 1, 1, 1, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    for kind, factor in ((Euler, 2), (Heun, 4)):
        errors = [float((kind(steps=n)(lambda x, u: x, x, start) - exp(-1)).abs().amax()) for n in (20, 40, 80)]
        # Heun's last step is Euler's: its error is that of one step of length 1 / n, of second order, too
        assert errors[0] / errors[1] == pytest.approx(factor, rel=0.1)
        assert errors[1] / errors[2] == pytest.approx(factor, rel=0.1)


def test_a_gaussian_ends_with_its_own_deviation():
    """The probability flow of ``N(0, d^2)`` under the exact velocity takes noise to keyframes of deviation d."""
    flow = Preconditioned(spec_of())
    flow.square.copy_(torch.tensor([4.0, 1.0, 0.25, 0.01]))
    network = random_wan()
    network.zero_output()
    made = GeneratedKeyframes(
        network, flow, Heun(steps=60, guidance=1.0, shift=1.0)
    )  # faint channels need small steps at low noise
    asked = request()
    rows = [0, 1, 2] * 6
    many = KeyframeRequest(asked.positions[rows], 21, asked.latents[rows], asked.given[rows])
    found = made(many, Draws(0, "sample", [str(number) for number in range(18)]))
    torch.testing.assert_close(found.std((0, 2, 3, 4)), torch.tensor([2.0, 1.0, 0.5, 0.1]), rtol=0.06, atol=0)


def test_renoised_keyframes_keep_more_of_the_clip_the_less_noise_they_saw():
    flow = Preconditioned(spec_of())
    network = random_wan()
    network.zero_output()
    made, asked = GeneratedKeyframes(network, flow, Heun(steps=20, guidance=1.0)), request()
    start = torch.tensor([0.05, 0.5, 1.0])
    found = made(replace(asked, start=start), Draws(0, "anchor", KEYS))
    error = (found - asked.latents).square().mean((1, 2, 3, 4)).sqrt()
    assert error[0] < 0.1 < error[1] < error[2]
    assert error[2] == pytest.approx(sqrt(2), rel=0.2)  # another clip altogether
    hidden = KeyframeRequest(asked.positions, 21, torch.full_like(asked.latents, torch.nan), asked.given, asked.text)
    fresh = made(hidden, Draws(0, "anchor", KEYS))
    assert torch.equal(fresh[2], found[2])


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        (((0, 4, 4), (1, 2, 3), (5, 10, 20)), "increasing frame numbers"),
        (((0, 4, 21), (1, 2, 3), (5, 10, 20)), r"0\.\.20"),
    ],
)
def test_positions_that_no_clip_has_are_refused(positions, message):
    with pytest.raises(BadValue, match=message):
        request(positions=positions)


@pytest.mark.parametrize("setting", [{"steps": 0}, {"guidance": -1.0}, {"shift": 0.0}])
def test_bad_settings_name_themselves(setting):
    ((name, value),) = setting.items()
    with pytest.raises(BadValue, match=f"{name}={value}"):
        Euler(**setting)
