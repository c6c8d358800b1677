"""LoRA files in every naming: diffusers' reader agrees, written files are read back, others are refused."""

import copy
import json

import pytest
import torch
from diffusers import WanTransformer3DModel
from diffusers.loaders.lora_pipeline import WanLoraLoaderMixin
from safetensors.torch import load_file, save_file

from interp_refiner.core import BadValue
from interp_refiner.model.backbone import Interface, LoRA, Wan
from interp_refiner.model.backbone.lora_file import NAMINGS, Adapter, read_adapters, write_adapters
from tests.factories import spec_of
from tests.helpers import build
from tests.hub_server import hub
from tests.model.backbone.made import made
from tests.model.backbone.small_wan import SIZE, clip, small_wan

pytest.importorskip("peft")
RANK = 3
LAYERS = ["attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "attn2.to_q", "attn2.to_k", "attn2.to_v"]
LAYERS += ["attn2.to_out.0", "ffn.net.0.proj", "ffn.net.2"]
IN_BLOCKS = [f"blocks.{n}.{layer}" for n in range(SIZE["num_layers"]) for layer in LAYERS]


@pytest.fixture(scope="module")
def transformer():
    return small_wan().wan


def random_adapters(transformer, layers, scale=0.5):
    generator = torch.Generator().manual_seed(1)
    adapters = {}
    for name in layers:
        rows, columns = transformer.get_submodule(name).weight.shape
        down, up = (torch.randn(shape, generator=generator) for shape in ((RANK, columns), (rows, RANK)))
        adapters[name] = Adapter(down, up, scale)
    return adapters


def deltas(adapters):
    return {name: a.scale * a.up @ a.down for name, a in adapters.items()}


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, delta in deltas(wanted).items():
        torch.testing.assert_close(deltas(found)[name], delta)


@pytest.mark.parametrize("naming", NAMINGS)
def test_what_is_written_is_read_and_diffusers_own_reader_agrees(transformer, tmp_path, naming):
    adapters = random_adapters(transformer, IN_BLOCKS)
    file = write_adapters(adapters, tmp_path / "lora.safetensors", naming)
    assert_same(read_adapters("weights", str(file), transformer), adapters)
    theirs = WanLoraLoaderMixin.lora_state_dict(str(file))
    for name, delta in deltas(adapters).items():
        down, up = (theirs[f"transformer.{name}.lora_{part}.weight"] for part in "AB")
        torch.testing.assert_close(up @ down, delta)
    assert len(theirs) == 2 * len(adapters)


@pytest.mark.parametrize(("rooted", "scale"), [(False, 2.0), (True, 2 * RANK**0.5)])
def test_a_folder_of_peft_has_its_scale_in_its_config(transformer, tmp_path, rooted, scale):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=["to_q"], use_rslora=rooted)
    model = peft.get_peft_model(copy.deepcopy(transformer), config)
    model.save_pretrained(tmp_path)
    for place in (tmp_path, tmp_path / "adapter_model.safetensors"):
        read = read_adapters("weights", str(place), transformer)
        assert [adapter.scale for adapter in read.values()] == pytest.approx([scale] * len(read))
        assert read.keys() == {name for name in IN_BLOCKS if name.endswith("to_q")}
    described = json.loads((tmp_path / "adapter_config.json").read_text())
    for wrong in ({"alpha_pattern": {"to_q": 16}}, {"lora_alpha": None}):
        (tmp_path / "adapter_config.json").write_text(json.dumps(described | wrong))
        with pytest.raises(BadValue, match=r"^weights=.*adapter_config.json: expected .* the same for all layers: "):
            read_adapters("weights", str(tmp_path), transformer)


@pytest.mark.parametrize("naming", NAMINGS)
def test_layers_outside_of_blocks_and_some_of_a_block(transformer, tmp_path, naming):
    embedder = "condition_embedder"
    layers = [f"{embedder}.{part}" for part in ("time_proj", "text_embedder.linear_1", "time_embedder.linear_2")]
    adapters = random_adapters(transformer, [*layers, "proj_out", "blocks.1.attn2.to_v"])
    file = write_adapters(adapters, tmp_path / "lora.safetensors", naming)
    assert_same(read_adapters("weights", str(file), transformer), adapters)


def test_the_scale_of_diffusers_metadata_counts(transformer, tmp_path):
    adapters = random_adapters(transformer, IN_BLOCKS[:2], scale=1.0)
    file = write_adapters(adapters, tmp_path / "pytorch_lora_weights.safetensors", "diffusers")
    metadata = {"lora_adapter_metadata": json.dumps({"transformer.r": RANK, "transformer.lora_alpha": 2 * RANK})}
    save_file(load_file(file), file, metadata)
    read = read_adapters("weights", str(tmp_path), transformer)  # a folder with diffusers' own name in it
    assert {adapter.scale for adapter in read.values()} == {2.0}


def test_adapters_start_as_the_file_says_whatever_alpha_is(transformer, tmp_path):
    adapters = random_adapters(transformer, ["blocks.0.attn1.to_q", "proj_out"])
    file = str(write_adapters(adapters, tmp_path / "lora.safetensors", "kohya"))
    base = small_wan()
    for alpha in (None, 7.0):
        model = made(Wan, spec_of(), **SIZE, lora=LoRA(weights=file, alpha=alpha))
        model.load_state_dict({_base(model, name): weight for name, weight in base.state_dict().items()}, strict=False)
        trained = {name for name, p in model.wan.named_parameters() if p.requires_grad}
        assert {name.partition(".lora_")[0] for name in trained} == set(adapters)
        assert model.merge_adapters()
        assert_same(model.adapters, adapters)
        for name, delta in deltas(adapters).items():
            found, before = (m.wan.get_submodule(name).weight for m in (model, base))
            torch.testing.assert_close(found, before + delta)
        assert (model(clip()) - base(clip())).abs().max() > 1e-3


def _base(model, name):
    layer, _, kind = name.rpartition(".")
    between = f"{layer}.base_layer.{kind}"
    return between if between in model.state_dict() else name


def test_a_file_of_the_hub_by_the_option_of_the_config(transformer, tmp_path, monkeypatch):
    adapters = random_adapters(transformer, IN_BLOCKS[:3])
    (tmp_path / "hub/someone/lora/below").mkdir(parents=True)
    for name in ("pytorch_lora_weights.safetensors", "below/style.safetensors"):
        write_adapters(adapters, tmp_path / "hub/someone/lora" / name, "comfyui")
    with hub(tmp_path / "hub", tmp_path / "cache", monkeypatch):
        for name in ("someone/lora", "someone/lora/below/style.safetensors"):
            sizes = [f"backbone.size.{key}={value}" for key, value in SIZE.items()]
            model = build(
                "backbone", "wan_tiny", f"backbone.lora.weights={name}", *sizes, interface=Interface(spec_of())
            )
            model.merge_adapters()
            assert_same(model.adapters, adapters)


@pytest.mark.parametrize("below", ["", "below/"])
def test_a_file_of_peft_on_the_hub_has_its_scale_in_the_config_beside_it(transformer, tmp_path, monkeypatch, below):
    folder = tmp_path / "hub/someone/peft" / below
    folder.mkdir(parents=True)
    file = write_adapters(
        random_adapters(transformer, IN_BLOCKS[:2], 1.0), folder / "adapter_model.safetensors", "diffusers"
    )
    (folder / "adapter_config.json").write_text(json.dumps({"r": RANK, "lora_alpha": 4 * RANK}))
    with hub(tmp_path / "hub", tmp_path / "cache", monkeypatch):
        read = read_adapters("weights", f"someone/peft/{below}{file.name}", transformer)
    assert [adapter.scale for adapter in read.values()] == [4.0, 4.0]


WRONG = {
    "no B": (lambda t: t.pop("transformer.proj_out.lora_B.weight"), r"proj_out\.lora_B\.weight is missing"),
    "no A": (lambda t: t.pop("transformer.proj_out.lora_A.weight"), r"proj_out\.lora_A\.weight is missing"),
    "another rank": (
        lambda t: t.update({"transformer.proj_out.lora_A.weight": torch.ones(5, 64)}),
        r"of one rank: proj_out\.lora_A\.weight is \[5, 64\] float32, not \[3, 64\]",
    ),
    "another model": (
        lambda t: t.update({"transformer.blocks.0.attn1.to_q.lora_B.weight": torch.ones(128, 3)}),
        r"to_q\.lora_B\.weight is \[128, 3\] float32, not \[64, 3\]",
    ),
    "more blocks": (
        lambda t: t.update({"transformer.blocks.29.attn1.to_q.lora_A.weight": torch.ones(3, 64)}),
        r"blocks\.29\.attn1\.to_q\.lora_A\.weight is unknown",
    ),
    "DoRA": (
        lambda t: t.update({"transformer.proj_out.dora_scale": torch.ones(4)}),
        r"proj_out\.dora_scale is unknown",
    ),
    "not finite": (
        lambda t: t["transformer.proj_out.lora_B.weight"][1].fill_(torch.nan),
        r"proj_out\.lora_B\.weight holds NaN or infinity",
    ),
    "nothing": (lambda t: t.clear(), "nothing in it is for one of this model's layers"),
    "fp8": (
        lambda t: t.update({k: v.to(torch.float8_e4m3fn) for k, v in t.items() if "proj_out" in k}),
        "float8_e4m3fn, not",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_lora_of_this_model_is_one_line(transformer, tmp_path, wrong):
    change, said = WRONG[wrong]
    adapters = random_adapters(transformer, ["blocks.0.attn1.to_q", "proj_out"])
    file = write_adapters(adapters, tmp_path / "lora.safetensors", "diffusers")
    change(tensors := load_file(file))
    save_file(tensors, file)
    with pytest.raises(BadValue, match=rf"weights=.*: expected .*LoRA of this Wan.*{said}") as error:
        read_adapters("weights", str(file), transformer)
    assert "\n" not in str(error.value)


def test_no_file_and_another_rank_are_refused(transformer, tmp_path):
    with pytest.raises(BadValue, match=r"weights=.*nowhere: expected a \.safetensors file"):
        read_adapters("weights", str(tmp_path / "nowhere"), transformer)
    file = write_adapters(random_adapters(transformer, ["proj_out"]), tmp_path / "lora.safetensors", "diffusers")
    model = WanTransformer3DModel(in_channels=4, out_channels=4, text_dim=8, **SIZE)
    with pytest.raises(BadValue, match=r"rank=8: expected 3, as in .*lora\.safetensors, or null"):
        LoRA(rank=8, weights=str(file)).attach(model)
