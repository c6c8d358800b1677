"""Tiny models of Wan2.1, Wan2.2 TI2V and LTX pass all stages: videos, shards, a step, a video, an export."""

import lightning as L
import pytest
import torch
from diffusers import AutoencoderKLWan
from omegaconf import OmegaConf

from interp_refiner.assemble import assemble, load_pipeline
from interp_refiner.config import save_config
from interp_refiner.data import Cut, VideoEncoder, find_videos
from interp_refiner.data.codec import write_mp4
from interp_refiner.data.codec.wan_vae import WanVAE
from interp_refiner.data.text import CaptionEncoder
from interp_refiner.storyboard import Keyframe, RefinerPipeline
from interp_refiner.training.checkpoint import LAST_CHECKPOINT
from tests.storyboard.conftest import program_config

SMALL = {"base_dim": 8, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}
WAN22 = {"z_dim": 48, "is_residual": True, "in_channels": 12, "out_channels": 12, "patch_size": 2}
WAN22 |= {"scale_factor_spatial": 16, "latents_mean": [0.1] * 48, "latents_std": [0.5] * 48, "decoder_base_dim": 8}
TINY = ["num_layers=1", "num_attention_heads=1", "attention_head_dim=16"]
WAN = [*TINY, "ffn_dim=16", "freq_dim=16"]
MODELS = {  # autoencoder, channels, factor in space, size
    "wan_14b": (SMALL, 16, 8, WAN),
    "wan22_5b": ({**SMALL, **WAN22}, 48, 16, WAN),
    "ltx_2b": (SMALL, 16, 8, TINY),
}
FRAMES, SIDE = 9, 4  # pixel frames, latent rows and columns


def shards(folder, codec, side):
    """Two clips of one video for training, one to validate on."""
    (folder / "videos").mkdir()
    write_mp4(folder / "videos/a.mp4", torch.rand(3, 1, side, side).repeat(1, 30, 1, 1), fps=8.0)
    size = (FRAMES, side, side)
    cut = Cut(frame_size=(side, side), size=size, stride=size, held_out_videos=0.0, held_out_end=0.4)
    VideoEncoder(codec, CaptionEncoder(4, 8), cut).write(find_videos(folder / "videos"), folder / "set")
    return folder / "set"


@pytest.mark.parametrize("name", MODELS)
def test_the_whole_line(name, tmp_path):
    settings, channels, factor, size = MODELS[name]
    torch.manual_seed(0)
    AutoencoderKLWan(**settings).save_pretrained(tmp_path / "vae")
    codec, side = WanVAE(str(tmp_path / "vae")), SIDE * factor
    root = shards(tmp_path, codec, side)
    options = [f"backbone={name}", "data=wan_synth", f"data.root={root}", *(f"backbone.size.{part}" for part in size)]
    options += ["schedule.k_min=2", "schedule.num_levels=1", "data.batch_size=1", "data.val_samples=1"]
    cfg = program_config("train", tmp_path, *options)
    run = assemble(cfg)
    assert run.spec.latent_shape == (channels, 3, SIDE, SIDE)
    assert (run.spec.codec["temporal_factor"], run.spec.codec["spatial_factor"]) == (4, factor)

    before = {key: weight.clone() for key, weight in run.module.state_dict().items()}
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    L.Trainer(fast_dev_run=1, default_root_dir=tmp_path, **quiet).fit(run.module, datamodule=run.data)
    assert any(not torch.equal(weight, before[key]) for key, weight in run.module.state_dict().items())
    (tmp_path / "train/checkpoints").mkdir(parents=True)
    save_config(cfg, tmp_path / "train")
    torch.save({"state_dict": run.module.state_dict()}, tmp_path / "train" / LAST_CHECKPOINT)

    node = {"_target_": "interp_refiner.data.codec.wan_vae.WanVAE", "folder": str(tmp_path / "vae")}
    pipe = load_pipeline(tmp_path / "train", OmegaConf.create({"codec": node}))
    made = video(pipe, side)
    assert made.shape == (3, FRAMES, side, side)
    if name == "wan22_5b":  # its autoencoder's tiles are twice as large in pixels as its patches
        pipe.codec.vae.enable_tiling(side // 2, side // 2, side // 4, side // 4)
        tiled = video(pipe.enable_vae_tiling(), side)
        assert tiled.shape == made.shape
        assert tiled.isfinite().all()
        assert not torch.equal(tiled, made)  # it had more than one tile
        pipe.codec.vae.disable_tiling()
    again = RefinerPipeline.from_pretrained(pipe.save_pretrained(tmp_path / "exported"))
    assert (tmp_path / "exported/vae/config.json").is_file()
    assert torch.equal(video(again, side), made)


def video(pipe, side):
    pipe.set_progress_bar_config(disable=True)
    first, last = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    keyframes = [Keyframe(image=first, time=0), Keyframe(image=last, time="100%")]
    return pipe(keyframes=keyframes, output_type="pt").frames
