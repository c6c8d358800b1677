"""Tangents along a teacher's ODE: known values in float64, and agreement of the kinds."""

import math
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from interp_refiner.core import BadValue, per_frame, per_sample
from interp_refiner.model.attention import Dense, SparseLinear
from interp_refiner.model.sampler import Bridge
from interp_refiner.training.tangent import Difference, Discrete, Forward, along, direction, normalised
from tests.factories import corrupted_clip
from tests.helpers import build
from tests.model.backbone.small_wan import small_wan

BRIDGE = ["corruption/bridge_time=uniform", "corruption.sigma=0.7"]
MEAN, Q, SD = 0.4, 0.5, 0.8  # of the Gaussian residual, and the scale that the arc takes it to have


def drawn(seed=0, tau=None):
    """A corrupted clip in float64, between the ends of the bridge."""
    corrupted, _, _ = corrupted_clip(*BRIDGE, stream="train", seed=seed)
    tensors = {f.name: v for f in fields(corrupted) if isinstance(v := getattr(corrupted, f.name), Tensor)}
    names = [name for name, value in tensors.items() if value.is_floating_point()]
    exact = replace(corrupted, **{name: getattr(corrupted, name).double() for name in names})
    tau = torch.tensor([0.3, 0.62, 0.9], dtype=torch.float64) if tau is None else torch.full((3,), tau).double()
    noise = torch.randn(exact.x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return exact.at(tau, exact.interpolation + exact.amplitude * noise + 0.3)


def parts(c):
    """tau, s and y = x - zbar."""
    return per_sample(c.tau, c.x), c.amplitude, c.x - c.interpolation


def gaussian_teacher(c):
    """``E[z0 | x]`` of a residual N(MEAN, Q^2)."""
    tau, s, y = parts(c)
    a, b = 1 - tau, tau * s
    return c.interpolation + MEAN + a * Q**2 / (a**2 * Q**2 + b**2) * (y - a * MEAN)


def gaussian_end(c):
    """Where its ODE ends."""
    tau, s, y = parts(c)
    a, b = 1 - tau, tau * s
    return c.interpolation + MEAN + Q * (y - a * MEAN) / (a**2 * Q**2 + b**2).sqrt()


def on_arc(c):
    """phi, p and rho."""
    tau, s, y = parts(c)
    a, b = (1 - tau) * SD, tau * s
    rho = (a**2 + b**2).sqrt()
    return torch.atan2(b, a), y / rho, rho


def student(c):
    """A head on the arc with a smooth output of its own, which is no consistency function."""
    phi, p, _ = on_arc(c)
    return c.interpolation + SD * (phi.cos() * p - phi.sin() * output(p, per_sample(c.tau, p)))


def output(p, tau):
    return torch.sin(1.3 * p + 2.0 * tau) + 0.2 * p * tau


def free(c, value):
    return value[per_frame(c.missing, c.x).expand_as(value)]


def test_the_point_on_the_arc_moves_by_the_velocity_of_the_teacher():
    """``dp/dtau = phi' v``, ``phi' = s sd / rho^2``, with v of ``z0_T = zbar + sd (cos phi p - sin phi v)``."""
    c = drawn()
    moved = direction(gaussian_teacher, c)
    _, change = torch.func.jvp(lambda x, tau: on_arc(c.at(tau, x))[1], (c.x, c.tau), (moved, torch.ones_like(c.tau)))
    phi, p, rho = on_arc(c)
    v = (phi.cos() * p - (gaussian_teacher(c) - c.interpolation) / SD) / phi.sin()
    torch.testing.assert_close(free(c, change), free(c, c.amplitude * SD / rho**2 * v), atol=1e-12, rtol=1e-12)


def test_the_derivative_is_that_of_the_closed_form():
    """``D = sd phi' (cos phi (v - F) - sin phi (p + dF/dphi))``."""
    c = drawn()
    found = Forward().derivative(student, c, direction(gaussian_teacher, c))
    phi, p, rho = on_arc(c)
    speed = c.amplitude * SD / rho**2
    v = (phi.cos() * p - (gaussian_teacher(c) - c.interpolation) / SD) / phi.sin()
    tau = per_sample(c.tau, p).expand_as(p).clone()
    _, turned = torch.func.jvp(output, (p, tau), (speed * v, torch.ones_like(p)))
    expected = SD * (speed * phi.cos() * (v - output(p, tau)) - phi.sin() * (speed * p + turned))
    torch.testing.assert_close(free(c, found), free(c, expected), atol=1e-12, rtol=1e-10)


def test_the_end_of_a_gaussian_has_no_derivative_along_its_ode():
    c = drawn()
    found = Forward().derivative(gaussian_end, c, direction(gaussian_teacher, c))
    assert free(c, found).abs().max() < 1e-12


@pytest.mark.parametrize("tau", [1.0, 0.7, 1e-3])
def test_a_central_difference_is_forward_differentiation(tau):
    c = drawn(tau=tau)
    moved = direction(gaussian_teacher, c)
    exact, near = (t.derivative(student, c, moved) for t in (Forward(), Difference(size=1e-4)))
    torch.testing.assert_close(free(c, near), free(c, exact), atol=1e-5, rtol=1e-5)


def test_many_euler_steps_end_where_the_ode_does():
    c = drawn(tau=1.0)
    error = [
        (free(c, along(gaussian_teacher, c, torch.zeros_like(c.tau), steps).x - gaussian_end(c))).abs().max()
        for steps in (64, 128)
    ]
    assert error[1] < 0.03
    assert error[1] < 0.6 * error[0]  # first order


def test_in_one_piece_it_is_the_end_of_the_samplers_trajectory():
    corrupted, corruption, draws = corrupted_clip("corruption.sigma=0.7")
    target = Discrete(first=1.0, last=1.0, substeps=16).target(student, gaussian_teacher, corrupted, corrupted.x)
    sample = Bridge(16, order=1)(gaussian_teacher, corrupted, draws, corruption)
    torch.testing.assert_close(target, sample, atol=1e-5, rtol=1e-5)
    assert torch.equal(free(corrupted, target).isfinite().all(), torch.tensor(True))


def test_a_step_of_the_discrete_form_asks_the_student_further_on_and_the_teacher_near_the_end():
    c, asked = drawn(), []

    def noting(state):
        asked.append(state)
        return torch.where(per_sample(state.tau == 0, state.x), state.x, student(state))

    target = Discrete(first=0.5, last=0.5, steps=0, substeps=1).target(noting, gaussian_teacher, c, c.x)
    assert [state.tau.tolist() for state in asked] == [pytest.approx([0.0, 0.12, 0.4])]
    first = c.keep_given(gaussian_teacher(c))[0]
    torch.testing.assert_close(target[0], first)
    moved = c.x - 0.5 * direction(gaussian_teacher, c)
    torch.testing.assert_close(free(c, asked[0].x)[-10:], free(c, moved)[-10:])


def test_the_discrete_step_shrinks_geometrically():
    sizes = [Discrete(first=0.5, last=0.02, steps=100).size(step) for step in (0, 50, 100, 1000, None)]
    assert sizes == pytest.approx([0.5, 0.1, 0.02, 0.02, 0.02])


def test_continuous_targets_are_the_estimate_less_the_tangent_and_warm_up():
    c = drawn()
    moved = direction(gaussian_teacher, c)
    tangent = Forward().derivative(student, c, moved)
    estimate = torch.randn_like(c.x)
    for step, share in ((0, 0.0), (5, 0.5), (10, 1.0), (None, 1.0)):
        at = replace(c, clip=replace(c.clip, step=step))
        plain = Forward(weight=0.3, normalised=False, warmup_steps=10)
        torch.testing.assert_close(
            plain.target(student, gaussian_teacher, at, estimate), estimate - 0.3 * share * tangent
        )
    unit = normalised(1e6 * tangent, c)
    for sample, noise in zip(unit * per_frame(~c.given, unit), c.amplitude, strict=True):
        assert sample.square().sum() / noise.expand_as(sample).square().sum() == pytest.approx(1, rel=1e-2)


def test_given_frames_do_not_move():
    c = drawn()
    assert not direction(gaussian_teacher, c).masked_select(per_frame(c.given, c.x)).any()
    reached = along(gaussian_teacher, c, torch.zeros_like(c.tau), 3)
    given = per_frame(c.given, c.x).expand_as(c.x)
    assert torch.equal(reached.x[given], c.values[given])


def test_a_whole_network_is_differentiated_through_its_attention():
    corrupted, _, _ = corrupted_clip("corruption/bridge_time=uniform", stream="train", frames=5, space=(4, 4))
    torch.manual_seed(0)
    network = small_wan(num_layers=1, attention=Dense()).eval()
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    moved, tangents = torch.randn_like(corrupted.x), [Forward(), Difference(size=1e-4)]
    for tangent in tangents:
        tangent.check(network)
    with torch.no_grad():
        exact, near = (tangent.derivative(network, corrupted, moved) for tangent in tangents)
    assert exact.square().mean() > 1e-4
    assert (near - exact).square().mean() < 0.05**2 * exact.square().mean()


def test_sparse_attention_and_half_precision_are_refused_by_name():
    sparse = small_wan(num_layers=1, attention=SparseLinear())
    for tangent in (Forward(), Difference()):
        with pytest.raises(BadValue, match="sparse_linear"):
            tangent.check(sparse)
    Discrete().check(sparse)
    Difference().check(small_wan(num_layers=1, attention=Dense("sdpa")))
    fused = small_wan(num_layers=1, attention=Dense("cudnn"))
    for tangent in (Forward(), Difference()):  # they compute in float32
        with pytest.raises(BadValue, match=r"expected discrete with backend=cudnn, .*attention\.backend=sdpa"):
            tangent.check(fused)
    Discrete().check(fused)
    c = drawn()
    half = replace(c, x=c.x.bfloat16())
    with pytest.raises(BadValue, match="bfloat16"):
        Difference().target(student, gaussian_teacher, half, half.x)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Discrete(first=0.1, last=0.5), "first"),
        (lambda: Discrete(last=0.0), "last"),
        (lambda: Discrete(substeps=0), "substeps"),
        (lambda: Discrete(steps=-1), "steps"),
        (lambda: Forward(weight=0.0), "weight"),
        (lambda: Difference(size=math.inf), "size"),
    ],
)
def test_settings_are_checked(make, name):
    with pytest.raises(BadValue, match=name):
        make()


def test_the_options_are_these():
    for name, kind in (("discrete", Discrete), ("difference", Difference), ("forward", Forward)):
        assert type(build("training/tangent", name)) is kind
