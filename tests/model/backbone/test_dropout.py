"""Keyframe channels that are dropped for some training clips."""

from dataclasses import replace

import pytest
import torch

from interp_refiner.core import BadValue
from interp_refiner.model.backbone import DroppedKeyframes, MaskedKeyframes
from tests.factories import corrupted_clip


def test_a_clip_is_shown_whole_or_not_at_all_with_the_probability_said():
    corrupted, _, _ = corrupted_clip(batch=400, frames=5, space=(), stream="train")
    shown, dropped = MaskedKeyframes()(corrupted), DroppedKeyframes(probability=0.3)(corrupted)
    hidden = (dropped == 0).flatten(1).all(1)
    assert 0.21 < hidden.float().mean() < 0.39  # 0.3 +- 4 standard deviations
    assert torch.equal(dropped[~hidden], shown[~hidden])


def test_the_draw_depends_on_key_and_epoch_not_on_the_batch():
    corrupted, _, _ = corrupted_clip(batch=40, frames=5, space=(), stream="train")
    channels = DroppedKeyframes(probability=0.5)
    first = channels(corrupted)
    torch.manual_seed(3)
    assert torch.equal(first, channels(corrupted))
    later = replace(corrupted, clip=replace(corrupted.clip, epochs=[1] * 40))
    assert not torch.equal(first, channels(later))
    backwards = list(range(39, -1, -1))
    parts = {n: getattr(corrupted, n)[backwards] for n in ("x", "values", "interpolation", "confidence", "known")}
    turned = channels(replace(corrupted, clip=corrupted.clip.select(backwards), **parts))
    assert torch.equal(turned, first[backwards])


@pytest.mark.parametrize("shown", [True, False])
def test_outside_training_all_clips_are_shown_or_none(shown):
    corrupted, _, _ = corrupted_clip(batch=20, frames=5, space=(), epochs=None)
    channels = DroppedKeyframes(probability=0.9, shown=shown)(corrupted)
    whole = MaskedKeyframes()(corrupted)
    assert torch.equal(channels, whole if shown else torch.zeros_like(whole))


def test_a_bad_probability_names_itself():
    with pytest.raises(BadValue, match=r"probability=1\.5"):
        DroppedKeyframes(probability=1.5)
