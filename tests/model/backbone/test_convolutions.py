"""Convolutions after a small Wan, within a frame and over words: at first, both add nothing."""

from dataclasses import replace

import pytest
import torch

from interp_refiner.core import BadValue
from interp_refiner.model.backbone import Convolutions, Interface, Shown, Wan
from interp_refiner.model.backbone.convolutions import ConvolutionalHead, WordConvolution
from tests.factories import spec_of
from tests.helpers import build
from tests.model.backbone.made import made
from tests.model.backbone.small_wan import SIZE, clip, save_base, small_wan


def test_they_add_nothing_before_training():
    corrupted, built = clip(), {}
    for name, convolutions in (("without", None), ("with", Convolutions(dim=8))):
        torch.manual_seed(0)
        built[name] = made(Wan, spec_of(), **SIZE, convolutions=convolutions)
    shared = built["without"].state_dict()
    assert not built["with"].load_state_dict(shared, strict=False).unexpected_keys
    torch.testing.assert_close(built["with"](corrupted), built["without"](corrupted), rtol=0, atol=0)


def test_they_stand_behind_pretrained_weights_too(tmp_path):
    save_base(tmp_path)
    seen, spec = Shown(torch.randn(1, 16, 4, 8, 6), torch.rand(1, 4) * 1000), spec_of(16, text_dim=32)
    settings = {"num_hypotheses": 0, "pretrained": str(tmp_path)}
    base, more = (made(Wan, spec, convolutions=behind, **settings) for behind in (None, Convolutions(dim=8)))
    assert more.convolutions is not None
    torch.testing.assert_close(more(seen), base(seen), rtol=0, atol=0)


def test_a_silent_network_can_learn():
    model = small_wan(convolutions=Convolutions(dim=8))
    model.zero_output()
    out = model(corrupted := clip())
    assert not out.any()
    (out - corrupted.clean).square().mean().backward()
    assert model.convolutions.out.weight.grad.abs().max() > 0


def test_they_cross_the_borders_of_patches_but_not_those_of_frames():
    torch.manual_seed(0)
    head = ConvolutionalHead(Convolutions(dim=8, num_blocks=1), 16, 16, 32)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    own, features, state = torch.randn(2, 16, 3, 8, 6), torch.randn(2, 8, 3, 8, 6), torch.randn(2, 16, 3, 8, 6)
    time = torch.randn(2, 3, 32)
    changed = state.clone()
    changed[0, :, 1, 3, 2] += 1  # the last row of a patch of 2 x 2
    moved = (head(own, features, changed, time) - head(own, features, state, time)).abs().amax(1) > 1e-6
    assert moved[0, 1, 4, 2]  # the first row of the patch below
    assert not moved[1].any()
    assert not moved[0, [0, 2]].any()


def test_one_time_of_a_whole_clip_counts_for_every_frame():
    head = ConvolutionalHead(Convolutions(dim=8), 4, 4, 32)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    own, features, time = torch.randn(2, 4, 3, 4, 4), torch.randn(2, 8, 3, 4, 4), torch.randn(2, 1, 32)
    one, each = (head(own, features, own, seen) for seen in (time, time.expand(2, 3, 32)))
    torch.testing.assert_close(one, each)


def test_the_backbone_of_keyframes_has_them():
    interface = Interface(spec_of(16), num_hypotheses=0)
    plain, more = (build("backbone", name, interface=interface) for name in ("wan_small", "wan_convolutional"))
    seen = Shown(torch.randn(1, 16, 4, 8, 14), torch.rand(1, 4) * 1000)
    assert more(seen).shape == plain(seen).shape == seen.state.shape


@pytest.mark.parametrize("name", ["dim", "num_blocks"])
def test_sizes_of_nothing_are_refused(name):
    with pytest.raises(BadValue, match=name):
        Convolutions(**{name: 0})


def test_words_tell_nothing_of_one_another_at_first_and_learn_to():
    torch.manual_seed(0)
    convolution, words = WordConvolution(dim=8, reach=2), torch.randn(3, 6, 8)
    assert torch.equal(convolution(words), words)
    convolution(words).square().sum().backward()
    assert convolution.out.weight.grad.abs().max() > 0
    torch.nn.init.normal_(convolution.out.weight)
    changed = words.clone()
    changed[1, 1] += 1
    moved = (convolution(changed) - convolution(words)).abs().amax(-1) > 1e-6
    assert moved.tolist() == [[False] * 6, [True] * 4 + [False] * 2, [False] * 6]


def test_the_order_of_words_counts_with_them_alone():
    """Attention over words is invariant under a permutation; a word that knows its neighbours is another word."""
    corrupted = clip()
    turned = replace(corrupted, clip=replace(corrupted.clip, text=corrupted.clip.text.flip(1)))
    for reach, same in ((0, True), (1, False)):
        model = small_wan(word_reach=reach)
        assert torch.allclose(model(turned), model(corrupted), atol=1e-4) is same


def test_weights_of_a_network_without_words_fit_one_with_them():
    model = small_wan(word_reach=1)
    added = model.identity_parts([])
    assert added == {f"words.{layer}.{kind}" for layer in ("around", "out") for kind in ("weight", "bias")}
    assert model.identity_parts(added) == set()
    assert small_wan().state_dict().keys() == model.state_dict().keys() - added


def test_a_reach_is_no_negative_number():
    with pytest.raises(BadValue, match="word_reach=-1"):
        made(Wan, spec_of(), **SIZE, word_reach=-1)
