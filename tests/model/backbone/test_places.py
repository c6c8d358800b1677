"""Absolute positions of tokens: at first they add nothing, then a network can tell places apart."""

import pytest
import torch

from interp_refiner.core import BadValue
from interp_refiner.model.backbone import Shown, Wan
from interp_refiner.model.backbone.places import AbsolutePositions
from tests.factories import spec_of
from tests.model.backbone.made import made
from tests.model.backbone.small_wan import SIZE, clip, small_wan

SETTINGS = {**SIZE, "num_hypotheses": 0}


def stirred(model: Wan) -> Wan:
    """Random weights instead of zeros."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def test_they_start_at_zero_and_learn():
    model, without = (made(Wan, spec_of(), **SIZE, place_frequencies=frequencies) for frequencies in (3, 0))
    model.load_state_dict(without.state_dict(), strict=False)
    corrupted = clip()
    assert torch.equal(model(corrupted), without(corrupted))
    model(corrupted).square().sum().backward()
    assert all(weight.grad.abs().max() > 0 for weight in model.places.parameters())


def test_every_place_has_an_embedding_of_its_own():
    places = AbsolutePositions(16, 6)
    for weight in places.parameters():
        torch.nn.init.normal_(weight)
    embedding = places(torch.tensor([[0, 3, 20], [0, 7, 20]]), (3, 4, 7))
    assert embedding.shape == (2, 84, 16)
    assert torch.cdist(embedding[0], embedding[0]).fill_diagonal_(1).min() > 1e-3
    one, other = embedding.unflatten(1, (3, 4, 7)).unbind()
    assert torch.equal(one[[0, 2]], other[[0, 2]])  # frames 0 and 20
    assert (one[1] - other[1]).abs().max() > 1e-3  # frames 3 and 7
    assert torch.equal(places(None, (3, 4, 7)), places(torch.arange(3).unsqueeze(0), (3, 4, 7)))


@pytest.mark.parametrize(("frequencies", "tells"), [(0, False), (4, True)])
def test_only_they_see_a_shift_of_all_keyframes(frequencies: int, tells: bool):
    """Rotary embeddings see differences of positions only."""
    model = stirred(made(Wan, spec_of(16, text_dim=32), **SETTINGS, place_frequencies=frequencies))
    state, times, text = torch.randn(1, 16, 2, 4, 4), torch.full((1, 2), 500.0), torch.randn(1, 5, 32)
    early, late = (model(Shown(state, times, text, positions=torch.tensor([at]))) for at in ([0, 4], [9, 13]))
    assert torch.allclose(early, late, atol=1e-3) is not tells


def test_weights_of_a_network_without_them_fit():
    model = small_wan(place_frequencies=2, word_reach=1)
    words = {name for name in model.state_dict() if name.startswith("words.")}
    places = {f"places.{axis}.weight" for axis in ("frames", "rows", "columns")}
    assert model.identity_parts([]) == words | places
    assert model.identity_parts(words) == places
    assert model.identity_parts(words | places) == set()


def test_a_number_of_frequencies_is_not_negative():
    with pytest.raises(BadValue, match="place_frequencies=-1: expected a number of frequencies >= 0"):
        made(Wan, spec_of(), **SIZE, place_frequencies=-1)
