"""The weights in the package: found by their name, small, and better than their interpolation at once."""

import pytest
import torch
from omegaconf import OmegaConf

from interp_refiner import Keyframe, RefinerPipeline
from interp_refiner.assemble import load_pipeline, load_run
from interp_refiner.core import BadValue
from interp_refiner.evaluation import by_level
from interp_refiner.evaluation.measures import missing_frame_mse
from interp_refiner.training.checkpoint import SHIPPED, SHIPPED_FOLDER, is_exported, located
from tests.storyboard.conftest import program_config

MEGABYTES = 4


def test_shipped_is_a_name_and_all_else_a_path(tmp_path):
    assert located(SHIPPED) == SHIPPED_FOLDER
    assert located(tmp_path) == tmp_path
    assert located("./shipped").name == "shipped"
    assert located("./shipped") != SHIPPED_FOLDER
    with pytest.raises(BadValue, match=r"checkpoint=shiped: expected .* or shipped; did you mean 'shipped'\?"):
        located("shiped")


def test_the_shipped_folder_is_whole_and_small():
    assert is_exported(SHIPPED_FOLDER)
    assert sum(file.stat().st_size for file in SHIPPED_FOLDER.rglob("*")) <= MEGABYTES * 1e6
    card = (SHIPPED_FOLDER / "README.md").read_text()
    assert "held-out clips, missing frames only" in card


def test_python_and_programs_take_it_by_name():
    frame = torch.rand(3, 32, 56, generator=torch.Generator().manual_seed(0))
    pipe = RefinerPipeline.from_pretrained(SHIPPED)
    pipe.set_progress_bar_config(disable=True)
    made = pipe(keyframes=[Keyframe(image=frame, time=0), Keyframe(image=frame, time="100%")])
    assert torch.equal(made.latents[:, :, 0], made.values[:, :, 0])
    named = load_pipeline(SHIPPED)
    for name, weight in pipe.backbone.state_dict().items():
        assert torch.equal(weight, named.backbone.state_dict()[name])


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """The data node of a few clips of the world that it was trained on."""
    small = ["data.writer.num_train=32", "data.writer.num_val=4"]
    return program_config("train", tmp_path_factory.mktemp("clips"), *small).data


@torch.no_grad()
def test_it_is_better_than_its_interpolation_on_held_out_clips(clips):
    run = load_run(SHIPPED, overrides={"data": clips, "data.val_samples": None})
    refined, interpolated = [], []
    for _, level, c in by_level(run):
        if level == run.num_levels:
            refined.append(missing_frame_mse(run.refiner.sample(c), c.clean, c.missing))
            interpolated.append(missing_frame_mse(c.interpolation, c.clean, c.missing))
    ratio = torch.cat(refined).mean() / torch.cat(interpolated).mean()
    assert len(torch.cat(refined)) == 4
    assert ratio < 0.85


def test_other_clips_and_other_values_are_refused(clips, tmp_path):
    longer = OmegaConf.create(OmegaConf.to_container(clips, resolve=True))
    longer.writer.num_frames, longer.root = 25, str(tmp_path / "longer")
    with pytest.raises(BadValue, match=r"data=\[16, 25, 8, 14\]: expected clips \[16, 21, 8, 14\]"):
        load_run(SHIPPED, overrides={"data": longer})
    with pytest.raises(BadValue, match=r"corruption\.sigma=0\.5: expected no override: .* is an exported folder"):
        load_run(SHIPPED, overrides={"corruption.sigma": 0.5})
    with pytest.raises(BadValue, match="an exported folder has no data"):
        _ = load_run(SHIPPED).data
