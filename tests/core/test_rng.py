import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp_refiner.core import Draws, derived_seed

KEYS = [f"clip{i}" for i in range(6)]


@given(st.permutations(range(6)), st.integers(1, 6))
def test_a_sample_draws_the_same_in_any_batch(order, size):
    whole = Draws(5, "train", KEYS, [0, 1, 0, 2, 0, 0])
    part = order[:size]
    draws = Draws(5, "train", [KEYS[i] for i in part], [[0, 1, 0, 2, 0, 0][i] for i in part])
    assert torch.equal(draws.uniform("tau", 3), whole.uniform("tau", 3)[part])
    like = torch.empty(6, 2, 3, 4)
    assert torch.equal(draws.normal("noise", like[:size]), whole.normal("noise", like)[part])


def test_drawing_twice_gives_the_same_and_leaves_the_global_generator_alone():
    draws = Draws(5, "val", KEYS)
    before = torch.get_rng_state()
    assert torch.equal(draws.uniform("tau", 2), draws.uniform("tau", 2))
    assert torch.equal(draws.normal("noise", torch.empty(6, 4)), draws.normal("noise", torch.empty(6, 4)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "other",
    [
        Draws(6, "train", KEYS, [0] * 6),
        Draws(5, "val", KEYS, [0] * 6),
        Draws(5, "train", KEYS, [1] * 6),
        Draws(5, "train", KEYS[::-1], [0] * 6),
        Draws(5, "train", KEYS),
    ],
    ids=["seed", "stream", "epoch", "key", "no epoch"],
)
def test_another_seed_stream_epoch_or_key_draws_anew(other):
    draws = Draws(5, "train", KEYS, [0] * 6)
    assert not (draws.uniform("tau", 4) == other.uniform("tau", 4)).any()
    like = torch.empty(6, 8)
    assert not (draws.normal("noise", like) == other.normal("noise", like)).any()


def test_draws_of_different_names_are_independent():
    draws = Draws(5, "train", KEYS)
    assert not (draws.uniform("tau", 4) == draws.uniform("level", 4)).any()


def test_seeds_depend_on_where_one_part_ends():
    assert derived_seed("ab", "c") != derived_seed("a", "bc")


def test_seeds_are_the_same_on_every_machine():
    assert derived_seed(0, "train", 3, "clip_7", "noise") == 4508523365923380959


def test_normal_numbers_are_standard_normal():
    numbers = Draws(0, "train", [str(i) for i in range(100)]).normal("noise", torch.empty(100, 1000))
    assert abs(numbers.mean()) < 0.02
    assert abs(numbers.std() - 1) < 0.02
    assert abs((numbers[:-1] * numbers[1:]).mean()) < 0.02  # neighbours in a batch are uncorrelated


def test_uniform_numbers_lie_in_0_to_1():
    numbers = Draws(0, "train", [str(i) for i in range(100)]).uniform("tau", 100)
    assert ((numbers >= 0) & (numbers < 1)).all()
    assert abs(numbers.mean() - 0.5) < 0.02


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_noise_has_shape_and_dtype_of_what_it_is_for(dtype):
    like = torch.empty(2, 3, 4, 5, dtype=dtype).transpose(1, 2)
    noise = Draws(0, "train", ["a", "b"]).normal("noise", like)
    assert (noise.shape, noise.dtype) == (like.shape, dtype)


def test_every_sample_needs_its_epoch():
    with pytest.raises(ValueError, match="longer"):
        Draws(0, "train", ["a", "b"], [0]).seeds("tau")
