import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import load_file, save_file

from interp_refiner.core import BadValue
from interp_refiner.data.codec.wan_vae import WanVAE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("pipeline")
    AutoencoderKLWan(base_dim=8, dim_mult=[1, 1, 1, 1], num_res_blocks=1).save_pretrained(root / "vae")
    return root


def test_encodes_as_the_autoencoder_does_with_its_own_statistics(folder: Path):
    codec = WanVAE(str(folder))
    video = torch.rand(1, 3, 5, 32, 48)
    latents = codec.encode(video)
    vae = AutoencoderKLWan.from_pretrained(folder / "vae")
    with torch.no_grad():
        raw = vae.encode(2 * video - 1).latent_dist.mode()
    mean, std = (torch.tensor(getattr(vae.config, f"latents_{name}")).view(-1, 1, 1, 1) for name in ("mean", "std"))
    torch.testing.assert_close(latents, (raw - mean) / std)
    assert tuple(latents.shape[1:]) == codec.latent_size(5, 32, 48) == (16, 2, 4, 6)


def test_decodes_as_the_autoencoder_does(folder: Path):
    codec = WanVAE(str(folder / "vae"), tiling=True)
    latents = torch.randn(1, 16, 2, 4, 4)
    decoded = codec.decode(latents)
    vae = AutoencoderKLWan.from_pretrained(folder / "vae")
    mean, std = (torch.tensor(getattr(vae.config, f"latents_{name}")).view(-1, 1, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        expected = vae.decode(latents * std + mean).sample
    torch.testing.assert_close(decoded, (expected / 2 + 0.5).clamp(0, 1))
    assert decoded.shape == (1, 3, 5, 32, 32)


def test_is_frozen_and_stays_in_evaluation_mode(folder: Path):
    codec = WanVAE(str(folder), precision="bfloat16")
    assert not any(p.requires_grad for p in codec.parameters())
    assert {p.dtype for p in codec.parameters()} == {torch.bfloat16}
    assert not codec.train().vae.training
    assert codec.decode(torch.randn(1, 16, 1, 2, 2)).dtype == torch.float32


def test_geometry(folder: Path):
    codec = WanVAE(str(folder))
    assert (codec.temporal_factor, codec.spatial_factor, codec.first_frame_alone) == (4, 8, True)
    assert codec.latent_frame(3) == [0, 1, 1, 1, 1, 2, 2, 2, 2]
    with pytest.raises(BadValue, match=r"video frames=16: expected 1 \+ a multiple of 4 frames"):
        codec.encode(torch.rand(1, 3, 16, 32, 32))
    with pytest.raises(BadValue, match=r"video size=32x36: expected .* divisible by 8"):
        codec.encode(torch.rand(1, 3, 5, 32, 36))


def test_refuses_a_folder_that_is_not_there():
    with pytest.raises(BadValue, match=r"folder=/nowhere: expected a folder with config.json"):
        WanVAE("/nowhere")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("no weights", "no file named"),
        ("torn", "Unable to load weights"),
        ("another size", r"expected shape torch\.Size"),
        ("no json", "valid JSON"),
    ],
)
def test_damaged_and_foreign_folders_are_one_line(folder: Path, tmp_path: Path, fault: str, said: str):
    shutil.copytree(folder / "vae", tmp_path, dirs_exist_ok=True)
    config, weights = tmp_path / "config.json", tmp_path / "diffusion_pytorch_model.safetensors"
    if fault == "no weights":
        weights.unlink()
    elif fault == "torn":
        weights.write_bytes(weights.read_bytes()[:5000])
    elif fault == "another size":
        config.write_text(config.read_text().replace('"base_dim": 8', '"base_dim": 16'))
    else:
        config.write_text("{")
    with pytest.raises(BadValue, match=rf"folder=.*: expected a complete AutoencoderKLWan, .*{said}") as error:
        WanVAE(str(tmp_path))
    assert "\n" not in str(error.value)


WRONG = {
    "missing": (lambda w: w.pop("decoder.conv_in.bias"), r"decoder\.conv_in\.bias is missing"),
    "left over": (lambda w: w.update(extra=torch.ones(1)), "extra is unknown"),
    "compiled": (
        lambda w: w.update({"_orig_mod." + name: w.pop(name) for name in list(w)}),
        r"remove _orig_mod\. from",
    ),
    "no floats": (
        lambda w: w.update({"decoder.conv_in.bias": w["decoder.conv_in.bias"].to(torch.float8_e4m3fn)}),
        r"decoder\.conv_in\.bias is stored as F8_E4M3",
    ),
    "NaN": (lambda w: w["decoder.conv_in.bias"].fill_(torch.nan), r"decoder\.conv_in\.bias holds NaN or infinity"),
    "Wan's own": (
        lambda w: w.update({"encoder.downsamples.0.residual.0.gamma": torch.ones(1)}),
        r"this is Wan's own checkpoint \(its VAE\)",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_weights_that_are_not_those_of_the_autoencoder_are_named(folder: Path, tmp_path: Path, wrong: str):
    shutil.copytree(folder / "vae", tmp_path, dirs_exist_ok=True)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    change, said = WRONG[wrong]
    change(weights := load_file(file))
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(BadValue, match=rf"folder=.*: expected .*{said}") as error:
        WanVAE(str(tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", [torch.int64, torch.float8_e4m3fn])
def test_a_bin_file_of_other_numbers_is_refused(folder: Path, tmp_path: Path, kind: torch.dtype):
    shutil.copytree(folder / "vae", tmp_path, dirs_exist_ok=True)
    weights = load_file(file := tmp_path / "diffusion_pytorch_model.safetensors")
    file.unlink()
    torch.save(weights, file.with_suffix(".bin"))
    WanVAE(str(tmp_path))
    torch.save(weights | {"decoder.conv_in.bias": weights["decoder.conv_in.bias"].to(kind)}, file.with_suffix(".bin"))
    with pytest.raises(BadValue, match=rf"folder=.*: expected .*decoder\.conv_in\.bias is stored as {str(kind)[6:]}"):
        WanVAE(str(tmp_path))


def test_a_folder_of_wans_own_repository_is_named(tmp_path: Path):
    (tmp_path / "Wan2.1_VAE.pth").write_bytes(b"")
    with pytest.raises(BadValue, match=r"such as Wan-AI/.*-Diffusers; this is Wan's own checkpoint \(its VAE\)"):
        WanVAE(str(tmp_path))


def test_large_videos_go_through_in_tiles_and_come_out_much_alike(folder: Path):
    whole, tiled = WanVAE(str(folder)), WanVAE(str(folder), tiling=True)
    image = torch.nn.functional.interpolate(torch.rand(1, 3, 17, 17), size=(272, 272), mode="bilinear")
    latents = [codec.encode(image.unsqueeze(2)) for codec in (whole, tiled)]
    decoded = [codec.decode(latents[0]) for codec in (whole, tiled)]
    for one, other in (latents, decoded):
        assert one.shape == other.shape
        assert not torch.equal(one, other)  # tiles do not see beyond their borders
        assert (one - other).square().mean() < 0.05 * one.var()


def test_autoencoders_are_told_apart_by_their_weights(folder: Path, tmp_path: Path):
    torch.manual_seed(1)
    AutoencoderKLWan(base_dim=8, dim_mult=[1, 1, 1, 1], num_res_blocks=1).save_pretrained(tmp_path)
    one, same, other = (WanVAE(str(f)).describe()["weights"] for f in (folder, folder / "vae", tmp_path))
    assert one == same != other


MIDDLE = {"resnets.0.norm1": "0.residual.0", "resnets.0.conv1": "0.residual.2", "resnets.0.norm2": "0.residual.3"}
MIDDLE |= {"resnets.0.conv2": "0.residual.6", "resnets.1.norm1": "2.residual.0", "resnets.1.conv1": "2.residual.2"}
MIDDLE |= {"resnets.1.norm2": "2.residual.3", "resnets.1.conv2": "2.residual.6", "attentions.0": "1"}
RESIDUAL = {"norm1": "residual.0", "conv1": "residual.2", "norm2": "residual.3", "conv2": "residual.6"}
RESIDUAL |= {"conv_shortcut": "shortcut"}
PARTS = {"conv_in": "conv1", "norm_out": "head.0", "conv_out": "head.2"}


def original_vae(weights):
    """Wan's own names of diffusers' autoencoder."""
    renamed = {}
    for name, weight in weights.items():
        side, _, rest = name.partition(".")
        layer, _, kind = rest.rpartition(".")
        if side in ("quant_conv", "post_quant_conv"):
            name = f"{'conv1' if side == 'quant_conv' else 'conv2'}.{kind}"
        elif layer.startswith("mid_block."):
            part = layer.removeprefix("mid_block.")
            found = next(part_name for part_name in MIDDLE if part.startswith(part_name))
            name = f"{side}.middle.{part.replace(found, MIDDLE[found], 1)}.{kind}"
        elif layer in PARTS:
            name = f"{side}.{PARTS[layer]}.{kind}"
        elif layer.startswith("down_blocks."):
            _, index, *inside = layer.split(".")
            name = f"{side}.downsamples.{index}.{RESIDUAL.get(inside[0], '.'.join(inside))}.{kind}"
        else:
            _, block, group, index, *inside = layer.split(".")
            number = 4 * int(block) + (int(index) if group == "resnets" else 3)
            name = f"{side}.upsamples.{number}.{RESIDUAL.get(inside[0], '.'.join(inside))}.{kind}"
        renamed[name] = weight.contiguous()
    return renamed


@pytest.fixture(scope="module")
def large_vae() -> AutoencoderKLWan:
    """Of Wan2.1's own shape, which a file of weights does not say, at a small width."""
    torch.manual_seed(2)
    return AutoencoderKLWan(base_dim=4).eval()


def test_wans_own_file_loads_as_diffusers_folder_does(large_vae, tmp_path: Path):
    save_file(original_vae(large_vae.state_dict()), tmp_path / "wan_2.1_vae.safetensors")
    codec = WanVAE(str(tmp_path / "wan_2.1_vae.safetensors"))
    own, wanted = codec.vae.state_dict(), large_vae.state_dict()
    assert own.keys() == wanted.keys()
    assert all(torch.equal(own[name], wanted[name]) for name in own)
    assert codec.describe()["weights"]
    assert not any(weight.requires_grad for weight in codec.parameters())
    assert (codec.temporal_factor, codec.spatial_factor) == (4, 8)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: w.pop("decoder.conv1.bias"), r"decoder\.conv_in\.bias is missing"),
        (lambda w: w.update(extra=torch.ones(1)), "extra is unknown"),
        (lambda w: w.update({"conv2.bias": torch.ones(3)}), r"is \[3\] float32, not \[16\]"),
        (lambda w: w.clear(), "Wan's own autoencoder"),
        (
            lambda w: w.update({"encoder.downsamples.0.downsamples.0.residual.0.gamma": torch.ones(1)}),
            "Wan2.2's is in Wan-AI/Wan2.2-TI2V-5B-Diffusers",
        ),
    ],
)
def test_a_file_that_is_not_the_whole_autoencoder_is_one_line(large_vae, tmp_path: Path, change, said):
    change(weights := original_vae(large_vae.state_dict()))
    save_file(weights, tmp_path / "vae.safetensors")
    with pytest.raises(BadValue, match=rf"folder=.*: expected .*{said}") as error:
        WanVAE(str(tmp_path / "vae.safetensors"))
    assert "\n" not in str(error.value)


def test_slices_are_decoded_one_by_one_and_come_out_the_same(folder: Path):
    whole, sliced = WanVAE(str(folder)), WanVAE(str(folder), slicing=True)
    videos = torch.rand(2, 3, 5, 32, 32)
    torch.testing.assert_close(whole.encode(videos), sliced.encode(videos))
    assert sliced.vae.use_slicing
