"""Less memory for a video: half precision, offloading, tiles and slices, int8; and the options of ``sample``."""

import json
import sys

import pytest
import torch
from diffusers import AutoencoderKLWan
from PIL import Image

from interp_refiner.assemble import load_pipeline
from interp_refiner.core import BadValue, MissingExtra
from interp_refiner.data.codec.wan_vae import WanVAE
from interp_refiner.sample import sample
from interp_refiner.storyboard import Inference, Keyframe, RefinerPipeline
from tests.model.backbone.small_factorised import small_factorised
from tests.storyboard.conftest import program_config, random_run

FIRST, LAST = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def wan_run(tmp_path_factory):
    return random_run(tmp_path_factory.mktemp("wan"), "+experiment=toy_video", "backbone=wan_tiny")


@pytest.fixture
def pipe(wan_run):
    made = load_pipeline(wan_run)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vae")
    AutoencoderKLWan(base_dim=8, dim_mult=[1, 1, 1, 1], num_res_blocks=1).save_pretrained(folder)
    return folder


def latents(pipe):
    return pipe(keyframes=[Keyframe(image=FIRST, time=0), Keyframe(image=LAST, time="100%")], output_type="latent")


def with_vae(pipe, folder):
    return pipe.with_component("codec", WanVAE(str(folder)), {})


def test_half_precision_keeps_modulations_and_what_is_given(pipe):
    exact = latents(pipe)
    half = latents(pipe.to(torch.bfloat16))
    kinds = {name: weight.dtype for name, weight in pipe.backbone.named_parameters()}
    kept = {name for name, kind in kinds.items() if kind == torch.float32}
    assert {kinds[f"wan.blocks.0.{part}.weight"] for part in ("attn1.to_q", "ffn.net.2")} == {torch.bfloat16}
    assert {"wan.scale_shift_table", "wan.condition_embedder.time_proj.weight", "wan.blocks.0.norm2.weight"} <= kept
    assert half.latents.dtype == torch.float32
    given = exact.given[0]
    assert torch.equal(half.latents[:, :, given], exact.latents[:, :, given])
    apart = (half.latents - exact.latents)[:, :, ~given].square().mean().sqrt()
    assert 0 < apart < 0.02 * exact.latents[:, :, ~given].square().mean().sqrt()


def test_a_folder_opens_in_half_precision_and_moves_as_diffusers_pipelines_do(pipe, tmp_path):
    folder = pipe.save_pretrained(tmp_path / "exported")
    opened = RefinerPipeline.from_pretrained(folder, torch_dtype=torch.bfloat16)
    matrix = "wan.blocks.0.attn1.to_q.weight"
    assert opened.backbone.state_dict()[matrix].dtype == torch.bfloat16
    for place in [("cpu", torch.float32), (torch.bfloat16,), (torch.device("cpu"),)]:
        assert opened.to(*place) is opened
    assert opened.to(device="cpu", dtype=torch.float32).backbone.state_dict()[matrix].dtype == torch.float32


def test_a_backbone_without_half_precision_or_blocks_says_so(pipe, monkeypatch):
    pipe.backbone = small_factorised()
    with pytest.raises(BadValue, match=r"torch_dtype=bfloat16: expected float32 for a Factorised"):
        pipe.to(torch.bfloat16)
    monkeypatch.setattr(type(pipe.backbone), "units", ())
    with pytest.raises(BadValue, match=r"quantised=int8: expected null: a Factorised has no blocks"):
        pipe.quantize("int8")


def test_offloaded_networks_make_the_same_video(pipe):
    exact = latents(pipe).latents
    assert pipe.enable_model_cpu_offload("cpu") is pipe.enable_model_cpu_offload("cpu")
    assert len(pipe.hooks) == 1  # of the backbone: this codec has no autoencoder
    assert torch.equal(latents(pipe).latents, exact)
    with pytest.raises(BadValue, match=r"device=cuda: expected cpu, where offloaded networks run"):
        pipe.to("cuda")


def test_networks_are_offloaded_in_the_order_of_a_video(pipe, vae):
    """The autoencoder leaves the device before the backbone runs, the backbone before the autoencoder decodes."""
    offloaded = with_vae(pipe, vae).enable_model_cpu_offload("cpu")
    autoencoder, backbone = offloaded.hooks
    assert autoencoder.model is offloaded.codec.vae
    assert backbone.model is offloaded.backbone
    assert backbone.hook.prev_module_hook is autoencoder
    left = []
    for hook in offloaded.hooks:
        hook.offload = lambda hook=hook: left.append(hook)
    offloaded.before_decoding()
    assert left == [backbone]
    offloaded.free_hooks()
    assert left == [backbone, autoencoder, backbone]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_networks_come_and_go(pipe):
    whole = latents(pipe).latents
    pipe.enable_model_cpu_offload("cuda")
    made = latents(pipe).latents.cpu()
    assert {weight.device.type for weight in pipe.backbone.parameters()} == {"cpu"}
    torch.testing.assert_close(made, whole, atol=1e-2, rtol=1e-2)


def test_the_autoencoder_works_in_tiles_and_slices(pipe, vae):
    made = with_vae(pipe, vae).enable_vae_tiling().enable_vae_slicing()
    assert made.codec.vae.use_tiling
    assert made.codec.vae.use_slicing
    with pytest.raises(BadValue, match=r"vae_tiling=True: expected false: patch_dct has no autoencoder"):
        pipe.enable_vae_tiling()
    with pytest.raises(BadValue, match=r"vae_slicing=True: expected false"):
        Inference(vae_slicing=True).apply(pipe, "cpu")


def test_int8_matrices_take_a_quarter_and_change_little(pipe, tmp_path):
    pytest.importorskip("torchao")
    exact = latents(pipe).latents
    before = pipe.backbone.wan.blocks[0].ffn.net[2].weight.detach()
    pipe.quantize("int8")
    after = pipe.backbone.wan.blocks[0].ffn.net[2].weight
    torch.testing.assert_close(after.dequantize(), before, atol=float(before.abs().max()) / 127, rtol=0)
    apart = (latents(pipe).latents - exact).square().mean().sqrt()
    assert 0 < apart < 0.02 * exact.square().mean().sqrt()
    with pytest.raises(BadValue, match=r"quantised=int8: expected null to save"):
        pipe.save_pretrained(tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_int8_without_torchao_names_the_extra(pipe, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(MissingExtra, match=r"quantised=int8 needs torchao.*interp_refiner\[quantised\]"):
        pipe.quantize("int8")


def test_sample_takes_the_options_and_reports_the_peak_of_memory(wan_run, tmp_path):
    for name, picture in (("a", FIRST), ("b", LAST)):
        pixels = (255 * picture.permute(1, 2, 0)).byte().numpy()
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    board = tmp_path / "board.yaml"
    board.write_text("keyframes:\n  - {image: a.png, time: 0}\n  - {image: b.png, time: 100%}\n")
    options = ["inference.torch_dtype=bfloat16", "inference.offload=true", f"output={tmp_path / 'out.mp4'}"]
    sample(program_config("sample", tmp_path, f"checkpoint={wan_run}", f"storyboard={board}", "device=cpu", *options))
    report = json.loads((tmp_path / "out.report.json").read_text())
    assert report["settings"]["inference"]["torch_dtype"] == "bfloat16"
    assert report["settings"]["inference"]["offload"] is True
    assert report["peak_memory_gb"] > 0.01
    assert all(row["exact"] for row in report["keyframes"])
