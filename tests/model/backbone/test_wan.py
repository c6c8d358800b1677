"""The Wan refiner: starts as the base model. What all backbones have in common: test_laws.py."""

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file, save_file

from interp_refiner.core import BadValue
from interp_refiner.model.backbone import Global, Interface, PerFrame, Wan
from tests.factories import corrupted_clip, spec_of
from tests.helpers import build
from tests.model.backbone.made import made

SMALL = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 32, "ffn_dim": 64, "freq_dim": 32}


def small_wan(**overrides):
    torch.manual_seed(0)
    return made(Wan, spec_of(), **{**SMALL, **overrides})


def perturbed(model):
    """The model with every parameter moved, so that zero-initialised paths are open."""
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.mark.parametrize("timestep", [Global(), PerFrame()], ids=["global", "per_frame"])
@pytest.mark.parametrize("channels", ["masked", "bracketing"])
def test_the_first_output_is_bit_for_bit_the_base_models(timestep, channels):
    corrupted, _, _ = corrupted_clip()
    model = small_wan(timestep=timestep, keyframe_channels=build("backbone/keyframe_channels", channels))
    times = timestep.times(corrupted)
    base_times = times[:, 0] if times.shape[1] == 1 else times.repeat_interleave(2 * 3, 1)  # tokens per frame
    expected = model.wan(timestep.state(corrupted), base_times, corrupted.clip.text, return_dict=False)[0]
    assert torch.equal(model(corrupted), expected)


def test_gradients_reach_what_was_added():
    corrupted, _, _ = corrupted_clip()
    model = small_wan()
    model(corrupted).sub(corrupted.clean).square().mean().backward()
    assert model.keyframe_embedding.weight.grad.abs().sum() > 0
    assert model.frame_numbers.out.weight.grad.abs().sum() > 0


def test_odd_sizes_are_refused_not_cropped():
    corrupted, _, _ = corrupted_clip(space=(5, 6))
    with pytest.raises(BadValue, match="divisible by 1 x 2 x 2"):
        small_wan()(corrupted)
    with pytest.raises(BadValue, match=r"latent_shape=\[2, 64\]: expected \[c, t, h, w\].*backbone=trajectory"):
        small_wan().check((2, 64))


PUBLISHED = {  # channels and parameters of the transformers that diffusers' folders hold
    "wan_1_3b": (16, 1_418_996_800),
    "wan_14b": (16, 14_288_491_584),
    "wan22_5b": (48, 4_999_787_712),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_large_models_have_the_published_sizes(name):
    channels, parameters = PUBLISHED[name]
    with torch.device("meta"):
        model = build("backbone", name, interface=Interface(spec_of(channels, text_dim=4096)))
    assert sum(p.numel() for p in model.wan.parameters()) == parameters
    assert model.wan.patch_embedding.in_channels == channels


def test_pretrained_weights_come_from_a_folder_saved_by_diffusers(tmp_path):
    corrupted, _, _ = corrupted_clip()
    torch.manual_seed(7)
    names = {"in_channels": 4, "out_channels": 4, "text_dim": 8, **SMALL}
    saved = WanTransformer3DModel(**names)
    saved.save_pretrained(tmp_path / "transformer")
    for folder in (tmp_path, tmp_path / "transformer"):  # a pipeline's folder, and the model's own
        model = made(Wan, spec_of(), num_layers=1, pretrained=str(folder), timestep=Global())
        times = model.conditioning.timestep.times(corrupted)[:, 0]
        assert torch.equal(model(corrupted), saved(corrupted.x, times, corrupted.clip.text, return_dict=False)[0])


WRONG = {
    "missing": (lambda w: [w.pop(name) for name in list(w) if ".ffn." in name], r"blocks\.0\.ffn\..* more are missing"),
    "left over": (lambda w: w.update({"blocks.7.norm2.bias": torch.ones(1)}), r"blocks\.7\.norm2\.bias is unknown"),
    "compiled": (
        lambda w: w.update({f"_orig_mod.{name}": w.pop(name) for name in list(w)}),
        r"remove _orig_mod\. from",
    ),
    "NaN": (lambda w: w["proj_out.bias"].fill_(torch.nan), r"proj_out\.bias holds NaN or infinity"),
    "Wan's own": (lambda w: w.update({"head.modulation": torch.ones(1)}), r"head\.head\.weight is missing"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_pretrained_weights_are_all_there_and_nothing_else(tmp_path, wrong):
    WanTransformer3DModel(in_channels=4, out_channels=4, text_dim=8, **SMALL).save_pretrained(tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    change, said = WRONG[wrong]
    change(weights := load_file(file))
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(BadValue, match=rf"pretrained=.*: expected .*{said}") as error:
        made(Wan, spec_of(), pretrained=str(tmp_path))
    assert "\n" not in str(error.value)


def test_pretrained_weights_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(BadValue, match=r"pretrained=.*config\.json"):
        made(Wan, spec_of(), pretrained=str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(BadValue, match=r"pretrained=.*: expected a complete WanTransformer3DModel, .*not a valid JSON"):
        made(Wan, spec_of(), pretrained=str(tmp_path))
    WanTransformer3DModel(in_channels=4, out_channels=4, text_dim=8, **SMALL).save_pretrained(tmp_path)
    with pytest.raises(BadValue, match="text_dim=16, which the data has; this model has 8"):
        made(Wan, spec_of(text_dim=16), pretrained=str(tmp_path))


def test_modulation_is_float32_under_autocast_and_the_same_as_without():
    """Wan was trained so; products of tokens are bfloat16 all the same."""
    corrupted, _, _ = corrupted_clip("corruption/bridge_time=uniform")
    model = perturbed(small_wan())
    seen = []
    handle = model.wan.blocks[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    model(corrupted)
    with torch.autocast("cpu", torch.bfloat16):
        model(corrupted)
    handle.remove()
    (_, _, plain, _), (tokens, text, modulation, _) = seen
    assert tokens.dtype == text.dtype == torch.bfloat16
    assert modulation.dtype == torch.float32
    assert torch.equal(modulation, plain)
    assert plain[:, :6].std(1).max() == 0  # tokens of a frame share it
    assert plain[:, ::6].std(1).min() > 0  # frames do not


def test_the_head_modulates_every_frame_by_its_own_time():
    model = perturbed(small_wan())
    generator = torch.Generator().manual_seed(0)
    tokens, time = torch.randn(2, 2, 3 * 2 * 4, 64, generator=generator).unbind()
    out = model._clip(model._head(tokens, time), (3, 2, 4))
    table, linear = model.wan.scale_shift_table[0], model.wan.proj_out
    for b, f, row, column in [(0, 0, 1, 3), (1, 2, 0, 2), (1, 1, 1, 0)]:
        n = (f * 2 + row) * 4 + column
        shift, scale = table + time[b, n]
        x = tokens[b, n]
        normal = (x - x.mean()) / (x.var(unbiased=False) + 1e-6).sqrt()
        patch = linear(normal * (1 + scale) + shift).view(2, 2, 4)
        found = out[b, :, f, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].permute(1, 2, 0)
        torch.testing.assert_close(found, patch)
