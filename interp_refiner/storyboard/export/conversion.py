"""Converts a run into a pipeline, which needs no data set, and back."""

import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from torch import nn

from interp_refiner.config import build, run_metadata
from interp_refiner.core import BadValue, ClipSpec, on_hub
from interp_refiner.data import ShardedDataModule
from interp_refiner.data.codec import declared_codec
from interp_refiner.data.medium import Video
from interp_refiner.data.text import TextEncoder
from interp_refiner.evaluation import Run
from interp_refiner.model.attention import portable
from interp_refiner.storyboard.conditioning.phase1 import Phase1
from interp_refiner.storyboard.pipeline.chosen import plain, with_components
from interp_refiner.storyboard.pipeline.pipeline import RefinerPipeline
from interp_refiner.storyboard.saved.card import figures
from interp_refiner.storyboard.saved.components import Components, PipelineConfig
from interp_refiner.training import Refiner
from interp_refiner.training.optimizer import AdamW
from interp_refiner.training.perceptual import PERCEPTUAL

FACTORS = ("name", "temporal_factor", "spatial_factor", "first_frame_alone")


def as_pipeline(run: Run, text: TextEncoder | None = None) -> RefinerPipeline:
    """A pipeline around a run's own networks.

    Args:
        run: the run of a video refiner.
        text: encodes prompts; None if the pipeline takes only embeddings.

    Raises:
        BadValue: the run's clips are not videos.
    """
    refiner, clips = run.refiner, list(run.spec.latent_shape)
    if len(clips) != 4:
        allowed = f"a run on videos, because storyboards describe videos; this one has clips {clips}"
        raise BadValue("checkpoint", run.checkpoint, allowed)
    parts = Components(
        backbone=refiner.backbone,
        objective=refiner.objective,
        sampler=refiner.sampler,
        corruption=refiner.corruption,
        codec=run.codec,
        text=text,
    )
    nodes = component_nodes(run) | {"text": text and OmegaConf.to_container(run.config.text, resolve=True)}
    counts = refiner.corruption.schedule.counts_for(run.spec.num_frames)[1:]
    evaluation = figures(run.evaluation, counts) if run.evaluation is not None else None
    return RefinerPipeline(parts, PipelineConfig(spec_of(run), nodes, provenance(run, refiner.backbone), evaluation))


def phase1_of(run: Run) -> Phase1:
    """A run's keyframe generator.

    Raises:
        BadValue: the run trained something else.
    """
    module = run.generator
    nodes = {name: OmegaConf.to_container(run.config.training[name], resolve=True) for name in ("flow", "sampler")}
    nodes["network"] = network_node(run)
    count = min(module.corruption.schedule.counts_for(run.spec.num_frames))
    return Phase1(module.source(), spec_of(run), count, nodes, provenance(run, module.backbone))


def spec_of(run: Run) -> ClipSpec:
    """The spec of the clips, with the run's own codec."""
    codec = run.codec
    if codec.caveat:
        return run.spec
    factors = {name: value for name, value in codec.describe().items() if name in FACTORS}
    mean, std = codec.latents_mean.tolist(), codec.latents_std.tolist()
    return replace(run.spec, latents_mean=mean, latents_std=std, codec=factors)


def component_nodes(run: Run) -> dict[str, Any]:
    """The run's config as one node per component; only the clips' :class:`ClipSpec` has to be added."""
    names = ("objective", "sampler", "corruption", "codec")
    nodes: dict[str, Any] = {name: OmegaConf.to_container(run.config[name], resolve=True) for name in names}
    nodes["backbone"] = network_node(run)
    # a storyboard determines known and given frames; only the level counts of the schedule are kept
    counts = run.refiner.corruption.schedule.counts_for(run.spec.num_frames)[1:]
    nodes["corruption"]["schedule"] = {"_target_": "interp_refiner.forward.schedule.Uniform", "counts": counts}
    nodes["corruption"]["drawn"]["given"] = None
    return nodes


def network_node(run: Run) -> dict[str, Any]:
    """The backbone with its attention; compilation and kernels are up to the machine that uses it."""
    node, attention = (plain(run.config[name]) for name in ("backbone", "attention"))
    attention |= portable(attention)
    if "compile" in node.get("blocks", {}):
        node["blocks"]["compile"] = False
    return {**node, "attention": attention}


def provenance(run: Run, network: nn.Module) -> dict[str, Any]:
    """The origin of the weights."""
    metadata, judged = run_metadata(), OmegaConf.select(run.config, "training.perceptual.network._target_")
    return {
        "experiment": run.config.experiment_name,
        "checkpoint": str(run.checkpoint.name) if run.checkpoint else None,
        "distilled from": OmegaConf.select(run.config, "training.teacher"),
        PERCEPTUAL: judged.rpartition(".")[2] if judged else None,
        "trained on": run.spec.made_by.get("generator") or Path(run.data.source.root).name,
        "base_model": on_hub(run.config.backbone.get("pretrained")),
        "parameters": f"{sum(weight.numel() for weight in network.parameters()):,}",
        "versions": ", ".join(f"{name} {version}" for name, version in metadata["versions"].items()),
    }


def run_of(pipe: RefinerPipeline, folder: Path) -> Run:
    """An exported pipeline as a run without data, with a config like that of a run."""
    trained = {name: weight.clone() for name, weight in pipe.backbone.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the warning about a zeroed head does not apply: trained weights follow
        module = Refiner(pipe.backbone, pipe.objective, AdamW(), pipe.sampler, pipe.corruption)
    module.backbone.load_state_dict(trained)
    stored = asdict(pipe.config)
    nodes = stored["components"]
    own = {"interpolator": nodes["corruption"]["interpolator"], "experiment_name": stored["trained"].get("experiment")}
    config = OmegaConf.create(nodes | own | stored)
    return Run(config, module.eval(), pipe.codec, pipe.config.spec, folder=folder, checkpoint=folder)


def exported_run(folder: Path, overrides: dict[str, Any]) -> Run:
    """An exported pipeline as a run; the overrides may name another sampler and a data set."""
    node = overrides.get("data")
    if node is not None:
        if not isinstance(node, DictConfig):
            raise BadValue("data", node, "a config node: the data of a composed config")
        node = OmegaConf.create(OmegaConf.to_container(node, resolve=True))
    for key, value in overrides.items():
        if node is not None and key.startswith("data."):
            OmegaConf.update(node, key.removeprefix("data."), value)
        elif key not in ("data", "sampler", "medium"):
            allowed = f"no such override: {folder} is an exported folder; only its data, sampler and medium can be set"
            raise BadValue(key, value, allowed)
    chosen = {"sampler": overrides["sampler"]} if "sampler" in overrides else {}
    pipe = with_components(RefinerPipeline.from_pretrained(folder), chosen)
    if node is None:
        return run_of(pipe, folder)
    source, shape = build(cast(DictConfig, node)), pipe.config.spec.latent_shape
    check_shape(source.written_shape or shape, shape)  # before clips are written
    clips = source.open()
    check_shape(clips.spec.latent_shape, shape)
    codec = declared_codec(clips.spec)
    run = run_of(pipe.with_component("codec", codec, pipe.config.components["codec"]), folder)
    run.spec, run.loader = clips.spec, ShardedDataModule(clips, run.refiner.corruption, codec, Video(codec, clips.spec))
    return run


def check_shape(found: Sequence[int], wanted: Sequence[int]) -> None:
    """Raises :class:`BadValue` for data of other clips than a model's."""
    if tuple(found) != tuple(wanted):
        raise BadValue("data", list(found), f"clips {list(wanted)}")
