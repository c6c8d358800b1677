"""Run folders of tiny untrained models, a refiner and a keyframe generator, whose output is not 0."""

import pytest
import torch

from interp_refiner.assemble import assemble, load_pipeline
from interp_refiner.config import save_config
from interp_refiner.training.checkpoint import LAST_CHECKPOINT
from tests.helpers import composed


def program_config(program: str, folder, *overrides: str):
    places = {name: folder / name for name in ("root", "cache", "log_dir")}
    return composed(program, *overrides, **places, output_dir=folder / program)


SMALL = ["data.writer.num_train=2", "data.writer.num_val=2", "backbone.size.num_layers=1"]


def random_run(folder, *overrides: str):
    """A run of untrained weights, all of them moved away from zero."""
    cfg = program_config("train", folder, *SMALL, *overrides)
    run = assemble(cfg)
    with torch.no_grad():
        for weight in run.module.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    (folder / "train" / "checkpoints").mkdir(parents=True)
    save_config(cfg, folder / "train")
    torch.save({"state_dict": run.module.state_dict()}, folder / "train" / LAST_CHECKPOINT)
    return folder / "train"


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    return random_run(tmp_path_factory.mktemp("tiny"), "+experiment=toy_video", "corruption.sigma=0.4")


@pytest.fixture(scope="session")
def generator_folder(tmp_path_factory):
    """Of the same clips and prompts; its statistics are those of clips of another seed."""
    size = ["data.writer.height=16", "data.writer.width=24", "data.writer.seed=1", "training.sampler.steps=3"]
    small = ["backbone.size.num_attention_heads=2", "backbone.size.ffn_dim=64"]
    return random_run(tmp_path_factory.mktemp("generator"), "+experiment=keyframes", *size, *small)


@pytest.fixture(scope="session")
def pipe(run_folder):
    made = load_pipeline(run_folder)
    made.set_progress_bar_config(disable=True)
    return made
