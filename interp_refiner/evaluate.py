"""Judges a trained refiner on held-out clips: ``python -m interp_refiner.evaluate checkpoint=<file or run folder>``."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig

from interp_refiner.assemble import inference_overrides, load_run
from interp_refiner.config import Settings, build, main, quiet_libraries, terminal
from interp_refiner.core import device
from interp_refiner.evaluation import Evaluator, Run
from interp_refiner.evaluation.about import check, describe
from interp_refiner.evaluation.judging import clips_to_judge, compared, judge, labels_of, scope
from interp_refiner.evaluation.measures import Bootstrap
from interp_refiner.evaluation.pictures import examples, write_clips, write_outputs
from interp_refiner.evaluation.terminal import show


@dataclass
class EvaluateSettings(Settings):
    """Top-level values of ``conf/evaluate.yaml``.

    Attributes:
        checkpoint: a run folder, a checkpoint file in one, or, with ``data``, an export or ``shipped``; or several.
        overrides: values of the run's own config to replace.
        split: the folder of held-out clips below the data's root; None for the run's own.
        anchors: the folder of anchor shards; None for the run's own.
        clips: how many held-out clips; None for a quick look.
        full: all held-out clips.
        scores_clips: how many of them are measured beyond squared error, which may need decoding; None for all.
        num_samples: samples a clip; with 2 or more of a stochastic sampler their energy score and spread are measured.
        batch_size: clips at a time.
        device: ``auto``, ``cpu`` or ``cuda``.
        fps: of the videos written.
    """

    checkpoint: list[str] | str = ""
    overrides: dict[str, Any] = field(default_factory=dict)
    split: str | None = None
    anchors: str | None = None
    clips: int | None = None
    full: bool = False
    scores_clips: int | None = None
    num_samples: int = 1
    batch_size: int = 32
    device: Literal["auto", "cpu", "cuda"] = "auto"
    fps: float = 8.0


@main("evaluate", EvaluateSettings)
def evaluate(cfg: DictConfig) -> None:
    """Writes ``evaluation.json``, ``evaluation.md``, plots, and the worst, median and best clips to look at."""
    quiet_libraries()
    runs = load_for_evaluation(cfg)
    run, metrics = next(iter(runs.values())), [build(node) for node in (cfg.get("metric") or {}).values()]
    terminal().print(scope(run), soft_wrap=True)
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
        runs[label] = run.in_batches(cfg.batch_size)
        overrides.setdefault("data", run.config.get("data"))  # the clips of the first
    return runs


if __name__ == "__main__":
    evaluate()
