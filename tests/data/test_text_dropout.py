from dataclasses import replace

import pytest
import torch

from interp_refiner.core import BadValue
from interp_refiner.data import TextDropout
from tests.factories import random_clip


def dropped(clip, out):
    """Samples whose prompt is gone; all others must be as they were."""
    changed = (out.text != clip.text).flatten(1).any(1)
    assert torch.equal(out.text[~changed], clip.text[~changed])
    return changed


def test_the_share_is_the_probability_and_nothing_else_changes():
    clip = random_clip(batch=400, frames=2, space=())
    out = TextDropout(0.3)(clip)
    gone = dropped(clip, out)
    assert 0.22 < gone.float().mean() < 0.38
    assert (out.text[gone] == 0).all()
    assert out.latents is clip.latents


def test_a_draw_belongs_to_the_key_the_epoch_and_the_seed():
    clip = random_clip(batch=64, frames=2, space=())
    first = dropped(clip, TextDropout(0.5)(clip))
    assert torch.equal(dropped(clip.select([5, 3]), TextDropout(0.5)(clip.select([5, 3]))), first[[5, 3]])
    assert not torch.equal(dropped(clip, TextDropout(0.5)(replace(clip, epochs=[1] * 64))), first)
    assert not torch.equal(dropped(clip, TextDropout(0.5, seed=1)(clip)), first)


def test_held_out_clips_keep_their_prompts():
    clip = random_clip(epochs=None)
    assert TextDropout(1.0)(clip) is clip
    assert TextDropout(1.0)(random_clip(text=None)).text is None


def test_the_negative_embedding_takes_its_place(tmp_path):
    clip = random_clip()
    negative = torch.randn(clip.text.shape[1:])
    torch.save(negative, tmp_path / "negative.pt")
    out = TextDropout(1.0, str(tmp_path / "negative.pt"))(clip)
    assert torch.equal(out.text, negative.expand_as(clip.text))


def test_refuses_what_is_no_probability():
    with pytest.raises(BadValue, match=r"probability=1\.5: expected a probability from 0 to 1"):
        TextDropout(1.5)
