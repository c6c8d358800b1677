"""Replaces components of a pipeline by those that a config chooses."""

from collections.abc import Callable, Mapping
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from interp_refiner.config import build, option_name
from interp_refiner.core import BadValue
from interp_refiner.model.keyframes import OwnSampler, no_sampler
from interp_refiner.storyboard.conditioning.phase1 import Phase1
from interp_refiner.storyboard.pipeline.pipeline import RefinerPipeline

COMPONENTS = ("sampler", "codec", "text")
NO_GENERATOR = "no generator makes keyframes (keyframes=<generator>)"


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
    """A pipeline with the keyframe source that a config chooses.

    Args:
        pipeline: a refiner's pipeline; it may have its own generator.
        chosen: ``keyframes`` names a trained generator, ``keyframe_sampler`` is its sampler, ``keyframe_choice``
            chooses among its samples, ``keyframe_source`` is another source to use instead.
        load: loads a generator from its path.

    Raises:
        BadValue: two sources, a path without a generator, a choice or a sampler without a source, a sampler for a
            source with a scheduler of its own, or a source whose clips differ from the refiner's.
    """
    path, node = (chosen.get(name) if chosen is not None else None for name in ("keyframes", "keyframe_source"))
    if node is not None:
        if path is not None:
            raise BadValue("keyframes", path, "null, because keyframe_source makes the keyframes")
        source = build(node, spec=pipeline.config.spec)
        other = Phase1(source, source.spec or pipeline.config.spec)
        return pipeline.with_keyframes(with_samples(other, chosen))
    phase1 = pipeline.phase1 if path is None else load(path)
    if phase1 is not None:
        return pipeline.with_keyframes(with_samples(phase1, chosen))
    choice, sampler = (chosen.get(f"keyframe_{name}") if chosen is not None else None for name in ("choice", "sampler"))
    if choice is not None:
        raise BadValue("keyframe_choice", option_name("keyframe_choice", choice), f"null, because {NO_GENERATOR}")
    if sampler is not None and not keeps_own(made := build(sampler)):
        raise no_sampler(made, NO_GENERATOR)
    return pipeline


def keeps_own(made: object) -> bool:
    """Whether a keyframe sampler leaves the generator's own as it is."""
    return isinstance(made, OwnSampler) and not made.replaced


def with_samples(phase1: Phase1, chosen: DictConfig | None) -> Phase1:
    """A generator with the sampler, and the choice among samples, that a config chooses."""
    if chosen is None or (node := chosen.get("keyframe_sampler")) is None:
        return with_choice(phase1, chosen)
    made = build(node)
    if keeps_own(made):
        return with_choice(phase1, chosen)
    if isinstance(made, OwnSampler):
        if (own := phase1.components.get("sampler")) is None:
            raise no_sampler(made)
        node = OmegaConf.create({"keyframe_sampler": {**own, **made.replaced}}).keyframe_sampler
        made = build(node)
    return with_choice(phase1.with_sampler(made, plain(node)), chosen)


def with_choice(phase1: Phase1, chosen: DictConfig | None) -> Phase1:
    """A keyframe source with the choice among its samples that a config chooses."""
    node = chosen.get("keyframe_choice") if chosen is not None else None
    return phase1 if node is None else phase1.with_choice(build(node), plain(node))


def plain(node: DictConfig) -> dict[str, Any]:
    """A node's own values."""
    return cast(dict, OmegaConf.to_container(node, resolve=True))
