"""Makes videos with a trained model: ``python -m interp_refiner.sample checkpoint=<run folder>``.

By default it refines held-out clips of the run's data. With ``storyboard=board.yaml output=out.mp4`` it makes the video
of a storyboard, with ``keyframes=<generator> prompt="..." output=out.mp4`` that of a prompt. It takes exported folders,
too.
"""

from pathlib import Path

from omegaconf import DictConfig

from interp_refiner.assemble import load_pipeline, load_run
from interp_refiner.config import build, main
from interp_refiner.core import BadValue, device
from interp_refiner.evaluation.evaluator.settings import check_anchors, inference_overrides
from interp_refiner.evaluation.pictures.samples import write_samples
from interp_refiner.storyboard.sampling.settings import SampleSettings, asks_for_video
from interp_refiner.storyboard.sampling.video import sample_video
from interp_refiner.training.checkpoint import is_exported, located


@main("sample", SampleSettings)
def sample(cfg: DictConfig) -> None:
    """Makes the video of a storyboard or a prompt, or refines held-out clips."""
    place = device(cfg.device)
    if asks_for_video(cfg):
        sample_video(cfg, lambda: build(cfg.inference).apply(load_pipeline(cfg.checkpoint, cfg), place))
    elif cfg.output is not None or cfg.dry_run:
        raise BadValue(
            "storyboard", None, "a YAML or JSON file, or prompt=<what it shows>: output and dry_run need one"
        )
    elif is_exported(located(cfg.checkpoint)):
        raise BadValue("storyboard", None, "a YAML or JSON file: an exported folder has no held-out clips")
    else:
        run = load_run(cfg.checkpoint, overrides=inference_overrides(cfg)).to(place)
        check_anchors(cfg, run)
        write_samples(run, cfg.clips, cfg.level, Path(cfg.paths.output_dir), cfg.fps)


if __name__ == "__main__":
    sample()
