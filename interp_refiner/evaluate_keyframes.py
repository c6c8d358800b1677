"""Judges a generator of keyframes: ``python -m interp_refiner.evaluate_keyframes checkpoint=<run folder>``."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from interp_refiner.assemble import load_run
from interp_refiner.config import Settings, build, main, quiet_libraries, run_metadata
from interp_refiner.core import BadValue
from interp_refiner.data.codec import contact_sheet, stacked
from interp_refiner.evaluation.keyframe_quality import HeldOut, quality_table

SHOWN = 8  # clips in the picture


@dataclass
class KeyframeSettings(Settings):
    """Top-level values of ``conf/evaluate_keyframes.yaml``.

    Attributes:
        checkpoint: a run folder of ``+experiment=keyframes``, or a checkpoint inside one.
    """

    checkpoint: str = ""


@main("evaluate_keyframes", KeyframeSettings)
def evaluate_keyframes(cfg: DictConfig) -> None:
    """Writes ``keyframes.json``, ``keyframes.md`` and ``keyframes.png``, and prints the table."""
    quiet_libraries()
    run = load_run(cfg.checkpoint)
    writer = run.config.data.get("writer")
    if writer is None or "MovingShapes" not in writer._target_:
        raise BadValue(
            "checkpoint", cfg.checkpoint, "a run on moving shapes, on whose scenes the probe is trained"
        )
    world = build(writer)
    quality = build(cfg.quality, world=world, codec=run.codec)
    name = f"{world.fingerprint}_{quality.probe_steps}_{len(quality.frames)}"
    probe = quality.probe(Path(cfg.paths.cache, "probe", f"{name}.pt"))
    held_out = quality.held_out()
    made = quality.made(run.generator.source(build(cfg.keyframe_sampler)), held_out, cfg.seed)
    result = quality.judge(made, held_out, probe)
    folder = Path(cfg.paths.output_dir)
    about = {"sampler": OmegaConf.to_container(cfg.keyframe_sampler), "checkpoint": str(run.checkpoint)}
    (folder / "keyframes.json").write_text(json.dumps({**result, **about, **run_metadata()}, indent=1) + "\n")
    (folder / "keyframes.md").write_text(quality_table(result))
    sheet(held_out, made).save(folder / "keyframes.png")
    print(quality_table(result), folder / "keyframes.png", sep="\n")


def sheet(held_out: HeldOut, made: torch.Tensor):
    """Real and generated keyframes of the first captions."""
    pairs = zip(held_out.pictures[:SHOWN], made[:SHOWN], held_out.captions, strict=False)
    return stacked([contact_sheet([true, own], ["real", "generated"], None, said) for true, own, said in pairs])


if __name__ == "__main__":
    evaluate_keyframes()
