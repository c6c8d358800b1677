"""Classifier-free guidance: exact at both ends, linear in between, and given frames stay unchanged."""

from dataclasses import replace

import pytest
import torch

from interp_refiner.core import BadValue, per_sample
from interp_refiner.model.sampler import ClassifierFree, classifier_free
from tests.factories import corrupted_clip
from tests.helpers import build, group_members

SAMPLERS = group_members("sampler")


def listening(state):
    """A clean estimate that depends on the prompt."""
    return state.interpolation + per_sample(state.clip.text.mean((1, 2)), state.x) * state.x.sin()


def drawn(shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def without_prompt(corrupted, text):
    return replace(corrupted, clip=replace(corrupted.clip, text=text))


def test_w_of_one_is_conditional_w_of_zero_unconditional_bit_for_bit():
    corrupted, *_ = corrupted_clip()
    negative = drawn(corrupted.clip.text.shape)
    conditional, unconditional = listening(corrupted), listening(without_prompt(corrupted, negative))
    assert (conditional - unconditional).abs().max() > 0.1
    assert torch.equal(classifier_free(listening, corrupted, negative, 1.0), conditional)
    assert torch.equal(classifier_free(listening, corrupted, negative, 0.0), unconditional)


@pytest.mark.parametrize("scale", [0.5, 2.0, 7.5])
def test_in_between_and_beyond_it_is_a_line(scale):
    corrupted, *_ = corrupted_clip()
    negative = drawn(corrupted.clip.text.shape)
    conditional, unconditional = listening(corrupted), listening(without_prompt(corrupted, negative))
    expected = unconditional + scale * (conditional - unconditional)
    torch.testing.assert_close(classifier_free(listening, corrupted, negative, scale), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "consistency"])  # its teacher is guided
@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_every_sampler_is_guided_and_leaves_given_frames_bit_for_bit(sampler, scale):
    corrupted, corruption, draws = corrupted_clip()
    chosen = ["sampler/guidance=classifier_free", f"sampler.guidance.scale={scale}"]
    guided = build("sampler", sampler, *chosen)(listening, corrupted, draws, corruption)
    text = corrupted.clip.text if scale == 1 else torch.zeros_like(corrupted.clip.text)
    plain = build("sampler", sampler)(listening, without_prompt(corrupted, text), draws, corruption)
    if scale < 2:
        torch.testing.assert_close(guided, plain, atol=1e-6, rtol=1e-6)
    else:
        assert (guided - plain).abs().max() > 0.1
    given = corrupted.given.nonzero(as_tuple=True)
    bits = [v.transpose(1, 2)[given].contiguous().view(torch.int32) for v in (guided, corrupted.values)]
    assert torch.equal(*bits)


def test_the_negative_embedding_comes_from_its_file(tmp_path):
    corrupted, *_ = corrupted_clip()
    negative = drawn(corrupted.clip.text.shape[1:])
    torch.save(negative, tmp_path / "negative.pt")
    guided = ClassifierFree(0.0, str(tmp_path / "negative.pt"))(listening)(corrupted)
    expected = listening(without_prompt(corrupted, negative.expand_as(corrupted.clip.text)))
    torch.testing.assert_close(guided, expected)


def test_says_what_is_wrong(tmp_path):
    corrupted, *_ = corrupted_clip()
    with pytest.raises(BadValue, match=r"sampler\.guidance=classifier_free: expected none: the clips have no prompt"):
        ClassifierFree()(listening)(without_prompt(corrupted, None))
    with pytest.raises(BadValue, match=r"scale=-1\.0: expected a finite number >= 0"):
        ClassifierFree(-1.0)
    with pytest.raises(BadValue, match=r"negative=.*nowhere.pt: expected a tensor file .*no such file"):
        ClassifierFree(2.0, str(tmp_path / "nowhere.pt"))
    torch.save(drawn((3,)), tmp_path / "flat.pt")
    with pytest.raises(BadValue, match=r"one prompt embedding \[L, D\], it holds \[3\]"):
        ClassifierFree(2.0, str(tmp_path / "flat.pt"))
    torch.save(drawn((2, 3)), tmp_path / "small.pt")
    with pytest.raises(BadValue, match=r"an embedding \[5, 8\], as the prompts have; it holds \[2, 3\]"):
        ClassifierFree(2.0, str(tmp_path / "small.pt"))(listening)(corrupted)
