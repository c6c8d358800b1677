import pytest
import torch

from interp_refiner.core import Clip, Corrupted, KeyframePlan, neighbours, per_frame


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def corrupted(space=(3, 4), dtype=torch.float32):
    """Frames 0, 2 and 5 known, 0 and 5 given; a negative zero in every frame of the values."""
    values = randn(2, 3, 6, *space).to(dtype)
    values.view(2, 3, 6, -1)[:, 0, :, 0] = -0.0
    known = torch.tensor([[True, False, True, False, False, True]] * 2)
    given = torch.tensor([[True, False, False, False, False, True]] * 2)
    profile = randn(2, 6, seed=3).abs().masked_fill(given, 0.0)
    return Corrupted(
        x=randn(*values.shape, seed=1).to(dtype),
        values=values,
        interpolation=values,
        confidence=known.float().view(2, 6, *[1] * len(space)),
        known=known,
        given=given,
        replaced=torch.zeros_like(known),
        level=torch.tensor([1, 1]),
        tau=torch.tensor([1.0, 0.5]),
        noise_profile=profile,
        sigma=0.4,
        noise=randn(*values.shape, seed=2).to(dtype),
        plan=KeyframePlan(known.long(), given, 1),
        clip=Clip(latents=values, keys=["a", "b"]),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("space", [(), (3, 4)], ids=["path", "video"])
def test_given_frames_are_written_back_bit_for_bit(space, dtype):
    state = corrupted(space, dtype)
    other = randn(*state.x.shape, seed=9).to(dtype)
    kept = state.keep_given(other)
    given = per_frame(state.given, other).expand_as(other)
    integer = {2: torch.int16, 4: torch.int32}[other.element_size()]
    assert torch.equal(kept.view(integer)[given], state.values.view(integer)[given])
    assert torch.equal(kept[~given], other[~given])
    assert kept[:, 0, 0].reshape(2, -1)[:, 0].signbit().all()  # -0.0 stayed negative


def test_moving_in_bridge_time_keeps_given_frames_and_changes_nothing_else():
    state = corrupted()
    tau, x = torch.tensor([0.25, 0.0]), randn(*state.x.shape, seed=9)
    moved = state.at(tau, x)
    assert torch.equal(moved.x, state.keep_given(x))
    assert moved.tau is tau
    unchanged = set(vars(state)) - {"x", "tau"}
    assert all(getattr(moved, name) is getattr(state, name) for name in unchanged)


def test_noise_level_is_tau_sigma_m():
    state = corrupted()
    torch.testing.assert_close(state.noise_level[1], 0.5 * 0.4 * state.noise_profile[1])
    assert (state.noise_level[state.given] == 0).all()
    assert (state.flow_time[state.given] == 0).all()


def test_flow_state_lies_on_the_line_from_latents_to_noise():
    """``x = z + a eps`` divided by ``1 + a`` is ``(1 - u) z + u eps`` at ``u = a / (1 + a)``."""
    state = corrupted()
    z = randn(*state.x.shape, seed=5)
    state.x = z + per_frame(state.noise_level, z) * state.noise
    u = per_frame(state.flow_time, z)
    torch.testing.assert_close(state.flow_state, (1 - u) * z + u * state.noise)


def test_missing_and_neighbours_are_those_of_the_known_frames():
    state = corrupted()
    assert torch.equal(state.missing, ~state.known)
    assert torch.equal(state.neighbours.left, neighbours(state.known).left)


def test_a_clip_moves_with_all_its_tensors():
    clip = Clip(randn(2, 3, 4), ["a", "b"], text=randn(2, 5, 6), level=torch.tensor([1, 2]), given=torch.ones(2, 4) > 0)
    moved = clip.to("meta")
    assert {name for name, value in vars(moved).items() if getattr(value, "is_meta", False)} == {
        "latents",
        "text",
        "level",
        "given",
    }
    assert (moved.keys, moved.batch_size, moved.num_frames) == (["a", "b"], 2, 4)
