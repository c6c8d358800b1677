"""Builds all objects from a config, in the order of the data flow, and loads them from a run's folder."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from hydra.utils import get_class
from lightning.pytorch import seed_everything
from omegaconf import DictConfig, OmegaConf

from interp_refiner.config import build
from interp_refiner.config.check import check_parts
from interp_refiner.core import BadValue, ClipSpec
from interp_refiner.data import ShardedDataModule
from interp_refiner.data.codec import Codec
from interp_refiner.evaluation import Run
from interp_refiner.evaluation.run.run import text_or_none
from interp_refiner.forward.corruption import Corruption
from interp_refiner.model.attention import portable
from interp_refiner.model.backbone import Backbone, Interface
from interp_refiner.model.keyframes import GeneratedKeyframes
from interp_refiner.storyboard import Phase1, RefinerPipeline, as_pipeline, load_generator, naming, phase1_of
from interp_refiner.storyboard.export.conversion import exported_run
from interp_refiner.storyboard.pipeline.chosen import chosen_nodes, plain, with_components, with_keyframes, with_samples
from interp_refiner.training import (
    BackboneModule,
    Distill,
    KeyframeGenerator,
    Refiner,
    check_distilled,
    check_method,
)
from interp_refiner.training.checkpoint import (
    NETWORK,
    SHIPPED,
    blaming,
    find_checkpoint,
    is_exported,
    load_weights,
    located,
    read_config,
    size_options,
    start_from,
    take_weights,
    with_stored_adapters,
)
from interp_refiner.training.weight_memory import beside_student, check_weight_memory


def assemble(cfg: DictConfig, device: str = "cpu", trains: bool = True) -> Run:
    """Builds data, codec, forward process and the module to train from a checked config.

    Args:
        cfg: the config.
        device: device on which a backbone's initial weights are drawn. A GPU is much faster, but draws other numbers.
        trains: False if the module is only used; a distilled refiner is then an ordinary refiner, without its teacher.

    Raises:
        BadValue: a wrong value, with its config path.
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
        module: L.LightningModule = refiner(cfg, spec, corruption, codec, device, trains)
    elif issubclass(trained, KeyframeGenerator):
        module = generator(cfg, spec, corruption, device)
    else:
        module = part(cfg.training, spec, corruption, codec)
    return Run(cfg, module, codec, spec, data)


def forward_process(cfg: DictConfig, codec: Codec, **others: Any) -> Corruption:
    """Builds the corruption of a config for the clips of a codec; ``others`` replace parts of the config."""
    return build(cfg, **others).with_codec(codec)


def refiner(
    cfg: DictConfig, spec: ClipSpec, corruption: Corruption, codec: Codec, device: str = "cpu", trains: bool = True
) -> Refiner:
    """Builds the module of ``training=refiner`` or ``training=distill``.

    The backbone is built last, because it takes longest and the checks of the other parts may fail.
    """
    optimizer, sampler = build(cfg.optimizer), build(cfg.sampler)
    objective = build(cfg.objective, spec=spec, num_levels=corruption.num_levels(spec.num_frames))
    check_method(corruption, objective, sampler)
    distilled = issubclass(get_class(cfg.training._target_), Distill)
    check_distilled(objective, distilled)
    interface = objective.interface(spec, corruption.interpolator.num_hypotheses)
    node = cfg.training.get("perceptual") if trains else None
    perceptual = None if node is None else build(node, spec=spec, codec=codec)
    taught = {}
    if distilled and trains:
        check_memory(cfg, interface, device, beside=beside_student(objective))
        taught["teacher"] = teacher(cfg, spec)
    backbone = network(cfg, interface, device)
    parts = {"optimizer": optimizer, "sampler": sampler, "corruption": corruption}
    if taught:
        return build(cfg.training, backbone=backbone, objective=objective, **parts, **taught)
    if distilled:
        return Refiner(backbone, objective, **parts, saves_frozen=True)
    others = {"saves_frozen": cfg.get("initial_weights") is not None, "perceptual": perceptual}
    return build(cfg.training, backbone=backbone, objective=objective, **parts, **others)


def teacher(cfg: DictConfig, spec: ClipSpec) -> Refiner:
    """Loads the bridge that ``training=distill`` learns from.

    Raises:
        BadValue: as :func:`located_teacher` and :func:`load_run`, or a teacher that was trained with a perceptual loss
            or on clips of another shape.
    """
    path, place = cfg.training.teacher, located_teacher(cfg)
    with naming("training.teacher", "checkpoint"):
        clips = {"data": OmegaConf.create(plain(cfg.data))}
        run = load_run(path, overrides={} if is_exported(place) else clips)
        if run.perceptual:
            raise BadValue("checkpoint", path, "one trained without training/perceptual: the bridge needs means")
        if run.spec.latent_shape != spec.latent_shape:
            shape = list(run.spec.latent_shape)
            raise BadValue("checkpoint", path, f"a refiner of clips {list(spec.latent_shape)}, not {shape}")
        return run.refiner


def located_teacher(cfg: DictConfig) -> Path:
    """The path of a student's teacher.

    Raises:
        BadValue: no teacher is named, there is none, or its network has another size than the student's.
    """
    path = cfg.training.teacher
    if path is None:
        raise BadValue("training.teacher", None, f"a run folder, an exported folder, or {SHIPPED}", [SHIPPED])
    with naming("training.teacher", "checkpoint"):
        place = located(path)
    with naming("training.teacher", "initial_weights"):
        fitting = size_options(cfg.backbone, place)
    if fitting:
        raise BadValue("training.teacher", path, f"a teacher with this backbone; for this teacher set {fitting}")
    return place


def generator(cfg: DictConfig, spec: ClipSpec, corruption: Corruption, device: str = "cpu") -> KeyframeGenerator:
    """Builds the module of ``training=keyframe_generator``; its backbone has no interpolation as input."""
    optimizer, flow = build(cfg.optimizer), build(cfg.training.flow, spec=spec)
    backbone = network(cfg, Interface(spec, num_hypotheses=0), device)
    saves_frozen = cfg.get("initial_weights") is not None
    parts = {"flow": flow, "optimizer": optimizer, "corruption": corruption}
    return build(cfg.training, backbone=backbone, saves_frozen=saves_frozen, **parts)


def network(cfg: DictConfig, interface: Interface, device: str = "cpu") -> Backbone:
    """Builds the backbone of a config and draws its initial weights on a device.

    Raises:
        BadValue: as :func:`check_memory`, or a size of clips that the backbone does not support.
    """
    check_parts(cfg, NETWORK)
    check_memory(cfg, interface, device)
    backbone = drawn(cfg, interface, device)
    for shape in interface.spec.latent_shapes:
        backbone.check(shape)
    return backbone


def drawn(cfg: DictConfig, interface: Interface, device: str) -> Backbone:
    """The backbone of a config; on the device ``meta`` it has no values and needs no memory."""
    with torch.device(device):
        return build(cfg.backbone, interface=interface, attention=build(cfg.attention))


def check_memory(cfg: DictConfig, interface: Interface, device: str, beside: Sequence[str] = ()) -> None:
    """:func:`check_weight_memory` of a config's network; skipped for pretrained weights and on a GPU."""
    if device == "cpu" and cfg.backbone.get("pretrained") is None:
        check_weight_memory(drawn(cfg, interface, "meta"), beside)


def part(cfg: DictConfig, spec: ClipSpec, corruption: Corruption, codec: Codec) -> L.LightningModule:
    """Builds the module of any other training, which trains a part of the forward process."""
    own = {"interpolator": build(cfg.interpolator).with_codec(codec)} if "interpolator" in cfg else {}
    return build(cfg, spec=spec, corruption=corruption, **own)


def load_run(path: str | Path, *, ema: bool = True, overrides: dict[str, Any] | None = None) -> Run:
    """Loads a trained model with its config.

        run = interp_refiner.load_run("logs/train/runs/2026-01-31_12-00-00")
        run.config.corruption.sigma, run.refiner, run.codec, run.data.val_dataloader(), run.evaluation

    Args:
        path: a run folder, a checkpoint inside one (a file, or the folder of a sharded one), a folder that
            ``interp_refiner.export`` wrote, or ``"shipped"``.
        ema: whether to load the averaged weights, as validation did, or the raw ones; exported folders have one kind.
        overrides: config values to replace, by dotted key, for example ``{"sampler": node, "data.batch_size": 2}``;
            also ``data.root``, ``backbone.pretrained`` or ``interpolator.checkpoint`` if these files have moved. For an
            exported folder: the ``data`` to evaluate it on, and its ``sampler``.

    Returns:
        The run, with its module in evaluation mode on the CPU and its adapters (LoRA) merged. Kernels of attention that
        might not run here are replaced, see :func:`use_portable_kernels`.

    Raises:
        BadValue, Refused: there is no such run, an older version wrote it, or a value of its config is not valid (with
            its key).
    """
    place = located(path)
    if is_exported(place):
        return exported_run(place.resolve(), overrides or {})
    folder, file = find_checkpoint(place)
    config = with_stored_adapters(read_config(folder, overrides or {}), file)
    use_portable_kernels(config, overrides or {})
    with blaming(folder, config):
        run = assemble(config, trains=False)
    load_weights(file, run.module, ema)
    if isinstance(run.module, BackboneModule) and run.module.backbone.merge_adapters():
        del run.config.backbone.lora  # merged, so the model has no adapters now
    run.module.eval()
    run.folder, run.checkpoint = folder, file
    return run


def use_portable_kernels(config: DictConfig, overrides: Mapping[str, Any]) -> None:
    """Sets kernels of attention that do not run everywhere to ``auto``, unless the overrides choose them.

    A run may be trained in bfloat16 on a GPU but used in float32 or on a CPU, where such kernels do not run.
    """
    if "attention" not in overrides and config.get("attention") is not None:
        replaced = portable(config.attention)
        config.attention.update({name: to for name, to in replaced.items() if f"attention.{name}" not in overrides})


def located_weights(cfg: DictConfig) -> Path:
    """The path of a config's ``initial_weights``: an exported folder, or a run's checkpoint.

    ``shipped`` is the refiner in the package; with ``training=keyframe_generator``, the generator in the package.

    Raises:
        BadValue: there is no such folder or checkpoint.
    """
    kind = "keyframes" if issubclass(get_class(cfg.training._target_), KeyframeGenerator) else "checkpoint"
    with naming("initial_weights", kind):
        place = located(cfg.initial_weights, kind)
    return place.resolve() if is_exported(place) else find_checkpoint(place, "initial_weights")[1]


def start(module: L.LightningModule, cfg: DictConfig) -> None:
    """Loads the averaged weights of ``initial_weights`` into a new module; raises as :func:`take_weights`."""
    place = located_weights(cfg)
    fitting = size_options(cfg.backbone, place) if isinstance(module, BackboneModule) else ""
    if not is_exported(place):
        start_from(module, place, fitting)
        return
    if isinstance(module, KeyframeGenerator):
        with naming("initial_weights", "keyframes"):
            source = cast(GeneratedKeyframes, load_generator(place).source)
        parts = {"backbone": source.network, "flow": source.flow}
        weights = {f"{part}.{name}": value for part in parts for name, value in parts[part].state_dict().items()}
    else:
        with naming("initial_weights", "checkpoint"):
            weights = exported_run(place, {}).module.state_dict()
    take_weights(module, weights, cfg.initial_weights, fitting)


def load_pipeline(path: str | Path, chosen: DictConfig | None = None, *, ema: bool = True) -> RefinerPipeline:
    """Loads the pipeline of a trained refiner.

    Args:
        path: a run folder, a checkpoint file or an exported folder.
        chosen: a config whose nodes ``sampler``, ``codec`` and ``text`` replace the model's own, and whose nodes that
            :func:`with_keyframes` reads replace its keyframe source; None keeps the model's own.
        ema: whether to use the averaged weights of a checkpoint.

    Raises:
        BadValue: there is no model, the run did not train a refiner of videos, or a component does not fit.
    """
    pipeline = load_exportable(path, chosen, ema=ema)
    if isinstance(pipeline, Phase1):
        raise BadValue("checkpoint", path, "a refiner; this is a keyframe generator (for sample: keyframes=<it>)")
    return pipeline


def load_exportable(
    path: str | Path, chosen: DictConfig | None = None, *, ema: bool = True
) -> RefinerPipeline | Phase1:
    """Like :func:`load_pipeline`; for a run that trained a keyframe generator, the generator."""
    if is_exported(located(path)):
        if not ema:
            raise BadValue("ema", False, f"true: {path} is an exported folder, which has one kind of weights")
        pipeline = with_components(RefinerPipeline.from_pretrained(path), chosen)
    else:
        run = load_run(path, ema=ema, overrides=chosen_nodes(chosen))
        if isinstance(run.module, KeyframeGenerator):
            if chosen is not None and (other := chosen.get("keyframes")) is not None:
                raise BadValue("keyframes", other, "null, because checkpoint is a keyframe generator itself")
            return with_samples(phase1_of(run), chosen)
        pipeline = as_pipeline(run, text_or_none(run))
    return with_keyframes(pipeline, chosen, partial(load_phase1, ema=ema))


def load_phase1(path: str | Path, *, ema: bool = True) -> Phase1:
    """The keyframe generator of a run, of an exported folder, or ``shipped``; raises as :func:`load_run`."""
    place = located(path, "keyframes")
    if is_exported(place):
        return load_generator(place.resolve())
    with naming("keyframes", "checkpoint"):
        run = load_run(path, ema=ema)
    return phase1_of(run)
