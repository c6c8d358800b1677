"""Runs on paths go through the same programs as videos."""

import json

import pytest
import torch

from interp_refiner.assemble import assemble
from interp_refiner.config import save_config
from interp_refiner.core import BadValue
from interp_refiner.evaluate import evaluate
from interp_refiner.evaluation import Evaluation
from interp_refiner.export import export
from interp_refiner.sample import sample
from interp_refiner.training.checkpoint import LAST_CHECKPOINT
from tests.evaluation.evaluator.test_program import config

SMALL = ["data.writer.num_train=4", "data.writer.num_val=5", "data.writer.size=11", "data.writer.min_distance=5"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A run folder with an untrained model: its output is zero."""
    folder = tmp_path_factory.mktemp("run")
    cfg = config("train", folder, "+experiment=maze", *SMALL, "data.writer.num_points=16", "schedule.counts=[8,4]")
    run = assemble(cfg)
    (folder / "train" / "checkpoints").mkdir(parents=True)
    save_config(cfg, folder / "train")
    torch.save({"state_dict": run.refiner.state_dict()}, folder / "train" / LAST_CHECKPOINT)
    for program in ("evaluate", "sample"):
        (folder / program).mkdir()
    return folder


def test_an_evaluation_of_paths(place, capsys):
    evaluate(config("evaluate", place, f"checkpoint={place / 'train'}", "batch_size=3", "device=cpu"))
    folder, printed = place / "evaluate", capsys.readouterr().out
    evaluation = Evaluation.load(folder / "evaluation.json")
    assert evaluation.levels == [1, 2]
    assert evaluation.sections == ["missing frames", "paths", "keyframes"]
    for level in (1, 2):
        assert evaluation.record("path_mse_ratio", "one_jump", "linear", level=level).value == 1
        for share in ("path_mse_better", "path_mse_worse"):
            assert evaluation.record(share, "one_jump", "linear", level=level).value == 0
        assert evaluation.record("endpoint_error", "linear", level=level).value == pytest.approx(0, abs=1e-6)
        linear = evaluation.record("mse", "linear", level=level).value
        assert evaluation.record("mse", "nearest keyframe", level=level).value > linear
        assert 0 < evaluation.record("mse", "blurred truth", level=level).value < linear
    report = (folder / "evaluation.md").read_text()
    assert "## Level 2: paths" in report
    assert "realism" not in report
    assert "![perception_distortion.png]" not in report
    assert {"edges", "paths", "length"} <= set(printed.split())
    assert "PSNR" not in printed
    for name in ("by_gap", "clips", "best", "median", "worst"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "worst.mp4").stat().st_size > 1000
    clips = json.loads((folder / "clips.json").read_text())
    assert all(row["exact"] for row in clips["best"]["keyframes"])


def test_samples_of_paths_bring_their_contract(place):
    sample(config("sample", place, f"checkpoint={place / 'train'}", "clips=1", "device=cpu"))
    (row,) = json.loads((place / "sample" / "samples.json").read_text())["samples"]
    assert (place / "sample" / f"{row['key']}.png").is_file()
    assert (row["ratio"], row["given_frames_exact"], len(row["keyframes"])) == (1, True, 4)
    assert {"frame", "exact", "colour_shift", "seam_colour", "seam_flicker"} == set(row["keyframes"][0])


def test_metrics_of_pixels_are_refused(place):
    with pytest.raises(BadValue, match="metric=vmaf: expected a metric of latents or paths; this one measures pixels"):
        evaluate(config("evaluate", place, f"checkpoint={place / 'train'}", "metric=[vmaf]", "device=cpu"))


def test_no_pipeline_is_made_of_paths(place):
    with pytest.raises(BadValue, match=r"checkpoint=.*: expected a run on videos, .* clips \[2, 16\]"):
        export(config("export", place, f"checkpoint={place / 'train'}", f"output={place / 'exported'}"))


def test_a_medium_of_other_clips_is_refused(place):
    with pytest.raises(BadValue, match=r"medium=video: expected a medium for clips \[2, 16\]"):
        evaluate(config("evaluate", place, f"checkpoint={place / 'train'}", "medium=video", "device=cpu"))
