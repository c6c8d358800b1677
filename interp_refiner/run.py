"""From a config to a run's objects, and from a run folder or checkpoint back to them."""

import copy
import warnings
from collections.abc import Container
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch import seed_everything
from omegaconf import DictConfig, OmegaConf

from interp_refiner.attention import Attention
from interp_refiner.backbone import Backbone
from interp_refiner.callback import CHECKPOINT_KEY
from interp_refiner.checkpoint import LAST, fault, last_whole
from interp_refiner.codec import Codec
from interp_refiner.core import BadValue
from interp_refiner.corruption import Corruption
from interp_refiner.data import DatasetMetadata, ShardedDataModule, Writer
from interp_refiner.entry import build
from interp_refiner.entry.check import locate_target, parameters
from interp_refiner.entry.nodes import walk
from interp_refiner.entry.refusal import locate
from interp_refiner.interpolator import Interpolator, use_codec
from interp_refiner.objective import Objective
from interp_refiner.sampler import Sampler
from interp_refiner.text import TextEncoder, declared_text_encoder
from interp_refiner.training import OptimizerRecipe, Refiner, check_method

CONFIG_FILE = "config.yaml"
NEEDED = ("seed", "data", "corruption", "codec", "training", "objective", "sampler", "optimizer", "backbone")
LAST_CHECKPOINT = f"checkpoints/{LAST}"


@dataclass
class Run:
    """What every program that uses a trained model holds.

    Attributes:
        config: resolved.
        data: the data module, with its metadata read and its codec.
        module: what is trained.
        checkpoint: where the weights came from; None for fresh ones.
    """

    config: DictConfig
    data: ShardedDataModule
    module: L.LightningModule
    checkpoint: Path | None = None

    @property
    def refiner(self) -> Refiner:
        """The module, of a run that trained a refiner; raises :class:`BadValue` for any other."""
        if not isinstance(self.module, Refiner):
            raise BadValue("checkpoint", self.checkpoint, f"a refiner's run, not one of {type(self.module).__name__}")
        return self.module


class Parts:
    """What a LightningModule may ask for by the names of its constructor's arguments, built when it is asked for.

    Cheap and refusable things come first, the backbone last.
    """

    ORDER = ("optimizer", "sampler", "corruption", "num_levels", "objective", "backbone")

    def __init__(self, cfg: DictConfig, data: ShardedDataModule):
        self.cfg, self.data = cfg, data

    def of(self, node: DictConfig) -> dict[str, Any]:
        """The parts that the target of ``node`` has arguments for and ``node`` does not set."""
        wanted = parameters(locate_target(str(node._get_full_key(None)), node["_target_"]))
        return {name: getattr(self, name) for name in self.ORDER if name in wanted and name not in node}

    @cached_property
    def optimizer(self) -> OptimizerRecipe:
        return build(self.cfg.optimizer)

    @cached_property
    def sampler(self) -> Sampler:
        return build(self.cfg.sampler)

    @property
    def corruption(self) -> Corruption:
        return self.data.corruption

    @cached_property
    def num_levels(self) -> int:
        return self.corruption.num_levels(self.data.metadata.num_frames)

    @cached_property
    def objective(self) -> Objective:
        return build(self.cfg.objective, num_levels=self.num_levels)

    @cached_property
    def backbone(self) -> Backbone:
        check_method(self.corruption, self.objective, self.sampler)
        takes = parameters(locate_target("backbone", self.cfg.backbone["_target_"]))
        return build(self.cfg.backbone, **self._declared(takes), **self._attention(takes))

    def _declared(self, takes: Container[str]) -> dict[str, Any]:
        """What the data set declares of what a backbone has arguments for."""
        metadata = self.data.metadata
        declared = {
            "latent_channels": metadata.latent_shape[0],
            "text_dim": metadata.text_shape[1] if metadata.text_shape else 1,
            "context_channels": metadata.context_shape[0] if metadata.context_shape else None,
            "latents_mean": metadata.latents_mean,
            "latents_std": metadata.latents_std,
        }
        return {name: value for name, value in declared.items() if name in takes}

    def _attention(self, takes: Container[str]) -> dict[str, Attention]:
        """Of a backbone that has any; runs of before the group existed have the backbone's own."""
        wanted = "attention" in takes and "attention" in self.cfg
        return {"attention": build(self.cfg.attention)} if wanted else {}


def assemble(cfg: DictConfig) -> Run:
    """Builds data, codec and what is trained on them from a checked config.

    Raises:
        BadValue: with the config path of what cannot be.
    """
    seed_everything(cfg.seed, verbose=False)
    corruption = build(cfg.corruption)
    data = build(cfg.data, corruption=corruption)
    data.validate()
    module = build(cfg.training, **Parts(cfg, data).of(cfg.training))
    if isinstance(module, Refiner):
        module.backbone.check(data.metadata.latent_shape)
    data.use_codec(build_codec(cfg.codec, data))
    for interpolator in (corruption.interpolator, getattr(module, "interpolator", None)):
        if isinstance(interpolator, Interpolator):
            use_codec(interpolator, data.codec)
    return Run(cfg, data, module)


def normalised(cfg: DictConfig) -> DictConfig:
    """The config as it takes effect: ``corruption=none`` has no noise, whatever its sigma says."""
    cfg = copy.deepcopy(cfg)
    with warnings.catch_warnings(action="ignore"):
        cfg.corruption.sigma = build(cfg.corruption.noise).amplitude(cfg.corruption.sigma)
    return cfg


def build_codec(cfg: DictConfig, data: ShardedDataModule) -> Codec:
    """The chosen codec with the statistics that the data set declares."""
    metadata = data.metadata
    statistics = {"latents_mean": metadata.latents_mean, "latents_std": metadata.latents_std}
    if cfg.get("_partial_", False):
        name = metadata.codec.get("name", "")
        return build(cfg, name=name, latent_channels=metadata.latent_shape[0], **statistics)
    mean, std = (cfg.get(name) or declared for name, declared in statistics.items())
    codec = build(cfg).set_statistics(mean, std)
    check_codec(codec, metadata)
    return codec


def check_codec(codec: Codec, metadata: DatasetMetadata) -> None:
    """Refuses a codec other than the one that made the latents; a preview shows any."""
    made_with, chosen = metadata.codec, codec.describe()
    for key in [key for key in chosen if key in made_with and not codec.caveat]:
        if chosen[key] != made_with[key]:
            made_by = metadata.made_by.get("fingerprint")
            which = f" (fingerprint {made_by})" if made_by else ""
            raise BadValue(f"codec.{key}", chosen[key], f"{made_with[key]}, which the shards were made with{which}")


def load_text_encoder(run: Run) -> TextEncoder:
    """The encoder for prompts of this run's own kind: ``encoder.encode(["a cat"])`` is a ``Clip``'s ``text``.

    It is built when it is asked for, since training reads embeddings and Wan's umT5 is 11 GB. A run is told where the
    weights are by ``load_run(path, overrides={"text": node})``.

    Raises:
        BadValue: the data set has no prompts, its encoder needs a folder, or the embeddings would be of another kind.
    """
    return build_text_encoder(run.config.get("text"), run.data.metadata, run.data.writer)


def build_text_encoder(cfg: DictConfig | None, metadata: DatasetMetadata, writer: Writer | None) -> TextEncoder:
    """The chosen text encoder, or the declared one, held against the data set; see :func:`load_text_encoder`."""
    if metadata.text_shape is None:
        raise BadValue("text", "declared", "no prompt: the data set has no prompt embeddings")
    if cfg is None or cfg.get("_partial_", False):
        declared = metadata.text or getattr(getattr(writer, "text", None), "describe", dict)()
        length, dim = metadata.text_shape
        return declared_text_encoder(declared.get("name", ""), length, dim)
    encoder: TextEncoder = build(cfg)
    if (made_with := metadata.text.get("name", encoder.name)) != encoder.name:
        raise BadValue("text", encoder.name, f"{made_with}, which the shards' prompt embeddings were made with")
    if (found := (encoder.length, encoder.dim)) != metadata.text_shape:
        raise BadValue("text", encoder.name, f"embeddings {list(metadata.text_shape)} as trained on, not {list(found)}")
    return encoder


def load_run(path: str | Path, *, ema: bool = True, overrides: dict[str, Any] | None = None) -> Run:
    """Loads what was trained, with the config it was trained under.

    Args:
        path: a run folder, or a checkpoint file inside one.
        ema: the averaged weights, which validation used; False for the raw ones.
        overrides: config values to replace, by dotted key, for example ``{"sampler": node, "data.batch_size": 2}``;
            ``data.root``, ``backbone.pretrained`` or ``interpolator.checkpoint`` where those have been moved.

    Returns:
        The run, its module in evaluation mode on the CPU.

    Raises:
        BadValue: no run folder or checkpoint there; or a value of its config that is not right any more, with its key.
    """
    folder, checkpoint_file = find_checkpoint(path)
    config = cast(DictConfig, OmegaConf.load(folder / CONFIG_FILE))
    for key, value in (overrides or {}).items():
        OmegaConf.update(config, key, value, merge=False)
    for key in NEEDED:
        if OmegaConf.select(config, key) is None:
            raise BadValue(key, None, f"a value in {folder / CONFIG_FILE}, which an older version wrote; override it")
    try:
        run = assemble(config)
    except BadValue as error:
        found = locate(error, config)
        assert isinstance(found, BadValue)
        allowed = f"{found.allowed}; it is from {folder / CONFIG_FILE}, override {found.name}"
        raise BadValue(found.name, found.value, allowed, found.options) from error
    checkpoint = torch.load(checkpoint_file, map_location="cpu", weights_only=True)
    weights = dict(checkpoint["state_dict"])
    if ema:
        weights |= {name: value.to(weights[name].dtype) for name, value in checkpoint.get(CHECKPOINT_KEY, {}).items()}
    run.module.load_state_dict(weights)
    run.module.eval()
    run.checkpoint = checkpoint_file
    return run


def inference_overrides(cfg: DictConfig) -> dict[str, Any]:
    """What the config of a program that uses a run asks to differ from the run's own, for :func:`load_run`."""
    chosen = {
        "sampler": cfg.get("sampler"),
        "codec": cfg.get("codec"),
        "corruption.scheduled_sampling": cfg.get("scheduled_sampling"),
        "data.anchors.root": cfg.get("anchors"),
        "data.val_split": cfg.get("split"),
    }
    return {key: value for key, value in chosen.items() if value is not None} | dotted(cfg.get("overrides"))


def dotted(overrides: DictConfig | None) -> dict[str, Any]:
    """A config's own ``overrides`` node by dotted keys, as :func:`load_run` takes them; nothing where it has none."""
    leaves = [(key, node[name]) for key, node, name in walk(overrides) if isinstance(node, DictConfig)]
    return {key: value for key, value in leaves if not isinstance(value, DictConfig)}


def find_checkpoint(path: str | Path) -> tuple[Path, Path]:
    """The run folder and the checkpoint that ``path`` means: a folder's last one that is whole, or a file."""
    path = Path(path).expanduser().absolute()
    file = path / LAST_CHECKPOINT if path.is_dir() else path
    folder = next((parent for parent in file.parents if (parent / CONFIG_FILE).is_file()), None)
    found = last_whole(file.parent) if file.name == LAST else file
    reason = "no such file" if found is None or not found.exists() else fault(found)
    if found is None or reason is not None or folder is None:
        allowed = f"a run folder with {CONFIG_FILE} and {LAST_CHECKPOINT}, or a checkpoint file inside one"
        raise BadValue("checkpoint", path, f"{allowed}{f' ({reason})' if reason else ''}")
    return folder.resolve(), found.resolve()
