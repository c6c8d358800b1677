"""From a config to objects, in the order in which it happens; and from a run's folder back to them."""

from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from hydra.utils import get_class
from lightning.pytorch import seed_everything
from omegaconf import DictConfig, OmegaConf

from interp_refiner import core
from interp_refiner.config import build
from interp_refiner.config.nodes import dotted
from interp_refiner.config.refusal import locate
from interp_refiner.core import BadValue, ClipSpec, state_faults
from interp_refiner.data import AnchorSource, ShardedDataModule
from interp_refiner.data.codec import Codec, declared_codec
from interp_refiner.data.medium import Video
from interp_refiner.data.text import TextEncoder
from interp_refiner.evaluation import Run
from interp_refiner.forward.corruption import Corruption
from interp_refiner.storyboard import (
    Phase1,
    RefinerPipeline,
    as_pipeline,
    load_generator,
    naming,
    phase1_of,
    run_of,
)
from interp_refiner.training import (
    FAKE,
    BackboneModule,
    Distill,
    KeyframeGenerator,
    Refiner,
    RenoisedKeyframes,
    check_method,
)
from interp_refiner.training.checkpoint import CONFIG_FILE, SHIPPED, find_checkpoint, is_exported, located, read_weights

DISTILLED = "consistency | distribution_matching | rcm"
OLDER = "interp_refiner.data.ShardedDataModule"  # what runs of older versions call their data


def assemble(cfg: DictConfig, device: str = "cpu", trains: bool = True) -> Run:
    """Builds data, codec, forward process and what is trained from a checked config.

    Args:
        cfg: the config.
        device: where a backbone's first weights are drawn. A GPU draws a large one's in a moment, but other numbers.
        trains: False where the module is only used: a distilled refiner is one like any other then.

    Raises:
        BadValue: with the config path of what cannot be.
    """
    seed_everything(cfg.seed, verbose=False)
    clips = build(cfg.data).open()
    spec = clips.spec
    codec = build(cfg.codec, spec=spec)
    medium = build(cfg.medium, spec=spec, codec=codec)
    corruption = forward_process(cfg.corruption, codec)
    data = ShardedDataModule(clips, corruption, codec, medium)
    trained = get_class(cfg.training._target_)
    if issubclass(trained, Refiner):
        module: L.LightningModule = refiner(cfg, spec, corruption, device, trains)
    elif issubclass(trained, KeyframeGenerator):
        module = generator(cfg, spec, corruption, device)
    else:
        module = part(cfg.training, spec, corruption, codec)
    return Run(cfg, module, codec, spec, data)


def forward_process(cfg: DictConfig, codec: Codec, **others: Any) -> Corruption:
    """The corruption of a config, for the clips of a codec; ``others`` replace what the config says."""
    interpolator = build(cfg.interpolator).with_codec(codec)
    return build(cfg, interpolator=interpolator, **others)


def refiner(
    cfg: DictConfig, spec: ClipSpec, corruption: Corruption, device: str = "cpu", trains: bool = True
) -> Refiner:
    """What ``training=refiner`` and ``training=distill`` train. The backbone comes last: it is the slowest, and all
    else may be refused."""
    optimizer, sampler = build(cfg.optimizer), build(cfg.sampler)
    objective = build(cfg.objective, spec=spec, num_levels=corruption.num_levels(spec.num_frames))
    check_method(corruption, objective, sampler)
    distilled = issubclass(get_class(cfg.training._target_), Distill)
    if objective.distilled and not distilled:
        raise BadValue("training", "refiner", f"distill with objective={type(objective).__name__}")
    if distilled and not objective.distilled:
        raise BadValue("objective", type(objective).__name__, f"{DISTILLED} with training=distill")
    taught = {"teacher": teacher(cfg, spec)} if distilled and trains else {}
    with torch.device(device):
        backbone = build(
            cfg.backbone,
            spec=spec,
            num_hypotheses=(offered := corruption.interpolator.num_hypotheses),
            out_channels=objective.out_channels(spec.channels, offered),
            attention=build(cfg.attention),
        )
    backbone.check(spec.latent_shape)
    parts = {"optimizer": optimizer, "sampler": sampler, "corruption": corruption}
    if taught:
        return build(cfg.training, backbone=backbone, objective=objective, **parts, **taught)
    if distilled:
        return Refiner(backbone, objective, **parts, saves_frozen=True)
    keeps = cfg.get("initial_weights") is not None
    return build(cfg.training, backbone=backbone, objective=objective, saves_frozen=keeps, **parts)


def teacher(cfg: DictConfig, spec: ClipSpec) -> Refiner:
    """The bridge that ``training=distill`` learns from, of the same clips.

    Raises:
        BadValue: none is named, or as :func:`load_run`.
    """
    path = cfg.training.teacher
    if path is None:
        raise BadValue("training.teacher", None, f"a run folder, an exported folder, or {SHIPPED}", [SHIPPED])
    with naming("training.teacher", "checkpoint"):
        clips = {"data": OmegaConf.create(plain(cfg.data))}
        run = load_run(path, overrides={} if is_exported(located(path)) else clips)
        if run.spec.latent_shape != spec.latent_shape:
            shape = list(run.spec.latent_shape)
            raise BadValue("checkpoint", path, f"a refiner of clips {list(spec.latent_shape)}, not {shape}")
        return run.refiner


def generator(cfg: DictConfig, spec: ClipSpec, corruption: Corruption, device: str = "cpu") -> KeyframeGenerator:
    """What ``training=keyframe_generator`` trains: a backbone that is shown no interpolation."""
    optimizer, flow = build(cfg.optimizer), build(cfg.training.flow, spec=spec)
    with torch.device(device):
        backbone = build(cfg.backbone, spec=spec, num_hypotheses=0, attention=build(cfg.attention))
    backbone.check(spec.latent_shape)
    keeps = cfg.get("initial_weights") is not None
    parts = {"flow": flow, "optimizer": optimizer, "corruption": corruption}
    return build(cfg.training, backbone=backbone, saves_frozen=keeps, **parts)


def part(cfg: DictConfig, spec: ClipSpec, corruption: Corruption, codec: Codec) -> L.LightningModule:
    """What any other training trains: a part of the forward process."""
    own = {"interpolator": build(cfg.interpolator).with_codec(codec)} if "interpolator" in cfg else {}
    return build(cfg, spec=spec, corruption=corruption, **own)


def load_run(path: str | Path, *, ema: bool = True, overrides: dict[str, Any] | None = None) -> Run:
    """Loads what was trained, with the config it was trained under.

        run = interp_refiner.load_run("logs/train/runs/2026-01-31_12-00-00")
        run.config.corruption.sigma, run.refiner, run.codec, run.data.val_dataloader(), run.evaluation

    Args:
        path: a run folder, a checkpoint inside one (a file, or the folder of a sharded one), a folder that
            ``interp_refiner.export`` wrote, or ``"shipped"``.
        ema: the averaged weights, which validation used; False for the raw ones. An exported folder has one kind.
        overrides: config values to replace, by dotted key, for example ``{"sampler": node, "data.batch_size": 2}``;
            ``data.root``, ``backbone.pretrained`` or ``interpolator.checkpoint`` where those have been moved. Of an
            exported folder the ``data`` to judge it on, and its ``sampler``.

    Returns:
        The run, its module in evaluation mode on the CPU, its adapters (LoRA) merged.

    Raises:
        BadValue: nothing of that kind there; a run of an older version; or a value of its config that is not right any
            more, with its key.
    """
    place = located(path)
    if is_exported(place):
        return exported_run(place.resolve(), overrides or {})
    folder, file = find_checkpoint(place)
    config = cast(DictConfig, OmegaConf.load(folder / CONFIG_FILE))
    if OmegaConf.select(config, "data._target_") in (None, OLDER):
        raise BadValue("checkpoint", path, "a run of this version: an older one wrote it, train it again")
    for key in sorted(overrides or {}, key=lambda key: key.count(".")):  # a whole node before values inside it
        OmegaConf.update(config, key, (overrides or {})[key], merge=False)
    try:
        run = assemble(config, trains=False)
    except BadValue as error:
        found = locate(error, config)
        assert isinstance(found, BadValue)
        allowed = f"{found.allowed}; it is from {folder / CONFIG_FILE}, override {found.name}"
        raise BadValue(found.name, found.value, allowed, found.options) from error
    weights = {name: value for name, value in read_weights(file, run.module, ema).items() if not name.startswith(FAKE)}
    if faults := state_faults(run.module.state_dict(), weights):
        raise BadValue("checkpoint", file, f"the weights of the run that {folder / CONFIG_FILE} describes: {faults}")
    run.module.load_state_dict(weights)
    if isinstance(run.module, BackboneModule) and run.module.backbone.merge_adapters():
        del run.config.backbone.lora  # the run is that of a model without any now
    run.module.eval()
    run.folder, run.checkpoint = folder, file
    return run


def exported_run(folder: Path, overrides: dict[str, Any]) -> Run:
    """An exported pipeline as a run: with another sampler, and on clips, where the overrides name them."""
    node = overrides.get("data") and OmegaConf.create(OmegaConf.to_container(overrides["data"], resolve=True))
    for key, value in overrides.items():
        if node is not None and key.startswith("data."):
            OmegaConf.update(node, key.removeprefix("data."), value)
        elif key not in ("data", "sampler", "medium"):
            raise BadValue(key, value, f"no override: {folder} is an exported folder, which is used as it is")
    chosen = {"sampler": overrides["sampler"]} if "sampler" in overrides else {}
    pipe = load_pipeline(folder, OmegaConf.create(chosen))
    if node is None:
        return run_of(pipe, folder)
    clips = build(cast(DictConfig, node)).open()
    if clips.spec.latent_shape != pipe.config.spec.latent_shape:
        raise BadValue("data", list(clips.spec.latent_shape), f"clips {list(pipe.config.spec.latent_shape)}")
    codec = declared_codec(clips.spec)
    run = run_of(pipe.with_component("codec", codec, pipe.config.components["codec"]), folder)
    run.spec, run.loader = clips.spec, ShardedDataModule(clips, run.refiner.corruption, codec, Video(codec, clips.spec))
    return run


def load_text_encoder(run: Run) -> TextEncoder:
    """The encoder for prompts of this run's own kind: ``encoder.encode(["a cat"])`` is a ``Clip``'s ``text``.

    It is built when it is asked for, since training reads embeddings and Wan's umT5 is 11 GB. A run is told where the
    weights are by ``load_run(path, overrides={"text": node})``.

    Raises:
        BadValue: the data set has no prompts, its encoder needs a folder, or the embeddings would be of another kind.
    """
    if run.spec.text_shape is None:
        raise BadValue("text", "declared", "no prompt: the data set has no prompt embeddings")
    return build(run.config.text, spec=run.spec)


def load_pipeline(path: str | Path, chosen: DictConfig | None = None, *, ema: bool = True) -> RefinerPipeline:
    """The pipeline of a run folder, a checkpoint file or an exported folder.

    Args:
        path: one of them.
        chosen: its nodes ``sampler``, ``codec`` and ``text`` take the place of the model's own, and what
            :func:`with_keyframes` reads that of its source of keyframes; None leaves them.
        ema: the averaged weights of a checkpoint.

    Raises:
        BadValue: there is none of them, the run did not train a refiner of videos, or a component does not fit.
    """
    pipeline = load_exportable(path, chosen, ema=ema)
    if isinstance(pipeline, Phase1):
        raise BadValue("checkpoint", path, "a refiner, this is a generator of keyframes: keyframes=<it>")
    return pipeline


def load_exportable(
    path: str | Path, chosen: DictConfig | None = None, *, ema: bool = True
) -> RefinerPipeline | Phase1:
    """As :func:`load_pipeline`, or a run's generator of keyframes."""
    nodes = {name: chosen[name] for name in ("sampler", "codec", "text") if chosen and chosen.get(name) is not None}
    if not is_exported(located(path)):
        run = load_run(path, ema=ema, overrides=nodes)
        if isinstance(run.module, KeyframeGenerator):
            return phase1_of(run)
        return with_keyframes(as_pipeline(run, text_or_none(run)), chosen, ema)
    pipeline = RefinerPipeline.from_pretrained(path)
    for name, node in nodes.items():
        made = build(node) if name == "sampler" else build(node, spec=pipeline.config.spec)
        pipeline = pipeline.with_component(name, made, plain(node))
    return with_keyframes(pipeline, chosen, ema)


def with_keyframes(pipeline: RefinerPipeline, chosen: DictConfig | None, ema: bool = True) -> RefinerPipeline:
    """A pipeline with the source of keyframes that a config chooses.

    Args:
        pipeline: of a refiner; it may come with a generator of its own.
        chosen: ``keyframes`` names a trained generator, ``keyframe_sampler`` is its sampler, ``keyframe_source`` is
            another source in its place.
        ema: the averaged weights of a generator's checkpoint.

    Raises:
        BadValue: two sources, none where one is named, or one of other clips than the refiner's.
    """
    names = ("keyframes", "keyframe_source", "keyframe_sampler")
    path, node, sampler = (chosen.get(name) if chosen is not None else None for name in names)
    if node is not None:
        if path is not None:
            raise BadValue("keyframes", path, "null beside keyframe_source, which makes keyframes in its place")
        source = build(node, spec=pipeline.config.spec)
        return pipeline.with_keyframes(Phase1(source, source.spec or pipeline.config.spec))
    phase1 = pipeline.phase1 if path is None else load_phase1(path, ema=ema)
    if phase1 is None:
        return pipeline
    return pipeline.with_keyframes(phase1 if sampler is None else phase1.with_sampler(build(sampler), plain(sampler)))


def load_phase1(path: str | Path, *, ema: bool = True) -> Phase1:
    """The generator of keyframes of a run, of an exported folder, or ``shipped``; raises as :func:`load_run`."""
    place = located(path, "keyframes")
    if is_exported(place):
        return load_generator(place.resolve())
    with naming("keyframes", "checkpoint"):
        run = load_run(path, ema=ema)
    return phase1_of(run)


def plain(node: DictConfig) -> dict[str, Any]:
    """A node's own values."""
    return cast(dict, OmegaConf.to_container(node, resolve=True))


def text_or_none(run: Run) -> TextEncoder | None:
    """The encoder of the run's prompts; None without prompts, or where it needs weights and nobody chose it."""
    if run.spec.text_shape is None:
        return None
    try:
        return load_text_encoder(run)
    except BadValue as error:
        if error.value == "declared":
            return None
        raise


def anchor_source(cfg: DictConfig) -> AnchorSource:
    """What makes the anchors of ``prepare anchors``: an imperfect source, or a generator of keyframes.

    Raises:
        BadValue: a generator without a checkpoint, or a checkpoint without a generator.
    """
    node = cfg.get("anchor_source") or cfg.data.anchors.source
    if (generates := issubclass(get_class(node._target_), RenoisedKeyframes)) != (cfg.checkpoint is not None):
        allowed = "a run folder of +experiment=keyframes" if generates else "null, or anchor_source=generator"
        raise BadValue("checkpoint", cfg.checkpoint, allowed)
    if not generates:
        return build(node)
    return build(node, generator=load_run(cfg.checkpoint).generator.to(core.device(cfg.device)))


def inference_overrides(cfg: DictConfig) -> dict[str, Any]:
    """What the config of a program that uses a run asks to differ from the run's own, for :func:`load_run`."""
    data = cfg.get("data")
    chosen = {
        # its references are to this config: the run's own may be of another cache, or of a machine that is gone
        "data": data and OmegaConf.create(OmegaConf.to_container(data, resolve=True)),
        "sampler": cfg.get("sampler"),
        "codec": cfg.get("codec"),
        "medium": cfg.get("medium"),
        "corruption.scheduled_sampling": cfg.get("scheduled_sampling"),
        "data.anchors.root": cfg.get("anchors"),
        "data.val_split": cfg.get("split"),
    }
    return {key: value for key, value in chosen.items() if value is not None} | dotted(cfg.get("overrides"))
