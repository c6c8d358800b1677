"""Wan's own transformer files, made here by renaming diffusers' tensors: what loads, and what is refused."""

import copy
import json

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file, save_file

from interp_refiner.core import BadValue
from interp_refiner.model.backbone import Wan
from interp_refiner.model.backbone.pretrained import load_pretrained
from tests.factories import spec_of
from tests.hub_server import hub
from tests.model.backbone.made import made

SIZE = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 32, "ffn_dim": 96, "freq_dim": 48}
SHAPE = {"in_channels": 4, "out_channels": 4, "text_dim": 8}
BLOCK = {"attn1": "self_attn", "attn2": "cross_attn", "to_out.0": "o", "to_q": "q", "to_k": "k", "to_v": "v"}
BLOCK |= {"ffn.net.0.proj": "ffn.0", "ffn.net.2": "ffn.2", "scale_shift_table": "modulation"}
TOP = {"condition_embedder.time_embedder.linear_1": "time_embedding.0", "proj_out": "head.head"}
TOP |= {"condition_embedder.time_embedder.linear_2": "time_embedding.2", "scale_shift_table": "head.modulation"}
TOP |= {"condition_embedder.text_embedder.linear_1": "text_embedding.0"}
TOP |= {"condition_embedder.text_embedder.linear_2": "text_embedding.2"}
TOP |= {"condition_embedder.time_proj": "time_projection.1"}


def original_names(weights):
    """Wan's own names: in a block, norm2 and norm3 are exchanged."""
    renamed = {}
    for name, weight in weights.items():
        in_block = name.startswith("blocks.")
        for theirs, own in (BLOCK if in_block else TOP).items():
            name = name.replace(theirs, own)
        if ".norm2" in name and in_block:
            name = name.replace(".norm2", ".norm3")
        renamed[name] = weight.contiguous()
    return renamed


@pytest.fixture(scope="module")
def wan():
    torch.manual_seed(5)
    model = WanTransformer3DModel(**SHAPE, **SIZE)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    return model


@pytest.fixture(scope="module")
def weights(wan):
    return original_names(wan.state_dict())


def same(found, wanted):
    own, other = found.state_dict(), wanted.state_dict()
    return own.keys() == other.keys() and all(torch.equal(own[name], other[name]) for name in own)


def sharded(weights, folder):
    """As Wan2.1 14B comes: parts and an index, and a configuration of Wan's own."""
    folder.mkdir(parents=True)
    parts = {name: f"diffusion_pytorch_model-0000{1 + n % 2}-of-00002.safetensors" for n, name in enumerate(weights)}
    for part in set(parts.values()):
        save_file({name: weights[name] for name in weights if parts[name] == part}, folder / part)
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": parts}))
    (folder / "config.json").write_text(json.dumps({"_class_name": "WanModel", "num_heads": 2, "dim": 64}))
    return folder


def test_one_file_and_its_parts_load_as_diffusers_folder_does(wan, weights, tmp_path):
    save_file(weights, tmp_path / "wan.safetensors")
    save_file({f"model.diffusion_model.{k}": w.bfloat16() for k, w in weights.items()}, tmp_path / "half.safetensors")
    one = load_pretrained(str(tmp_path / "wan.safetensors"), head_dim=32, **SHAPE)
    many = load_pretrained(str(sharded(weights, tmp_path / "parts")), **SHAPE)  # config.json says the heads
    half = load_pretrained(str(tmp_path / "half.safetensors"), head_dim=32, **SHAPE)
    assert same(one, wan)
    assert same(many, wan)
    assert one.config.num_attention_heads == many.config.num_attention_heads == 2
    assert {weight.dtype for weight in half.parameters()} == {torch.float32}
    torch.testing.assert_close(half.proj_out.weight, wan.proj_out.weight, atol=1e-2, rtol=1e-2)
    inputs = torch.randn(1, 4, 3, 4, 6), torch.tensor([500.0]), torch.randn(1, 5, 8)
    aligned = copy.deepcopy(one)  # weights mapped from a file are not aligned, and some CPUs then round otherwise
    assert torch.equal(aligned(*inputs, return_dict=False)[0], wan(*inputs, return_dict=False)[0])  # the rotary table


def test_a_backbone_takes_its_size_from_the_file(weights, tmp_path):
    save_file(weights, tmp_path / "wan.safetensors")
    model = made(Wan, spec_of(), num_layers=1, attention_head_dim=32, pretrained=str(tmp_path / "wan.safetensors"))
    assert len(model.wan.blocks) == 2
    assert all(weight.requires_grad for weight in model.wan.parameters())


def test_a_model_of_the_hub_loads_in_both_forms(wan, weights, tmp_path, monkeypatch):
    sharded(weights, tmp_path / "hub/someone/own")
    wan.save_pretrained(tmp_path / "hub/someone/pipeline/transformer")
    (tmp_path / "hub/someone/pipeline/model_index.json").write_text("{}")
    with hub(tmp_path / "hub", tmp_path / "cache", monkeypatch):
        for name in ("someone/own", "someone/pipeline"):
            assert same(load_pretrained(name, **SHAPE), wan)


WRONG = {
    "missing": (lambda w: w.pop("blocks.1.ffn.2.bias"), r"blocks\.1\.ffn\.net\.2\.bias is missing"),
    "no head": (lambda w: [w.pop(k) for k in list(w) if k == "head.head.weight"], r"head\.head\.weight is missing"),
    "foreign": (lambda w: w.update({"img_emb.proj.1.bias": torch.ones(2)}), r"ff\.net\.0\.proj\.bias is unknown"),
    "misshapen": (lambda w: w.update({"blocks.0.ffn.2.bias": torch.ones(3)}), r"is \[3\] float32, not \[64\]"),
    "fp8": (lambda w: w.update({"head.modulation": torch.ones(1).to(torch.float8_e4m3fn)}), "stored as float8_e4m3fn"),
    "int8": (lambda w: w.update({"blocks.0.ffn.2.bias": torch.ones(64, dtype=torch.int8)}), "stored as int8"),
    "other text": (
        lambda w: w.update({"text_embedding.0.weight": torch.ones(64, 9)}),
        "text_dim=8, which the data has",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_not_the_whole_model_is_one_line(weights, tmp_path, wrong):
    change, said = WRONG[wrong]
    change(changed := dict(weights))
    save_file(changed, tmp_path / "wan.safetensors")
    with pytest.raises(BadValue, match=rf"pretrained=.*: expected .*{said}") as error:
        load_pretrained(str(tmp_path / "wan.safetensors"), head_dim=32, **SHAPE)
    assert "\n" not in str(error.value)


def test_parts_that_are_lacking_or_there_twice_are_named(weights, tmp_path):
    folder = sharded(weights, tmp_path / "parts")
    part = folder / "diffusion_pytorch_model-00002-of-00002.safetensors"
    kept = load_file(part)
    part.unlink()
    with pytest.raises(BadValue, match=r"all 2 parts that .* names: .*00002-of-00002.* is missing"):
        load_pretrained(str(folder), **SHAPE)
    twice = tmp_path / "twice"
    twice.mkdir()
    for name in ("a", "b"):
        save_file(kept | weights, twice / f"{name}.safetensors")
    with pytest.raises(BadValue, match=r"one model: b\.safetensors repeats .*; name a single file"):
        load_pretrained(str(twice), **SHAPE)


def test_damaged_files_and_other_parts_of_wan_are_refused(weights, tmp_path):
    file = tmp_path / "wan.safetensors"
    save_file(weights, file)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(
        BadValue, match=r"pretrained=.*: expected Wan's own transformer: .*MetadataIncompleteBuffer|incomplete"
    ):
        load_pretrained(str(file), **SHAPE)
    save_file({"encoder.conv1.weight": torch.ones(1)}, file)
    with pytest.raises(BadValue, match=r"Wan's own checkpoint \(its VAE\)"):
        load_pretrained(str(file), **SHAPE)


@pytest.mark.parametrize("place", ["transformer_2", "high_noise_model", "low_noise_model"])
def test_the_pair_of_experts_is_refused_by_name(wan, tmp_path, place):
    wan.save_pretrained(tmp_path / "a14b/transformer")
    (tmp_path / "a14b" / place).mkdir()
    with pytest.raises(BadValue, match=r"one transformer.*this is Wan2\.2-A14B, a pair of experts"):
        load_pretrained(str(tmp_path / "a14b"), **SHAPE)
    with pytest.raises(BadValue, match=r"a pair of experts"):
        load_pretrained(str(tmp_path / "wan2.2_t2v_high_noise_14B_fp16.safetensors"), **SHAPE)


def test_of_a_pair_of_experts_on_the_hub_no_weights_are_downloaded(wan, tmp_path, monkeypatch):
    saved, own = tmp_path / "hub/someone/A14B-Diffusers", tmp_path / "hub/someone/A14B"
    for place in (saved / "transformer", saved / "transformer_2", own / "high_noise_model", own / "low_noise_model"):
        wan.save_pretrained(place)
    kind = ["diffusers", "WanTransformer3DModel"]
    (saved / "model_index.json").write_text(json.dumps({"transformer": kind, "transformer_2": kind}))
    with hub(tmp_path / "hub", tmp_path / "cache", monkeypatch) as server:
        for name in ("someone/A14B-Diffusers", "someone/A14B", "someone/A14B/low_noise_model/a.safetensors"):
            with pytest.raises(BadValue, match=rf"pretrained={name}: .*a pair of experts"):
                load_pretrained(name, **SHAPE)
        assert {file.rpartition("/")[2] for file in server.sent} == {"model_index.json", "config.json"}
    for name in ("transformer", "transformer_2"):
        with pytest.raises(BadValue, match="a pair of experts"):
            load_pretrained(str(saved / name), **SHAPE)


def test_the_5b_names_a_second_transformer_and_has_none(wan, tmp_path):
    wan.save_pretrained(tmp_path / "5b/transformer")
    (tmp_path / "5b/model_index.json").write_text(json.dumps({"transformer_2": [None, None]}))
    assert same(load_pretrained(str(tmp_path / "5b"), **SHAPE), wan)
    (tmp_path / "5b/model_index.json").write_text("{")
    with pytest.raises(BadValue, match=r"pretrained=.*5b: expected a pipeline, as diffusers saves it: "):
        load_pretrained(str(tmp_path / "5b"), **SHAPE)
