"""The LTX refiner: starts as the base model. What all backbones have in common: test_laws.py."""

import pytest
import torch
from diffusers import LTXVideoTransformer3DModel, WanTransformer3DModel

from interp_refiner.core import BadValue
from interp_refiner.model.attention import SparseLinear
from interp_refiner.model.backbone import LTX, Global, Interface, PerFrame
from tests.factories import corrupted_clip, spec_of
from tests.helpers import build
from tests.model.backbone.made import made
from tests.model.backbone.small_ltx import SIZE

SHAPE = {"in_channels": 4, "out_channels": 4, "caption_channels": 8, "cross_attention_dim": 32}


def base(folder):
    torch.manual_seed(7)
    model = LTXVideoTransformer3DModel(**SHAPE, **SIZE)
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("timestep", [Global(), PerFrame()], ids=["global", "per_frame"])
@pytest.mark.parametrize("channels", ["masked", "bracketing"])
def test_the_first_output_is_bit_for_bit_the_base_models(timestep, channels, tmp_path):
    corrupted, _, _ = corrupted_clip()
    own = base(tmp_path / "transformer")
    keyframe_channels = build("backbone/keyframe_channels", channels)
    for place in (tmp_path, tmp_path / "transformer"):  # a pipeline's folder, and the model's own
        model = made(
            LTX, spec_of(), pretrained=str(place), timestep=timestep, keyframe_channels=keyframe_channels, num_layers=1
        )
        x, times = timestep.state(corrupted), timestep.times(corrupted)
        b, c, t, h, w = x.shape
        expected = own(
            x.permute(0, 2, 3, 4, 1).reshape(b, t * h * w, c),
            corrupted.clip.text,
            times.expand(-1, t).repeat_interleave(h * w, 1),
            torch.ones(corrupted.clip.text.shape[:2]),
            rope_interpolation_scale=(1 / 25, 1.0, 1.0),
            num_frames=t,
            height=h,
            width=w,
            return_dict=False,
        )[0]
        found = model(corrupted)
        assert torch.equal(found.permute(0, 2, 3, 4, 1).reshape(b, t * h * w, c), expected)


def test_words_beyond_the_end_of_a_prompt_are_not_seen():
    corrupted, _, _ = corrupted_clip()
    torch.manual_seed(0)
    model = made(LTX, spec_of(), **SIZE)
    longer = torch.cat([corrupted.clip.text, torch.zeros_like(corrupted.clip.text)], 1)
    with torch.no_grad():
        short = model(corrupted)
        corrupted.clip.text = longer
        torch.testing.assert_close(model(corrupted), short)


def test_the_large_model_has_the_published_size():
    with torch.device("meta"):
        model = build("backbone", "ltx_2b", interface=Interface(spec_of(128, text_dim=4096)))
    assert sum(weight.numel() for weight in model.ltx.parameters()) == 1_923_385_472


def test_what_is_no_ltx_is_one_line(tmp_path):
    base(tmp_path)
    with pytest.raises(BadValue, match="caption_channels=16, which the data has; this model has 8"):
        made(LTX, spec_of(text_dim=16), pretrained=str(tmp_path))
    wan = {"in_channels": 4, "out_channels": 4, "text_dim": 8, "ffn_dim": 16, "freq_dim": 16}
    WanTransformer3DModel(**wan, **SIZE).save_pretrained(tmp_path / "wan")
    with pytest.raises(BadValue, match=r"pretrained=.*: expected a complete LTXVideoTransformer3DModel") as error:
        made(LTX, spec_of(), pretrained=str(tmp_path / "wan"))
    assert "\n" not in str(error.value)
    with pytest.raises(BadValue, match=r"LTXVideoTransformer3DModel \(with a config\.json\)"):
        made(LTX, spec_of(), pretrained=str(tmp_path / "nothing"))
    with pytest.raises(BadValue, match="attention=SparseLinear: expected dense"):
        made(LTX, spec_of(), attention=SparseLinear())
