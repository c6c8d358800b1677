"""Replaces components of a pipeline by those that a config chooses."""

from collections.abc import Callable, Mapping
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from interp_refiner.config import build
from interp_refiner.core import BadValue
from interp_refiner.storyboard.phase1 import Phase1
from interp_refiner.storyboard.pipeline import RefinerPipeline

COMPONENTS = ("sampler", "codec", "text")


def chosen_nodes(chosen: Mapping[str, Any] | DictConfig | None) -> dict[str, DictConfig]:
    """The nodes of sampler, codec and text encoder that a config names."""
    return {name: chosen[name] for name in COMPONENTS if chosen and chosen.get(name) is not None}


def with_components(pipeline: RefinerPipeline, chosen: Mapping[str, Any] | DictConfig | None) -> RefinerPipeline:
    """A pipeline with the sampler, codec and text encoder that a config chooses."""
    for name, node in chosen_nodes(chosen).items():
        made = build(node) if name == "sampler" else build(node, spec=pipeline.config.spec)
        pipeline = pipeline.with_component(name, made, plain(node))
    return pipeline


def with_keyframes(
    pipeline: RefinerPipeline, chosen: DictConfig | None, load: Callable[[str], Phase1]
) -> RefinerPipeline:
    """A pipeline with the source of keyframes that a config chooses.

    Args:
        pipeline: a refiner's pipeline; it may have its own generator.
        chosen: ``keyframes`` names a trained generator, ``keyframe_sampler`` is its sampler, ``keyframe_source`` is
            another source to use instead.
        load: loads a generator from its path.

    Raises:
        BadValue: two sources, a path without a generator, or a source whose clips differ from the refiner's.
    """
    names = ("keyframes", "keyframe_source", "keyframe_sampler")
    path, node, sampler = (chosen.get(name) if chosen is not None else None for name in names)
    if node is not None:
        if path is not None:
            raise BadValue("keyframes", path, "null, because keyframe_source makes the keyframes")
        source = build(node, spec=pipeline.config.spec)
        return pipeline.with_keyframes(Phase1(source, source.spec or pipeline.config.spec))
    phase1 = pipeline.phase1 if path is None else load(path)
    if phase1 is None:
        return pipeline
    return pipeline.with_keyframes(phase1 if sampler is None else phase1.with_sampler(build(sampler), plain(sampler)))


def plain(node: DictConfig) -> dict[str, Any]:
    """A node's own values."""
    return cast(dict, OmegaConf.to_container(node, resolve=True))
