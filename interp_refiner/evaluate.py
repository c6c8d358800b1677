"""Evaluates trained models on held-out clips: ``python -m interp_refiner.evaluate checkpoint=<file or run folder>``."""

from pathlib import Path

from omegaconf import DictConfig

from interp_refiner.assemble import load_run
from interp_refiner.config import build, main, print_notes, quiet_libraries, terminal
from interp_refiner.core import BadValue, device
from interp_refiner.evaluation import Evaluator, Run
from interp_refiner.evaluation.evaluator.about import check, describe
from interp_refiner.evaluation.evaluator.judging import clips_to_judge, compared, judge, labels_of, scope
from interp_refiner.evaluation.evaluator.keyframe_quality import world_of
from interp_refiner.evaluation.evaluator.outputs import examples, write_clips, write_outputs
from interp_refiner.evaluation.evaluator.settings import (
    EvaluateSettings,
    generator_notes,
    inference_overrides,
    refiner_notes,
)
from interp_refiner.evaluation.measures import Bootstrap
from interp_refiner.evaluation.records.terminal import show
from interp_refiner.storyboard import phase1_of
from interp_refiner.storyboard.pipeline.chosen import with_samples
from interp_refiner.training import KeyframeGenerator, Refiner


@main("evaluate", EvaluateSettings)
def evaluate(cfg: DictConfig) -> None:
    """Evaluates refiners, or a keyframe generator; figures, tables and pictures go to the run's folder."""
    quiet_libraries()
    runs = load_for_evaluation(cfg)
    if any(isinstance(run.module, KeyframeGenerator) for run in runs.values()):
        evaluate_generator(cfg, runs)
    else:
        evaluate_refiners(cfg, runs)


def evaluate_generator(cfg: DictConfig, runs: dict[str, Run]) -> None:
    """Writes ``keyframes.json``, ``keyframes.md`` and ``keyframes.png``."""
    if len(runs) > 1:
        raise BadValue("checkpoint", list(runs), "refiners to compare, or one keyframe generator")
    (run,), folder = runs.values(), Path(cfg.paths.output_dir)
    print_notes(generator_notes())
    run.to("cpu")  # the probe and its clips are small
    quality = build(cfg.keyframe_quality, world=world_of(run), codec=run.codec)
    source = with_samples(phase1_of(run), cfg).chosen(run.codec)
    table = quality.evaluate(run, source, Path(cfg.paths.cache, "probe"), folder, cfg.seed)
    print(table, folder / "keyframes.png", sep="\n")


def evaluate_refiners(cfg: DictConfig, runs: dict[str, Run]) -> None:
    """Writes ``evaluation.json``, ``evaluation.md``, plots, and pictures of the worst, median and best clips."""
    run, metrics = next(iter(runs.values())), [build(node) for node in (cfg.get("metric") or {}).values()]
    terminal().print(scope(run), soft_wrap=True)
    print_notes(refiner_notes(cfg, runs))
    evaluator = Evaluator(compared(runs, cfg.num_samples), cfg.scores_clips, Bootstrap(seed=cfg.seed), metrics)
    replaced, folder = judge(run, evaluator), Path(cfg.paths.output_dir)
    ranking = evaluator.ranking(evaluator.sparsest)
    evaluation = evaluator.compute(describe(cfg, runs, len(ranking), replaced))
    write_outputs(evaluation, folder, write_clips(run, evaluator.methods, examples(ranking), folder, cfg.fps))
    show(evaluation, folder)


def load_for_evaluation(cfg: DictConfig) -> dict[str, Run]:
    """The runs by label, with the sampler, the held-out clips and the device that the config asks for."""
    checkpoints = [cfg.checkpoint] if isinstance(cfg.checkpoint, str) else list(cfg.checkpoint)
    overrides = {"data.val_samples": clips_to_judge(cfg.clips, cfg.full), **inference_overrides(cfg)}
    runs: dict[str, Run] = {}
    for label, checkpoint in zip(labels_of(checkpoints), checkpoints, strict=True):
        check(cfg, checkpoint)
        run = load_run(checkpoint, overrides=overrides).to(device(cfg.device))
        runs[label] = run.in_batches(cfg.batch_size) if isinstance(run.module, Refiner) else run
        overrides.setdefault("data", run.config.get("data"))  # all runs use the clips of the first
    return runs


if __name__ == "__main__":
    evaluate()
