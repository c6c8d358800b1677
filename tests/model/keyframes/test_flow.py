"""Flow matching on keyframes: the base model's head, positions, given keyframes, channel scales."""

import copy
from dataclasses import replace

import pytest
import torch
from diffusers import WanTransformer3DModel

from interp_refiner.core import BadValue, Draws
from interp_refiner.model.backbone import Factorised, Shown, Wan
from interp_refiner.model.keyframes import FlowTime, Keyframes, Preconditioned, Velocity
from tests.factories import spec_of
from tests.model.backbone.made import made
from tests.model.backbone.small_wan import SIZE

KEYS = ["a", "b", "c"]


def random_wan(**overrides):
    torch.manual_seed(0)
    network = made(Wan, spec_of(), num_hypotheses=0, **{**SIZE, **overrides})
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    return network


def random_factorised():
    torch.manual_seed(0)
    network = made(Factorised, spec_of(), num_hypotheses=0, dim=8, num_layers=2)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    return network


def keyframes(positions, batch=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(batch, 4, len(positions), 4, 6, generator=generator)
    text = torch.randn(batch, 5, 8, generator=generator)
    return Keyframes(latents, torch.tensor(positions).expand(batch, -1), text)


def test_a_pretrained_wan_gets_no_new_weights_and_its_first_output_is_bit_for_bit_its_own(tmp_path):
    torch.manual_seed(7)
    base = WanTransformer3DModel(in_channels=4, out_channels=4, text_dim=8, **SIZE)
    base.save_pretrained(tmp_path)
    network = made(Wan, spec_of(frames=6), num_hypotheses=0, num_layers=1, pretrained=str(tmp_path))
    assert {name.removeprefix("wan.") for name in network.state_dict()} == set(base.state_dict())
    of, u = keyframes(range(6)), torch.rand(3, generator=torch.Generator().manual_seed(1))
    found = Velocity(spec_of()).velocity(copy.deepcopy(network), of.latents, u.unsqueeze(1).expand(-1, 6), of)
    of_tokens = 1000 * u.unsqueeze(1).expand(-1, found[0, 0].numel() // 4)  # a patch is 1 x 2 x 2
    assert torch.equal(found, base(of.latents, of_tokens, of.text, return_dict=False)[0])
    torch.testing.assert_close(found, base(of.latents, 1000 * u, of.text, return_dict=False)[0])  # other matrix sizes


@pytest.mark.parametrize("make", [random_wan, random_factorised])
def test_positions_are_those_of_the_clip(make):
    """A network that is told 0, 1, 2, ... needs no telling; frames far apart are another input; the order is not."""
    network, of, u = make(), keyframes([0, 1, 2]), torch.full((3, 3), 0.4)
    told = network(Shown(of.latents, u, of.text, positions=of.positions))
    torch.testing.assert_close(told, network(Shown(of.latents, u, of.text)))
    apart = network(Shown(of.latents, u, of.text, positions=torch.tensor([[0, 9, 20]]).expand(3, -1)))
    assert (apart - told).abs().amax() > 1e-4
    turned, order = torch.tensor([[20, 0, 9]]).expand(3, -1), [2, 0, 1]
    shown = network(Shown(of.latents[:, :, order], u, of.text, positions=turned))
    torch.testing.assert_close(shown, apart[:, :, order], rtol=1e-4, atol=1e-5)


def test_every_sample_has_positions_of_its_own():
    network, of, u = random_wan(), keyframes([0, 4, 9]), torch.full((3, 3), 0.4)
    positions = torch.tensor([[0, 4, 9], [1, 2, 3], [5, 10, 20]])
    together = network(Shown(of.latents, u, of.text, positions=positions))
    for row in range(3):
        one = slice(row, row + 1)
        alone = network(Shown(of.latents[one], u[one], of.text[one], positions=positions[one]))
        torch.testing.assert_close(together[one], alone, rtol=1e-4, atol=1e-5)


def test_a_token_of_several_frames_has_no_position():
    network, of = random_wan(patch_size=(2, 2, 2)), keyframes([0, 4])
    with pytest.raises(BadValue, match=r"patch_size=\[2, 2, 2\]: expected 1 frame per token"):
        network(Shown(of.latents, torch.ones(3, 2), of.text, positions=of.positions))


def test_given_keyframes_stand_at_zero_have_no_loss_and_are_never_all():
    flow, of, draws = Velocity(spec_of()), keyframes([0, 4, 9]), Draws(0, "train", KEYS)
    seen = []

    def network(shown):
        seen.append(shown)
        return torch.zeros_like(shown.state)

    given = torch.tensor([[True, False, False], [False, False, False], [True, False, True]])
    loss = flow.loss(network, of, draws, given)
    (shown,) = seen
    assert (shown.times[given] == 0).all()
    assert (shown.times[~given] > 0).all()
    kept, state = (x.transpose(1, 2)[given] for x in (of.latents, shown.state))
    assert torch.equal(kept, state)
    noise = draws.normal("flow_noise", of.latents)
    error = (noise - of.latents).square().mean((1, 3, 4))
    expected = torch.stack([error[row][~given[row]].mean() for row in range(3)])
    torch.testing.assert_close(loss, expected)

    many = Draws(0, "train", [str(number) for number in range(400)])
    drawn = Velocity(spec_of(), given=0.5).draw_given(many, 5, torch.device("cpu"))
    assert not drawn.all(1).any()
    assert 0.35 < drawn.any(1).float().mean() < 0.5  # half of the clips, less those of which no keyframe was chosen
    assert 0.22 < (drawn.sum(1) == 1).float().mean() < 0.38  # half of these have one, and of the others a sixth
    assert (drawn.float().mean(0) > 0.1).all()


def test_the_preconditioned_flow_is_exact_for_gaussians():
    """With a network of zeros the estimate is the mean of v given x, for any deviation of the channels."""
    flow = Preconditioned(spec_of())
    deviation = torch.tensor([2.0, 1.0, 0.3, 0.05])
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(400, 4, 3, 4, 6, generator=generator) * deviation.view(1, 4, 1, 1, 1)
    for part in latents.split(4):
        flow.measure(part, lambda value: value)
    torch.testing.assert_close(flow.square.sqrt(), deviation, rtol=0.02, atol=0)
    of = Keyframes(latents, torch.tensor([[0, 4, 9]]).expand(400, -1), None)
    noise = torch.randn(latents.shape, generator=generator)
    for time in (0.1, 0.5, 0.9):
        u = torch.full((400, 3), time)
        x = flow.state(latents, noise, u)
        error = flow.velocity(lambda shown: torch.zeros_like(shown.state), x, u, of) - (noise - latents)
        # Var(v | x) = d^2 / rho^2, and what is left is independent of x
        left = deviation.square() / ((1 - time) ** 2 * deviation.square() + time**2)
        torch.testing.assert_close(error.square().mean((0, 2, 3, 4)), left, rtol=0.05, atol=0)
        assert ((error * x).mean((0, 2, 3, 4)).abs() < 0.03 * left.sqrt()).all()
    shown = []
    flow.velocity(lambda seen: shown.append(seen.state) or seen.state, x, u, of)
    torch.testing.assert_close(shown[0].square().mean((0, 2, 3, 4)), torch.ones(4), rtol=0.05, atol=0)


def test_what_is_faint_in_the_picture_drowns_first():
    flow = Preconditioned(replace(spec_of(), latents_std=[4.0, 2.0, 1.0, 0.5]))
    latents = torch.ones(1, 4, 1, 2, 2)
    x = flow.state(latents, torch.zeros_like(latents), torch.full((1, 1), 0.5))
    torch.testing.assert_close(x[0, :, 0, 0, 0] / x[0, 0, 0, 0, 0], torch.tensor([1.0, 0.5, 0.25, 0.125]))
    assert flow.weight.square().mean() == pytest.approx(1.0)
    torch.testing.assert_close(flow.latents(2 * x), latents)


def test_flow_times_follow_the_shifted_logit_normal():
    draws = Draws(0, "train", [str(number) for number in range(4000)])
    u = FlowTime(mean=0.5, deviation=0.8, shift=3.0)(draws)
    back = u / (3 - 2 * u)  # the shift undone
    normal = (torch.logit(back) - 0.5) / 0.8
    assert abs(normal.mean()) < 0.05
    assert abs(normal.std() - 1) < 0.05
    assert torch.equal(u[:2], FlowTime(0.5, 0.8, 3.0)(Draws(0, "train", ["0", "1"])))
    with pytest.raises(BadValue, match=r"shift=0\.0"):
        FlowTime(shift=0.0)
