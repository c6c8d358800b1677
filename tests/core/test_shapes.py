import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp_refiner.core import frame_mean, masked_mean, per_frame, per_sample, take_frames


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(
    b=st.integers(1, 3),
    c=st.integers(1, 4),
    t=st.integers(1, 6),
    n=st.integers(1, 8),
    space=st.sampled_from([(), (3,), (2, 5)]),
    seed=st.integers(0, 10**6),
)
def test_take_frames_is_the_slow_loop(b, c, t, n, space, seed):
    latents = randn(b, c, t, *space, seed=seed)
    index = torch.randint(t, (b, n), generator=torch.Generator().manual_seed(seed))
    taken = take_frames(latents, index)
    expected = torch.stack([latents[i][:, index[i]] for i in range(b)])
    assert torch.equal(taken, expected)


def test_take_frames_takes_views_and_does_not_write_through_them():
    latents = randn(2, 6, 3, 4).transpose(1, 2)
    index = torch.tensor([[0, 5], [2, 2]])
    taken = take_frames(latents, index)
    assert torch.equal(taken[1, :, 0], latents[1, :, 2])
    before = latents.clone()
    taken.zero_()
    assert torch.equal(latents, before)


def test_take_frames_adds_up_gradients_of_repeated_frames():
    latents = randn(1, 2, 3).requires_grad_()
    take_frames(latents, torch.tensor([[1, 1, 2]])).sum().backward()
    assert latents.grad.tolist() == [[[0, 2, 1]] * 2]


@pytest.mark.parametrize("space", [(), (4, 5)])
def test_numbers_stand_beside_their_sample_and_their_frame(space):
    latents = randn(2, 3, 6, *space)
    sample, frame = randn(2, seed=1), randn(2, 6, seed=2)
    by_sample, by_frame = latents * per_sample(sample, latents), latents * per_frame(frame, latents)
    for i in range(2):
        assert torch.equal(by_sample[i], latents[i] * sample[i])
        for t in range(6):
            assert torch.equal(by_frame[i, :, t], latents[i, :, t] * frame[i, t])


def test_frame_mean_is_over_channels_and_space():
    latents = randn(2, 3, 4, 5, 6)
    torch.testing.assert_close(frame_mean(latents), latents.mean((1, 3, 4)))
    path = randn(2, 3, 4)
    torch.testing.assert_close(frame_mean(path), path.mean(1))


def test_masked_mean_reads_nothing_else_and_is_0_over_nothing():
    value = torch.tensor([[1.0, torch.nan, 5.0], [torch.nan, torch.nan, torch.nan]])
    mask = torch.tensor([[True, False, True], [False, False, False]])
    assert masked_mean(value, mask).tolist() == [3.0, 0.0]
