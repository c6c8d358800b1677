"""``interp_refiner.load_run``: one call for run folders, checkpoint files and exported folders."""

import json
import subprocess
import sys

import pytest
import torch

import interp_refiner
from interp_refiner.assemble import assemble, load_exportable
from interp_refiner.config import save_config
from interp_refiner.core import BadValue
from interp_refiner.evaluation import Evaluation
from interp_refiner.evaluation.records.records import evaluations_of
from interp_refiner.storyboard import as_pipeline
from interp_refiner.training.checkpoint import LAST_CHECKPOINT
from tests.config.small import small_config
from tests.training.checkpoint.runs import TINY


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """``logs/train/runs/mine`` with random weights and their averages, which differ."""
    place = tmp_path_factory.mktemp("logs")
    cfg = small_config(place, *TINY, f"paths.cache={place / 'cache'}")
    folder = place / "train" / "runs" / "mine"
    save_config(cfg, folder)
    torch.manual_seed(0)
    raw = {name: torch.randn_like(weight) for name, weight in assemble(cfg).module.state_dict().items()}
    averaged = {name: value + 1 for name, value in raw.items()}
    (folder / LAST_CHECKPOINT).parent.mkdir()
    torch.save({"state_dict": raw, "ema_state_dict": averaged}, folder / LAST_CHECKPOINT)
    return folder, raw


def weights(run):
    return run.refiner.state_dict()


def test_a_run_folder_and_its_file_load_alike_averaged_or_raw(trained):
    folder, raw = trained
    of_folder, of_file = interp_refiner.load_run(folder), interp_refiner.load_run(folder / LAST_CHECKPOINT, ema=False)
    for name, value in raw.items():
        torch.testing.assert_close(weights(of_folder)[name], value + 1)
        torch.testing.assert_close(weights(of_file)[name], value)
    assert of_folder.folder == of_file.folder == folder
    assert of_folder.codec is of_folder.data.codec
    assert len(of_folder.data.val_dataloader()) > 0
    assert not of_folder.module.training


def test_an_exported_folder_loads_with_the_same_weights_and_no_data(trained, tmp_path):
    run = interp_refiner.load_run(trained[0])
    as_pipeline(run).save_pretrained(tmp_path / "exported")
    exported = interp_refiner.load_run(tmp_path / "exported")
    for name, value in run.refiner.backbone.state_dict().items():
        torch.testing.assert_close(exported.refiner.backbone.state_dict()[name], value)
    clip = next(iter(run.data.val_dataloader()))
    corrupted = run.data.on_after_batch_transfer(clip, 0)
    torch.testing.assert_close(exported.refiner.sample(corrupted), run.refiner.sample(corrupted))
    torch.testing.assert_close(exported.codec.decode(clip.latents.float()), run.codec.decode(clip.latents.float()))
    assert exported.spec.latent_shape == run.spec.latent_shape
    assert exported.evaluation is None
    with pytest.raises(BadValue, match=r"checkpoint=.*: expected a run folder: an exported folder has no data$"):
        _ = exported.data
    with pytest.raises(BadValue, match=r"^data\.root=elsewhere: expected no such override: .* is an exported folder"):
        interp_refiner.load_run(tmp_path / "exported", overrides={"data.root": "elsewhere"})
    with pytest.raises(BadValue, match=r"^ema=False: expected true: .* is an exported folder, which has one kind of"):
        load_exportable(tmp_path / "exported", ema=False)
    other = small_config(tmp_path, f"data.root={tmp_path / 'other'}", "data.writer.height=64").data
    with pytest.raises(BadValue, match=r"^data=\[16, 21, 16, 6\]: expected clips \[16, 21, 4, 4\]"):
        interp_refiner.load_run(tmp_path / "exported", overrides={"data": other})
    assert not (tmp_path / "other").exists()  # refused before clips are written


def test_the_newest_evaluation_of_a_run_is_found_where_evaluate_left_it(trained):
    folder, _ = trained
    logs = folder.parents[2]
    assert interp_refiner.load_run(folder).evaluation is None
    for name, about in {"other": "train/runs/mine_too", "mine": "train/runs/mine"}.items():
        there = logs / "evaluate" / "runs" / name
        there.mkdir(parents=True)
        checkpoint = str(logs / about / LAST_CHECKPOINT)
        Evaluation({"checkpoint": checkpoint, "clips": 7}, {"linear": "baseline"}).save(there / "evaluation.json")
    (logs / "evaluate" / "runs" / "other" / "half").mkdir()
    (logs / "evaluate" / "runs" / "other" / "half" / "evaluation.json").write_text('{"about": {"chec')
    assert evaluations_of(folder) == [logs / "evaluate" / "runs" / "mine" / "evaluation.json"]
    assert interp_refiner.load_run(folder).evaluation.about["clips"] == 7


def test_importing_the_package_is_light():
    code = "import interp_refiner, sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"torch", "lightning", "diffusers"}.isdisjoint(json.loads(done.stdout))
    assert {"load_run", "Run"} <= set(interp_refiner.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'load_runs'"):
        _ = interp_refiner.load_runs
