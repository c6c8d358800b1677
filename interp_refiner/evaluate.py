"""Judges a trained refiner on held-out clips: ``python -m interp_refiner.evaluate checkpoint=<file or run folder>``."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig
from tqdm import tqdm

from interp_refiner.assemble import inference_overrides, load_run
from interp_refiner.config import Settings, build, main, option_name, quiet_libraries
from interp_refiner.core import device
from interp_refiner.evaluation import Evaluator, ReplacedKeyframes, Run, by_level
from interp_refiner.evaluation.about import check, describe
from interp_refiner.evaluation.measures import Bootstrap
from interp_refiner.evaluation.pictures import examples, write_clips, write_outputs
from interp_refiner.evaluation.terminal import show


@dataclass
class EvaluateSettings(Settings):
    """Top-level values of ``conf/evaluate.yaml``.

    Attributes:
        checkpoint: a run folder, a checkpoint file inside one, or, with ``data``, an exported folder or ``shipped``.
        overrides: values of the run's own config to replace.
        split: the folder of held-out clips below the data's root; None for the run's own.
        anchors: the folder of anchor shards; None for the run's own.
        clips: how many held-out clips; None for all.
        scores_clips: how many of them are measured beyond squared error, which may need decoding; None for all.
        num_samples: samples a clip; with 2 or more of a stochastic sampler their energy score and spread are measured.
        batch_size: clips at a time.
        device: ``auto``, ``cpu`` or ``cuda``.
        fps: of the videos written.
    """

    checkpoint: str = ""
    overrides: dict[str, Any] = field(default_factory=dict)
    split: str | None = None
    anchors: str | None = None
    clips: int | None = None
    scores_clips: int | None = None
    num_samples: int = 1
    batch_size: int = 32
    device: Literal["auto", "cpu", "cuda"] = "auto"
    fps: float = 8.0


@main("evaluate", EvaluateSettings)
def evaluate(cfg: DictConfig) -> None:
    """Writes ``evaluation.json``, ``evaluation.md``, plots, and the worst, median and best clips to look at."""
    quiet_libraries()
    run, replaced = load_for_evaluation(cfg), ReplacedKeyframes()
    interpolation, bootstrap = option_name("interpolator", run.config.interpolator), Bootstrap(seed=cfg.seed)
    metrics = [build(node) for node in (cfg.get("metric") or {}).values()]
    settings = (cfg.num_samples, cfg.scores_clips, bootstrap, interpolation, metrics)
    evaluator = Evaluator(run.refiner, run.medium, *settings)
    with tqdm(total=run.held_out_pairs, desc="clips at all levels", unit="clip") as progress:
        for first, level, corrupted in by_level(run):
            evaluator.update(corrupted, level, first)
            replaced.update(corrupted, level)
            progress.update(corrupted.clip.batch_size)
    ranking = evaluator.ranking(run.num_levels)
    evaluation = evaluator.compute(describe(cfg, run, len(ranking), replaced))
    folder = Path(cfg.paths.output_dir)
    write_outputs(evaluation, folder, write_clips(run, evaluator.methods, examples(ranking), folder, cfg.fps))
    show(evaluation, folder)


def load_for_evaluation(cfg: DictConfig) -> Run:
    """The run with the sampler, the held-out clips and the device that the config asks for."""
    check(cfg)
    run = load_run(cfg.checkpoint, overrides={"data.val_samples": cfg.clips, **inference_overrides(cfg)})
    return run.to(device(cfg.device)).in_batches(cfg.batch_size)


if __name__ == "__main__":
    evaluate()
