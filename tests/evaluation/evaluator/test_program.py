"""The program: from a run folder to an evaluation with pictures."""

import copy
import json
import math
import shutil
from unittest.mock import Mock

import pytest
import torch

from interp_refiner.assemble import assemble
from interp_refiner.config import save_config
from interp_refiner.core import BadValue, per_frame
from interp_refiner.evaluate import evaluate
from interp_refiner.evaluate import load_for_evaluation as load_all
from interp_refiner.evaluation import Evaluation, Evaluator, Methods, ReplacedKeyframes, by_level
from interp_refiner.evaluation.evaluator import judging
from interp_refiner.evaluation.evaluator.about import describe
from interp_refiner.evaluation.evaluator.judging import scope
from interp_refiner.evaluation.evaluator.outputs import short
from interp_refiner.evaluation.evaluator.settings import check_anchors
from interp_refiner.evaluation.measures import PSNR, Record, SquaredError, missing_frame_mse
from interp_refiner.evaluation.records.records import evaluations_of
from interp_refiner.evaluation.records.terminal import show
from interp_refiner.training.checkpoint import LAST_CHECKPOINT
from tests.helpers import composed


def load_for_evaluation(cfg):
    """The only run."""
    (run,) = load_all(cfg).values()
    return run


def config(program: str, folder, *overrides: str):
    places = {name: folder / name for name in ("root", "cache", "log_dir")}
    return composed(program, *overrides, **places, output_dir=folder / program)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A run folder with a model that adds something of its own."""
    folder = tmp_path_factory.mktemp("run")
    cfg = config("train", folder, "+experiment=toy_video", "data.writer.num_train=2", "data.writer.num_val=5")
    run = assemble(cfg)
    with torch.no_grad():
        for weight in run.refiner.parameters():
            weight.add_(0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    (folder / "train" / "checkpoints").mkdir(parents=True)
    save_config(cfg, folder / "train")
    torch.save({"state_dict": run.refiner.state_dict()}, folder / "train" / LAST_CHECKPOINT)
    return folder


@pytest.fixture(scope="module")
def cfg(place):
    (place / "evaluate").mkdir()
    return config("evaluate", place, f"checkpoint={place / 'train'}", "batch_size=2", "device=cpu")


def test_leaves_figures_plots_and_clips(place, cfg, capsys):
    evaluate(cfg)
    folder, printed = place / "evaluate", capsys.readouterr().out
    for name in ("by_gap", "perception_distortion", "ratios_to_truth", "clips", "best", "median", "worst"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    for name in ("best", "median", "worst"):
        assert (folder / f"{name}.mp4").stat().st_size > 1000
    report = (folder / "evaluation.md").read_text()
    assert "## Level 4: missing frames" in report
    assert "![clips.png](clips.png)" in report
    assert str(folder / "evaluation.md") in printed.replace("\n", "")
    evaluation = Evaluation.load(folder / "evaluation.json")
    assert evaluation.about["clips"] == 5
    assert evaluation.about["sampler"] == "one_jump, guidance=none, views=one, strength=1.0"
    for level in (1, 4):
        assert evaluation.record("mse_ratio", "zero output", "linear", level=level).value == 1
        assert evaluation.record("mse", "truth", level=level).value == 0
    check_against_direct_computation(cfg, evaluation, json.loads((folder / "clips.json").read_text()))


@torch.no_grad()
def check_against_direct_computation(cfg, evaluation: Evaluation, clips: dict) -> None:
    """Every clip on its own, from the same run folder."""
    run, errors, ratios = load_for_evaluation(cfg), [], {}
    for _, level, c in by_level(run):
        estimate = torch.where(per_frame(c.given, c.x), c.clean, c.interpolation + run.refiner.backbone(c))
        both = [missing_frame_mse(x, c.clean, c.missing) for x in (estimate, c.interpolation)]
        if level == 4:
            errors += both[0].tolist()
            ratios |= dict(zip(c.clip.keys, (both[0] / both[1]).tolist(), strict=True))
    assert len(errors) == 5
    assert evaluation.record("mse", "one_jump", level=4).value == pytest.approx(sum(errors) / 5, rel=1e-5)
    order = sorted(ratios, key=ratios.__getitem__)
    assert [clips[name]["key"] for name in ("best", "median", "worst")] == [order[0], order[2], order[-1]]
    for clip in clips.values():
        assert clip["ratio"] == pytest.approx(ratios[clip["key"]], rel=1e-5)
        assert [row["frame"] for row in clip["keyframes"]][::3] == [0, 20]
        assert all(row["exact"] for row in clip["keyframes"])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("split=tets", r"split=tets: expected a folder below .*: train \| val"),
        ("checkpoint=nowhere", r"checkpoint=.*nowhere: expected a run folder with config\.yaml"),
        ("clips=1", "clips=1: expected at least 2 held-out clips"),
        ("batch_size=1", "batch_size=1: expected at least 2"),
        ("fps=0", "fps=0.*: expected a finite number > 0"),
    ],
)
def test_mistakes_name_their_key(place, override, said):
    with pytest.raises(BadValue, match=said):
        load_for_evaluation(config("evaluate", place, f"checkpoint={place / 'train'}", override))


def test_several_checkpoints_are_judged_on_the_same_two_clips(place, cfg, capsys):
    shutil.copytree(place / "train", place / "other")
    cfg = copy.deepcopy(cfg)
    cfg.checkpoint, cfg.clips = [str(place / "train"), str(place / "other")], 2
    cfg.paths.output_dir = str(place / "both")
    (place / "both").mkdir()
    evaluate(cfg)
    evaluation = Evaluation.load(place / "both" / "evaluation.json")
    assert evaluation.named("estimate") == ["train: one_jump", "other: one_jump"]
    assert evaluation.record("mse_ratio", "other: one_jump", "train: one_jump", level=4).value == 1  # the same weights
    shown = json.loads((place / "both" / "clips.json").read_text())
    assert list(shown) == ["best", "median", "worst"]
    assert shown["median"] == shown["worst"] != shown["best"]  # of two clips
    assert all((place / "both" / f"{name}.mp4").is_file() for name in shown)
    assert shown["best"]["videos"][-2:] == evaluation.named("estimate")
    assert evaluations_of(place / "train") == []  # of two runs, it is not the evaluation of either
    cfg.checkpoint = [str(place / "train")] * 2
    with pytest.raises(BadValue, match=r"checkpoint=.*: expected different runs"):
        load_all(cfg)


def test_a_quick_look_says_how_many_clips_it_is_of(place, cfg, monkeypatch):
    monkeypatch.setattr(judging, "QUICK", 3)
    run = f"checkpoint={place / 'train'}"
    quick, whole = (load_for_evaluation(config("evaluate", place, run, f"full={full}")) for full in (False, True))
    assert scope(quick) == "3 of 5 held-out clips at 4 levels; full=true evaluates all"
    assert scope(whole) == "5 of 5 held-out clips at 4 levels"
    with pytest.raises(BadValue, match="full=True: expected false with clips=3"):
        judging.clips_to_judge(3, True)


def test_an_interrupted_evaluation_has_the_clips_so_far(cfg, monkeypatch, capsys):
    run, seen = load_for_evaluation(cfg), []
    evaluator = Evaluator(Methods(run.refiner, run.medium))
    update = evaluator.update

    def interrupted(corrupted, level, first):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(level)
        update(corrupted, level, first)

    monkeypatch.setattr(evaluator, "update", interrupted)
    judging.judge(run, evaluator)
    assert "interrupted: the figures cover 6 of 20 pairs" in capsys.readouterr().out
    assert evaluator.sparsest == 2
    assert evaluator.compute({}).levels == [1, 2]
    nothing = Evaluator(Methods(run.refiner, run.medium))
    monkeypatch.setattr(nothing, "update", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        judging.judge(run, nothing)


def test_another_sampler_is_judged_beside_the_one_jump(place, cfg):
    run = load_for_evaluation(
        config("evaluate", place, f"checkpoint={place / 'train'}", "sampler=bridge", "split=train")
    )
    assert run.refiner.sampler.steps == 8
    assert run.data.source.splits == ("train", "train")
    assert {len(c.clip.keys) for _, _, c in by_level(run)} == {2}


def test_what_the_steps_of_a_sampler_need_is_noted(place):
    """The run was trained at bridge time 1 alone, here also with a perceptual loss."""
    run = load_for_evaluation(config("evaluate", place, f"checkpoint={place / 'train'}", "sampler=bridge"))
    at_one = "sampler: the model was trained at bridge time 1 only, and this sampler also uses times below 1"
    assert run.sampler_notes() == [at_one]
    run.config.training.perceptual = {"weight": 1.0}
    means = "sampler: its steps assume that every estimate is the mean; with training/perceptual it is not"
    assert run.sampler_notes() == [means, at_one]
    assert load_for_evaluation(config("evaluate", place, f"checkpoint={place / 'train'}")).sampler_notes() == []


def test_notes_are_printed_before_the_clips_are_judged(place, monkeypatch, capsys):
    typed = [f"checkpoint={place / 'train'}", "sampler=bridge", "keyframe_quality.clips=8"]
    monkeypatch.setattr("interp_refiner.evaluate.judge", Mock(side_effect=KeyboardInterrupt))
    monkeypatch.setattr("interp_refiner.evaluation.evaluator.settings.given", lambda: ["--config-dir=conf", *typed])
    with pytest.raises(KeyboardInterrupt):
        evaluate(config("evaluate", place, *typed))
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")] == [
        "note: keyframe_quality.clips=8: no effect, because checkpoint is a refiner",
        "note: sampler: the model was trained at bridge time 1 only, and this sampler also uses times below 1",
    ]


def test_anchors_that_nothing_reads_are_refused(place):
    cfg = config("evaluate", place, f"checkpoint={place / 'train'}", f"anchors={place}")
    with pytest.raises(BadValue, match=r"^anchors=.*: expected null, because keyframes are the truth"):
        evaluate(cfg)
    reads, reads_not = (Mock(**{"refiner.corruption.needs_anchors": needs}) for needs in (True, False))
    check_anchors(cfg, reads, reads_not)  # of runs that are compared, one is enough


def test_a_run_is_judged_on_other_data(place, cfg):
    checkpoint, root = f"checkpoint={place / 'train'}", place / "other"
    other = ["data=small_shapes", "data.writer.num_train=2", "data.writer.num_val=3", "data.writer.seed=1"]
    run = load_for_evaluation(config("evaluate", place, checkpoint, *other, "clips=2", f"data.root={root}"))
    assert (root / "val" / "dataset.json").is_file()
    assert run.data.source.root == str(root)
    assert run.data.source.anchors.root == f"{root}_anchors"  # its references are to what was asked for
    theirs, ours = clean_clips(run), clean_clips(load_for_evaluation(cfg))
    shared = theirs.keys() & ours.keys()
    assert shared
    assert not any(torch.equal(theirs[key], ours[key]) for key in shared)
    paths = ["data=maze", "data.writer.num_train=2", "data.writer.num_val=2", f"data.root={place / 'maze'}"]
    with pytest.raises(BadValue, match=r"\[2, 64\]"):
        load_for_evaluation(config("evaluate", place, checkpoint, *paths))


def clean_clips(run) -> dict[str, torch.Tensor]:
    return {key: z for _, _, c in by_level(run) for key, z in zip(c.clip.keys, c.clean, strict=True)}


def test_a_narrow_terminal_folds_names_and_cuts_no_figure(place, cfg, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "30")
    names = {"a_method_with_a_very_long_name": "estimate", "linear": "baseline"}
    long, measures = next(iter(names)), [*SquaredError.measures[0].family, *PSNR.measures]
    records = [
        Record("mse_ratio", long, 0.5, 0.4, 0.6, "linear", level=1),
        Record("psnr", long, 40.25, 1.0, 2.0, level=1),
    ]
    show(Evaluation({}, names, measures=measures, records=records), place)
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert {"0.500", "40.25"} <= set(printed.split())


@pytest.mark.parametrize(("ratio", "said"), [(0.5524, "0.552"), (1.05e10, "over 100"), (math.inf, "over 100")])
def test_a_title_has_no_ratio_to_nothing(ratio, said):
    assert short(ratio) == said


def test_a_run_is_judged_from_proposals_that_it_was_not_trained_on(place, cfg):
    anchors = f"anchors={place / 'cache' / 'own_anchors'}"
    proposals = ["scheduled_sampling=phase1", "scheduled_sampling.probability.evaluation=1.0", anchors]
    run = load_for_evaluation(config("evaluate", place, f"checkpoint={place / 'train'}", *proposals))
    for _, _, c in by_level(run):
        assert torch.equal(c.replaced, c.known)
        assert not torch.equal(c.values, c.clean)
    assert (place / "cache" / "own_anchors" / "val" / "dataset.json").is_file()
    own = load_for_evaluation(cfg)
    assert all(not c.replaced.any() for _, _, c in by_level(own))


def test_partial_proposals_are_refused_or_their_share_is_reported(place, cfg, tmp_path):
    proposals = ["scheduled_sampling=phase1", "scheduled_sampling.probability.evaluation=1.0"]
    proposals += [f"anchors={tmp_path / 'anchors'}", "+overrides.data.anchors.source.frames=[0,10,20]", "clips=2"]
    asked = config("evaluate", place, f"checkpoint={place / 'train'}", *proposals)
    with pytest.raises(BadValue, match=r"scheduled_sampling\.uncovered=error: expected truth, or a proposal for every"):
        list(by_level(load_for_evaluation(asked)))
    asked = config("evaluate", place, f"checkpoint={place / 'train'}", *proposals, "scheduled_sampling.uncovered=truth")
    run, replaced = load_for_evaluation(asked), ReplacedKeyframes()
    for _, level, corrupted in by_level(run):
        replaced.update(corrupted, level)
    assert replaced.shares()[4] == pytest.approx(2 / 4)
    about = describe(asked, {"train": run}, 2, replaced)
    assert "50% at level 4" in about["keyframes replaced"]
    assert about["keyframes chosen by"] == "uniform, which sees nothing"
    assert str(ReplacedKeyframes()) == "none of the keyframes"


def test_no_clip_is_left_alone_in_a_batch(cfg):
    sizes = [c.clip.batch_size for _, level, c in by_level(load_for_evaluation(cfg)) if level == 1]
    assert sum(sizes) == 5
    assert min(sizes) >= 2
