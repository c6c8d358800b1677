"""Publishing an export: a LoRA file, the licence on its card, a model of the hub, and loading by diffusers."""

import json

import numpy as np
import pytest
import torch
import yaml
from diffusers import DiffusionPipeline
from PIL import Image
from safetensors.torch import load_file

from interp_refiner.assemble import load_run
from interp_refiner.core import BadValue
from interp_refiner.export import export
from interp_refiner.model.backbone.lora_file import read_adapters
from interp_refiner.storyboard import INDEX, Keyframe, RefinerPipeline
from tests.hub_server import files, hub
from tests.storyboard.conftest import program_config, random_run

pytest.importorskip("peft")
REPO = "someone/refiner"


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """A run of a small Wan with adapters."""
    small = [
        "backbone=wan_tiny",
        "backbone.size.num_attention_heads=1",
        "backbone.lora.rank=2",
        "backbone.lora.alpha=3.0",
    ]
    return random_run(tmp_path_factory.mktemp("adapted"), "+experiment=toy_video", *small)


def exported(run, place, *overrides):
    folder = place / "exported"
    export(program_config("export", place, f"checkpoint={run}", f"output={folder}", *overrides))
    return folder


def head(folder):
    return yaml.safe_load((folder / "README.md").read_text().split("---")[1])


def video(pipe, size):
    pipe.set_progress_bar_config(disable=True)
    picture = Image.fromarray(np.full((*size, 3), 90, np.uint8))
    keyframes = [Keyframe(image=picture, time=0), Keyframe(image=picture, time="100%")]
    return pipe(keyframes=keyframes, num_frames=5, output_type="pt").frames


@pytest.mark.parametrize("naming", ["diffusers", "comfyui", "kohya"])
def test_a_lora_file_is_what_the_merged_weights_differ_by(adapted, tmp_path, naming):
    folder = exported(adapted, tmp_path, f"lora={naming}")
    name = {"diffusers": "pytorch_lora_weights"}.get(naming, f"lora_{naming}")
    pipe = RefinerPipeline.from_pretrained(folder)
    adapters = read_adapters("weights", str(folder / f"{name}.safetensors"), pipe.backbone.wan)
    raw = torch.load(adapted / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert len(adapters) == 10
    for layer, adapter in adapters.items():
        base = raw[f"backbone.wan.{layer}.base_layer.weight"]
        merged = pipe.backbone.wan.get_submodule(layer).weight
        torch.testing.assert_close(base + adapter.scale * adapter.up @ adapter.down, merged)


def test_a_run_without_adapters_has_no_lora_file(run_folder, tmp_path):
    with pytest.raises(BadValue, match=r"lora=comfyui: expected null: this run was trained without adapters"):
        exported(run_folder, tmp_path, "lora=comfyui")
    assert not (tmp_path / "exported").exists()


def test_the_card_has_licence_and_base_model(run_folder, tmp_path):
    told = head(exported(run_folder, tmp_path, "license=mit", "base_model=Wan-AI/Wan2.1-T2V-1.3B-Diffusers"))
    assert (told["license"], told["base_model"]) == ("mit", "Wan-AI/Wan2.1-T2V-1.3B-Diffusers")
    plain = head(exported(run_folder, tmp_path / "plain"))
    assert "license" not in plain
    assert "base_model" not in plain


def test_diffusers_opens_the_folder_and_makes_the_same_video(run_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("diffusers.utils.dynamic_modules_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder, own = exported(run_folder, tmp_path), load_run(run_folder).spec
    pipe = DiffusionPipeline.from_pretrained(folder, custom_pipeline="pipeline", trust_remote_code=True)
    refiner = RefinerPipeline.from_pretrained(folder)
    size = [own.codec["spatial_factor"] * n for n in own.latent_shape[2:]]
    assert torch.equal(video(pipe.to("cpu"), size), video(refiner, size))


def test_diffusers_opens_the_folder_in_the_precision_asked_for(run_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("diffusers.utils.dynamic_modules_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder, own = exported(run_folder, tmp_path), load_run(run_folder).spec
    how = {"custom_pipeline": "pipeline", "trust_remote_code": True}
    pipe = DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.bfloat16, **how)
    weights, size = pipe.refiner.backbone.state_dict(), [own.codec["spatial_factor"] * n for n in own.latent_shape[2:]]
    assert weights["wan.blocks.0.attn1.to_q.weight"].dtype == torch.bfloat16
    assert weights["wan.blocks.0.scale_shift_table"].dtype == torch.float32  # kept, as by RefinerPipeline
    assert torch.equal(video(pipe, size), video(RefinerPipeline.from_pretrained(folder, torch.bfloat16), size))
    plain = DiffusionPipeline.from_pretrained(folder, **how).refiner
    assert all(weight.dtype == torch.float32 for weight in plain.backbone.parameters())


def test_the_opened_pipeline_has_the_methods_of_the_refiner_and_saves_its_weights(run_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("diffusers.utils.dynamic_modules_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder, own = exported(run_folder, tmp_path), load_run(run_folder).spec
    how = {"custom_pipeline": "pipeline", "trust_remote_code": True, "torch_dtype": torch.bfloat16}
    pipe = DiffusionPipeline.from_pretrained(folder, **how)
    assert (list(pipe.components), pipe.device, pipe.dtype) == (["precision"], torch.device("cpu"), torch.bfloat16)
    called = []
    for name in ("enable_vae_tiling", "enable_vae_slicing", "quantize", "enable_model_cpu_offload"):
        monkeypatch.setattr(RefinerPipeline, name, lambda *given, name=name: called.append((name, *given[1:])))
    assert pipe.enable_vae_tiling().enable_vae_slicing().quantize("int8").enable_model_cpu_offload(device="cpu") is pipe
    pipe.enable_model_cpu_offload(1)
    told = [("enable_vae_tiling",), ("enable_vae_slicing",), ("quantize", "int8")]
    assert called == [*told, ("enable_model_cpu_offload", "cpu"), ("enable_model_cpu_offload", "cuda:1")]
    assert pipe.to("cpu", torch.float32).dtype == torch.float32
    pipe.save_pretrained(tmp_path / "again")
    size = [own.codec["spatial_factor"] * n for n in own.latent_shape[2:]]
    again = DiffusionPipeline.from_pretrained(tmp_path / "again", **how | {"torch_dtype": torch.float32})
    assert torch.equal(video(again, size), video(pipe, size))


def test_a_precision_that_the_network_does_not_have_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("diffusers.utils.dynamic_modules_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = RefinerPipeline.from_pretrained("shipped").save_pretrained(tmp_path / "factorised")
    how = {"custom_pipeline": "pipeline", "trust_remote_code": True}
    pipe = DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float16, **how)
    with pytest.raises(BadValue, match=r"torch_dtype=.*float16: expected .*float32"):
        _ = pipe.refiner


def test_a_folder_of_an_older_version_opens_in_float32(run_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("diffusers.utils.dynamic_modules_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = exported(run_folder, tmp_path)
    index = json.loads((folder / INDEX).read_text())
    del index["precision"]
    (folder / INDEX).write_text(json.dumps(index))
    pipe = DiffusionPipeline.from_pretrained(folder, custom_pipeline="pipeline", trust_remote_code=True)
    assert next(pipe.refiner.backbone.parameters()).dtype == torch.float32


def test_a_folder_goes_to_the_hub_and_comes_back(run_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("diffusers.utils.dynamic_modules_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    (tmp_path / "hub").mkdir()
    with hub(tmp_path / "hub", tmp_path / "cache", monkeypatch):
        folder = exported(run_folder, tmp_path, f"push={REPO}")
        there = tmp_path / "hub" / REPO
        assert files(there) == files(folder)
        assert all((there / name).read_bytes() == (folder / name).read_bytes() for name in files(folder))
        pipe = DiffusionPipeline.from_pretrained(REPO, custom_pipeline="pipeline", trust_remote_code=True)
        own, back = load_file(folder / "refiner.safetensors"), pipe.refiner.backbone.state_dict()
        assert all(torch.equal(back[name], weight) for name, weight in own.items() if name in back)


def test_a_hub_that_refuses_is_one_line_before_the_work(run_folder, tmp_path, monkeypatch):
    with hub(tmp_path / "hub", tmp_path / "cache", monkeypatch):
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(BadValue, match=r"push=someone/refiner: expected owner/name, .*HF_TOKEN may write"):
            exported(run_folder, tmp_path, f"push={REPO}")
    with pytest.raises(BadValue, match=r"push=a/b/c: expected owner/name"):
        exported(run_folder, tmp_path, "push=a/b/c")
    assert not (tmp_path / "exported").exists()
