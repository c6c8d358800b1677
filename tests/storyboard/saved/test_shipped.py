"""The weights in the package: found by name, small, and better than their interpolation."""

import re
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from interp_refiner import Keyframe, RefinerPipeline
from interp_refiner.assemble import load_pipeline, load_run
from interp_refiner.core import BadValue, Draws
from interp_refiner.evaluation import by_level
from interp_refiner.evaluation.measures import missing_frame_mse
from interp_refiner.model.sampler import Bridge, OneJump
from interp_refiner.storyboard.pipeline.arguments import Request
from interp_refiner.training.checkpoint import (
    SHIPPED,
    SHIPPED_CAMERA,
    SHIPPED_FOLDER,
    SHIPPED_ONE_STEP,
    is_exported,
    located,
)
from tests.storyboard.conftest import program_config

MEGABYTES = 4
ROOT = Path(__file__).resolve().parents[3]


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
    board = [Keyframe(image=frame, time=0), Keyframe(image=frame, time="100%")]
    made = pipe(keyframes=board)
    with pytest.warns(UserWarning, match="prompt: no") as said:
        pipe("a dog moving left", board, num_inference_steps=1)
    assert [str(warning.message)[:40] for warning in said] == [
        "prompt: no training caption has a, dog",
        "the model knows the words dark, dim, pal",
    ]
    assert pipe.text is not None
    pipe.text.vocabulary += tuple(map(str, range(1000)))  # too many to be listed
    with pytest.warns(UserWarning, match="prompt: no") as said:
        pipe("a dog moving left", board, num_inference_steps=1)
    assert len(said) == 1
    assert torch.equal(made.latents[:, :, 0], made.values[:, :, 0])
    named = load_pipeline(SHIPPED)
    for name, weight in pipe.backbone.state_dict().items():
        assert torch.equal(weight, named.backbone.state_dict()[name])


def test_the_python_example_of_the_readme_makes_a_video(tmp_path, monkeypatch):
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    monkeypatch.chdir(tmp_path)
    exec(re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[0], {})
    with Image.open("out.gif") as made:
        assert (made.n_frames, made.size) == (21, (56, 32))


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
    with pytest.raises(BadValue, match=r"corruption\.sigma=0\.5: expected no such override: .* is an exported folder"):
        load_run(SHIPPED, overrides={"corruption.sigma": 0.5})
    with pytest.raises(BadValue, match="data=moving_shapes: expected a config node"):
        load_run(SHIPPED, overrides={"data": "moving_shapes"})
    with pytest.raises(BadValue, match="an exported folder has no data"):
        _ = load_run(SHIPPED).data


def test_the_one_step_weights_are_small_and_say_what_they_were_distilled_from():
    folder = located(SHIPPED_ONE_STEP)
    assert is_exported(folder)
    assert sum(file.stat().st_size for file in folder.rglob("*")) <= MEGABYTES * 1e6
    assert "| distilled from | shipped |" in (folder / "README.md").read_text()
    assert located(SHIPPED, "keyframes") != SHIPPED_FOLDER
    with pytest.raises(BadValue, match="keyframes=shipped_one_step"):
        located(SHIPPED_ONE_STEP, "keyframes")


def test_the_weights_for_real_video_keep_keyframes_at_any_size_and_go_half_of_the_way():
    folder = located(SHIPPED_CAMERA)
    assert sum(file.stat().st_size for file in folder.rglob("*")) <= MEGABYTES * 1e6
    card = (folder / "README.md").read_text()
    assert "60 held-out clips, missing frames only" in card
    assert "| perceptual loss | ShiftTolerantLPIPS |" in card
    pipe = RefinerPipeline.from_pretrained(SHIPPED_CAMERA)
    pipe.set_progress_bar_config(disable=True)
    assert pipe.sampler.strength == 0.5
    frames = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    board = [Keyframe(image=frames[0], time=0), Keyframe(image=frames[1], time="100%")]
    made = pipe(keyframes=board, height=64, width=96)
    assert made.latents.shape[-2:] == (16, 24)
    for end in (0, -1):
        assert torch.equal(made.latents[:, :, end], made.values[:, :, end])
    pipe.sampler.strength = 1.0
    whole = pipe(keyframes=board, height=64, width=96).latents
    base = pipe.corruption.interpolator(made.values, made.known).latents
    torch.testing.assert_close(made.latents, (base + whole) / 2)
    assert (whole - base).square().mean() > 1e-4 * base.square().mean()


def test_a_sampler_whose_steps_they_were_not_trained_for_gets_a_note():
    pipe = RefinerPipeline.from_pretrained(SHIPPED_CAMERA)
    assert pipe.sampler_notes() == pipe.sampler_notes(1) == []
    for strength, notes in ((0.25, []), (1.0, ["sampler.strength=1: the model's own sampler has 0.5"])):
        assert pipe.with_component("sampler", OneJump(strength=strength), {}).sampler_notes() == notes
    assert pipe.sampler_notes(4) == [
        "sampler: its steps assume that every estimate is the mean; with training/perceptual and "
        "objective/penalty=robust it is not",
        "sampler: the model was trained at bridge time 1 only, and this sampler also uses times below 1",
    ]
    pipe.set_progress_bar_config(disable=True)
    frame = torch.rand(3, 48, 80, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match="trained at bridge time 1 only"):
        pipe(keyframes=[Keyframe(image=frame, time=0)], num_frames=3, num_inference_steps=2)
    for name in (SHIPPED, SHIPPED_ONE_STEP):
        assert RefinerPipeline.from_pretrained(name).sampler_notes(4) == []


def test_a_prompt_for_weights_that_were_trained_without_captions_gets_a_note():
    ignored = ["the refiner ignores prompts: no training clip had a caption"]
    frame = Keyframe(image=torch.zeros(3, 48, 80), time=0, prompt="moving right")
    for name, notes in ((SHIPPED_CAMERA, ignored), (SHIPPED, [])):
        pipe = RefinerPipeline.from_pretrained(name)
        assert pipe.prompt_notes(Request("", [])) == []
        assert pipe.prompt_notes(Request("", [frame])) == notes


@torch.no_grad()
def test_one_step_ends_where_sixteen_of_the_teacher_do(clips):
    """Relative to the mean's distance from there; the bar is .35."""
    run = load_run(SHIPPED_ONE_STEP, overrides={"data": clips, "data.val_samples": 2})
    teacher = load_run(SHIPPED).refiner
    for _, _, c in by_level(run):
        end = Bridge(16, order=1)(teacher.clean_estimate, c, Draws(0, "val", c.clip.keys), teacher.corruption)
        one, mean = (c.keep_given(model.clean_estimate(c)) for model in (run.refiner, teacher))
        error, of_mean = (missing_frame_mse(x, end, c.missing).mean() for x in (one, mean))
        assert error < 0.1 * of_mean
        assert torch.equal(run.refiner.sample(c, "val"), one)


def test_a_distilled_pipeline_takes_any_number_of_steps():
    pipe = RefinerPipeline.from_pretrained(SHIPPED_ONE_STEP)
    pipe.set_progress_bar_config(disable=True)
    frame = torch.rand(3, 32, 56, generator=torch.Generator().manual_seed(0))
    board = [Keyframe(image=frame, time=0), Keyframe(image=1 - frame, time="100%")]
    steps = []

    def note(pipe, step, tau, tensors):
        steps.append(tau)
        return tensors

    videos = [
        pipe(
            keyframes=board,
            num_inference_steps=n,
            callback_on_step_end=lambda _, s, tau, told: steps.append(tau) or told,
        )
        for n in (None, 1, 2)
    ]
    assert steps == [1, 1, 1, 0.5]
    assert torch.equal(videos[0].latents, videos[1].latents)
    assert not torch.equal(videos[0].latents, videos[2].latents)
    with pytest.raises(BadValue, match=r"guidance_scale=3.0: expected 1 or none.*distilled"):
        pipe(keyframes=board, guidance_scale=3.0)


def test_a_negative_prompt_to_a_distilled_model_has_no_effect_and_a_warning():
    pipe = RefinerPipeline.from_pretrained(SHIPPED_ONE_STEP)
    pipe.set_progress_bar_config(disable=True)
    frame = torch.rand(3, 32, 56, generator=torch.Generator().manual_seed(0))
    board = [Keyframe(image=frame, time=0), Keyframe(image=1 - frame, time="100%")]
    without = pipe("bright ring moving up", board).latents
    with pytest.warns(UserWarning, match="^negative_prompt has no effect with a distilled model: it learned its teach"):
        assert torch.equal(pipe("bright ring moving up", board, negative_prompt="dim circle").latents, without)


def test_no_weights_in_the_package_ask_for_a_compiler():
    for index in SHIPPED_FOLDER.parent.rglob("model_index.json"):
        assert '"compile": true' not in index.read_text(), index
