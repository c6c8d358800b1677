"""Writes a pipeline of any checkpoint: ``python -m interp_refiner.export checkpoint=<run folder> output=<folder>``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from interp_refiner.assemble import Run, load_run, load_text_encoder, objective_sizes
from interp_refiner.config import Settings, build, main, run_metadata, writable
from interp_refiner.core import BadValue
from interp_refiner.data.codec import Codec
from interp_refiner.data.text import TextEncoder
from interp_refiner.forward.interpolator import use_codec
from interp_refiner.storyboard import INDEX, Components, PipelineConfig, RefinerPipeline

CHOSEN = ("sampler", "codec", "text")  # groups that can be chosen anew for a trained model


@dataclass
class ExportSettings(Settings):
    """Top-level values of ``conf/export.yaml``.

    Attributes:
        checkpoint: a run folder, or a checkpoint file inside one.
        output: a new or empty folder.
        ema: the averaged weights; false for the raw ones.
    """

    checkpoint: str = ""
    output: str = ""
    ema: bool = True


@main("export", ExportSettings)
def export(cfg: DictConfig) -> None:
    """Writes ``model_index.json``, ``transformer/``, the refiner's own weights and a model card."""
    output = writable("output", Path(cfg.output).expanduser())
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise BadValue("output", output, "a new or empty folder: something is there already")
    folder = load_pipeline(cfg.checkpoint, cfg, ema=cfg.ema).save_pretrained(output)
    console = Console(highlight=False)
    console.print(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}", soft_wrap=True)
    console.print(
        f"next: python -m interp_refiner.sample checkpoint={folder} storyboard=<board.yaml> output=out.mp4",
        soft_wrap=True,
    )


def load_pipeline(path: str | Path, cfg: DictConfig, *, ema: bool = True) -> RefinerPipeline:
    """The pipeline of a run folder, a checkpoint file or an exported folder.

    Args:
        path: one of them.
        cfg: the nodes ``sampler``, ``codec`` and ``text`` of it take the place of the model's own; None leaves them.
        ema: the averaged weights of a checkpoint.

    Raises:
        BadValue: there is none of them, or the run did not train a refiner.
    """
    chosen = {name: cfg[name] for name in CHOSEN if cfg.get(name) is not None}
    if not (Path(path).expanduser() / INDEX).is_file():
        return as_pipeline(load_run(path, ema=ema, overrides=chosen))
    pipeline = RefinerPipeline.from_pretrained(path)
    for name, node in chosen.items():
        if node.get("_partial_", False):
            raise BadValue(name, "declared", f"another {name}, or none: an exported folder has its own")
        before, made = pipeline.codec, build(node)
        setattr(pipeline, name, made)
        pipeline.config.components[name] = OmegaConf.to_container(node, resolve=True)
        if name == "codec" and not before.caveat:
            pipeline.config.components[name] |= keep_latents(before, made)
        if name == "codec" and not made.caveat:
            use_codec(pipeline.corruption.interpolator, made, instead=True)
    check_text(pipeline)
    return pipeline


def keep_latents(trained: Codec, chosen: Codec) -> dict[str, Any]:
    """Hands the statistics of the latents trained on to a codec without its own; returns them for its node.

    Raises:
        BadValue: a codec whose latents have other channels or factors.
    """
    for name in ("latent_channels", "temporal_factor", "spatial_factor", "first_frame_alone"):
        if (found := getattr(chosen, name)) != (wanted := getattr(trained, name)):
            raise BadValue("codec", chosen.name, f"{name}={wanted} as trained on, not {found}")
    if chosen.has_statistics:
        return {}
    statistics = {"latents_mean": trained.latents_mean.tolist(), "latents_std": trained.latents_std.tolist()}
    chosen.set_statistics(*statistics.values())
    return statistics


def check_text(pipeline: RefinerPipeline) -> None:
    """Refuses an encoder whose embeddings have another shape than those of training."""
    text, trained = pipeline.text, pipeline.config.text_shape
    if text is not None and trained is not None and (text.length, text.dim) != tuple(trained):
        raise BadValue("text", text.name, f"embeddings {list(trained)} as trained on, not {[text.length, text.dim]}")


def as_pipeline(run: Run) -> RefinerPipeline:
    """A pipeline around a run's own networks.

    Raises:
        BadValue: the run's clips are no videos.
    """
    refiner, data = run.refiner, run.data
    if len(data.metadata.latent_shape) != 4:
        clips = list(data.metadata.latent_shape)
        raise BadValue("checkpoint", run.checkpoint, f"a run on videos, of which storyboards are made, not on {clips}")
    text = text_encoder(run)
    parts = Components(
        backbone=refiner.backbone,
        objective=refiner.objective,
        sampler=refiner.sampler,
        corruption=refiner.corruption,
        codec=data.codec,
        text=text,
    )
    metadata = data.metadata
    config = PipelineConfig(
        latent_shape=metadata.latent_shape,
        text_shape=metadata.text_shape,
        fps=metadata.fps or PipelineConfig.fps,
        components={**component_nodes(run), "text": text_node(run, text)},
        trained=provenance(run),
    )
    return RefinerPipeline(parts, config)


def text_encoder(run: Run) -> TextEncoder | None:
    """The encoder of the run's prompts; None without prompts, or where it needs weights and nobody chose it."""
    chosen = run.config.get("text")
    if run.data.metadata.text_shape is None:
        return None
    try:
        return load_text_encoder(run)
    except BadValue:
        if chosen is None or chosen.get("_partial_", False):
            return None
        raise


def text_node(run: Run, text: TextEncoder | None) -> Any:
    """How to build the encoder again."""
    chosen = run.config.get("text")
    if text is None:
        return None
    if chosen is not None and not chosen.get("_partial_", False):
        return OmegaConf.to_container(chosen, resolve=True)
    return {"_target_": "interp_refiner.data.text.declared_text_encoder", **text.describe()}


def component_nodes(run: Run) -> dict[str, Any]:
    """The run's config as nodes that need no data set: what the program supplied in training stands in them."""
    names = ("backbone", "objective", "sampler", "corruption", "codec")
    nodes: dict[str, Any] = {name: OmegaConf.to_container(run.config[name], resolve=True) for name in names}
    metadata, codec = run.data.metadata, run.data.codec
    nodes["backbone"] |= {
        "latent_channels": metadata.latent_shape[0],
        "text_dim": metadata.text_shape[1] if metadata.text_shape else 1,
    }
    num_levels = run.refiner.corruption.num_levels(metadata.num_frames)
    nodes["objective"] |= objective_sizes(run.config.objective, num_levels, metadata)
    # a storyboard says what is known and given; of the schedule only the counts of its levels are left
    counts = run.refiner.corruption.schedule.counts_for(metadata.num_frames)[1:]
    nodes["corruption"] |= {
        "schedule": {"_target_": "interp_refiner.forward.schedule.Uniform", "counts": counts},
        "given": None,
    }
    statistics = {"latents_mean": codec.latents_mean.tolist(), "latents_std": codec.latents_std.tolist()}
    if nodes["codec"].pop("_partial_", False):
        nodes["codec"] |= {"name": codec.name, "latent_channels": metadata.latent_shape[0]}
    if not hasattr(codec, "vae"):
        nodes["codec"] |= statistics
    return nodes


def provenance(run: Run) -> dict[str, Any]:
    """Where the weights came from."""
    metadata = run_metadata()
    return {
        "experiment": run.config.experiment_name,
        "checkpoint": str(run.checkpoint.name) if run.checkpoint else None,
        "trained on": run.data.metadata.made_by.get("generator") or Path(run.data.root).name,
        "parameters": f"{sum(weight.numel() for weight in run.refiner.backbone.parameters()):,}",
        "versions": ", ".join(f"{name} {version}" for name, version in metadata["versions"].items()),
    }


if __name__ == "__main__":
    export()
