"""From a config to a run's objects, and from a run folder or checkpoint back to them."""

import warnings
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch import seed_everything
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from interp_refiner.config import build
from interp_refiner.config.check import taken
from interp_refiner.config.nodes import dotted
from interp_refiner.config.refusal import locate
from interp_refiner.core import BadValue, state_faults, weight_faults
from interp_refiner.data import DatasetMetadata, ShardedDataModule, Writer
from interp_refiner.data.codec import Codec
from interp_refiner.data.text import TextEncoder, declared_text_encoder
from interp_refiner.evaluation import Evaluation, evaluations_of
from interp_refiner.evaluation.medium import Medium, Video
from interp_refiner.forward.corruption import Corruption
from interp_refiner.forward.interpolator import Interpolator, use_codec
from interp_refiner.model.attention import Attention
from interp_refiner.model.backbone import Backbone, is_adapter, name_without
from interp_refiner.model.objective import Objective
from interp_refiner.model.sampler import Sampler
from interp_refiner.storyboard import INDEX, RefinerPipeline
from interp_refiner.training import Refiner, check_method
from interp_refiner.training.callback import CHECKPOINT_KEY
from interp_refiner.training.checkpoint import LAST, fault, is_sharded, last_whole, read_checkpoint
from interp_refiner.training.optimizer import AdamW, OptimizerRecipe

CONFIG_FILE = "config.yaml"
NEEDED = ("seed", "data", "corruption", "codec", "training", "objective", "sampler", "optimizer", "backbone")
LAST_CHECKPOINT = f"checkpoints/{LAST}"


class Parts:
    """What a LightningModule may ask for by the names of its constructor's arguments, built when it is asked for.

    Cheap and refusable things come first, the backbone last.
    """

    ORDER = ("optimizer", "sampler", "corruption", "num_levels", "objective", "backbone")

    def __init__(self, cfg: DictConfig, data: ShardedDataModule, device: str = "cpu"):
        self.cfg, self.data, self.device = cfg, data, device

    def of(self, node: DictConfig) -> dict[str, Any]:
        """The parts that the target of ``node`` has arguments for and ``node`` does not set."""
        return {name: getattr(self, name) for name in taken(node, self.ORDER)}

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
        return build(self.cfg.objective, **objective_sizes(self.cfg.objective, self.num_levels, self.data.metadata))

    @cached_property
    def backbone(self) -> Backbone:
        check_method(self.corruption, self.objective, self.sampler)
        with torch.device(self.device):
            return build(self.cfg.backbone, **self._declared(), **self._attention())

    def _declared(self) -> dict[str, Any]:
        """What the data set declares of what a backbone has arguments for."""
        metadata = self.data.metadata
        declared = {
            "latent_channels": metadata.latent_shape[0],
            "text_dim": metadata.text_shape[1] if metadata.text_shape else 1,
            "context_channels": metadata.context_shape[0] if metadata.context_shape else None,
            "latents_mean": metadata.latents_mean,
            "latents_std": metadata.latents_std,
        }
        return {name: declared[name] for name in taken(self.cfg.backbone, declared)}

    def _attention(self) -> dict[str, Attention]:
        """Of a backbone that has any; runs of before the group existed have the backbone's own."""
        wanted = "attention" in self.cfg and taken(self.cfg.backbone, ["attention"])
        return {"attention": build(self.cfg.attention)} if wanted else {}


def objective_sizes(node: DictConfig, num_levels: int, metadata: DatasetMetadata) -> dict[str, int]:
    """What an objective wants to know of the schedule and the data."""
    sizes = {"num_levels": num_levels, "latent_channels": metadata.latent_shape[0]}
    return {name: sizes[name] for name in taken(node, sizes)}


@dataclass
class Run:
    """A trained model with everything it was trained with.

    Attributes:
        config: resolved; of an exported folder what ``model_index.json`` says.
        module: what is trained, or was.
        codec: between its latents and pixels.
        loader: the data module; None for an exported folder, see :attr:`data`.
        folder: where the run or the export lies; None for fresh weights, as ``checkpoint``.
        checkpoint: the file that the weights came from, or the exported folder.
    """

    config: DictConfig
    module: L.LightningModule
    codec: Codec
    loader: ShardedDataModule | None = None
    folder: Path | None = None
    checkpoint: Path | None = None

    @property
    def data(self) -> ShardedDataModule:
        """The data module, with its metadata read: ``run.data.val_dataloader()`` gives held-out clips.

        Raises:
            BadValue: of an exported folder, which has no data.
        """
        if self.loader is None:
            raise BadValue("checkpoint", self.checkpoint, "a run folder: an exported folder has no data")
        return self.loader

    @cached_property
    def evaluation(self) -> Evaluation | None:
        """What ``interp_refiner.evaluate`` last found out about it; None where it was not evaluated."""
        found = evaluations_of(self.folder) if self.folder is not None else []
        return Evaluation.load(found[-1]) if found else None

    @property
    def refiner(self) -> Refiner:
        """The module, of a run that trained a refiner; raises :class:`BadValue` for any other."""
        if not isinstance(self.module, Refiner):
            raise BadValue("checkpoint", self.checkpoint, f"a refiner's run, not one of {type(self.module).__name__}")
        return self.module


def assemble(cfg: DictConfig, device: str = "cpu") -> Run:
    """Builds data, codec and what is trained on them from a checked config.

    Args:
        cfg: the config.
        device: where a backbone's first weights are drawn; a large one's in a moment on a GPU, but as other numbers.

    Raises:
        BadValue: with the config path of what cannot be.
    """
    seed_everything(cfg.seed, verbose=False)
    corruption = build(cfg.corruption)
    data = build(cfg.data, corruption=corruption)
    data.validate()
    module = build(cfg.training, **Parts(cfg, data, device).of(cfg.training))
    if isinstance(module, Refiner):
        module.backbone.check(data.metadata.latent_shape)
        module.saves_frozen = cfg.get("initial_weights") is not None
    data.use_codec(build_codec(cfg.codec, data))
    data.medium = build_medium(cfg.get("medium"), data)
    for interpolator in (corruption.interpolator, getattr(module, "interpolator", None)):
        if isinstance(interpolator, Interpolator):
            use_codec(interpolator, data.codec)
    return Run(cfg, module, data.codec, data)


def build_medium(cfg: DictConfig | None, data: ShardedDataModule) -> Medium:
    """The chosen medium, held against the clips; videos in runs of before the group existed."""
    metadata = data.metadata
    if cfg is None:
        return Video(data.codec)
    known = {"codec": data.codec, "latents_mean": metadata.latents_mean, "latents_std": metadata.latents_std}
    medium: Medium = build(cfg, **{name: known[name] for name in taken(cfg, known)})
    medium.check(metadata.latent_shape, metadata.context_shape)
    return medium


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

        run = interp_refiner.load_run("logs/train/runs/2026-01-31_12-00-00")
        run.config.corruption.sigma, run.refiner, run.codec, run.data.val_dataloader(), run.evaluation

    Args:
        path: a run folder, a checkpoint inside one (a file, or the folder of a sharded one), or a folder that
            ``interp_refiner.export`` wrote.
        ema: the averaged weights, which validation used; False for the raw ones. An exported folder has one kind.
        overrides: config values to replace, by dotted key, for example ``{"sampler": node, "data.batch_size": 2}``;
            ``data.root``, ``backbone.pretrained`` or ``interpolator.checkpoint`` where those have been moved.

    Returns:
        The run, its module in evaluation mode on the CPU, its adapters (LoRA) merged.

    Raises:
        BadValue: nothing of that kind there; or a value of its config that is not right any more, with its key.
    """
    if (Path(path).expanduser() / INDEX).is_file():
        return load_exported(Path(path).expanduser().resolve(), overrides)
    return load_checkpoint(*find_checkpoint(path), ema, overrides or {})


def load_checkpoint(folder: Path, file: Path, ema: bool, overrides: dict[str, Any]) -> Run:
    """The run of a folder with the weights of a file; see :func:`load_run`."""
    config = cast(DictConfig, OmegaConf.load(folder / CONFIG_FILE))
    for key in sorted(overrides, key=lambda key: key.count(".")):  # a whole node before values inside it
        OmegaConf.update(config, key, overrides[key], merge=False)
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
    weights = read_weights(file, run.module, ema)
    if faults := state_faults(run.module.state_dict(), weights):
        raise BadValue("checkpoint", file, f"the weights of the run that {folder / CONFIG_FILE} describes: {faults}")
    run.module.load_state_dict(weights)
    if isinstance(run.module, Refiner) and run.module.backbone.merge_adapters():
        del run.config.backbone.lora  # the run is that of a model without any now
    run.module.eval()
    run.folder, run.checkpoint = folder, file
    return run


def read_weights(checkpoint_file: Path, module: L.LightningModule, ema: bool = True) -> dict[str, Tensor]:
    """The module's state in a checkpoint, the averaged weights in place of the raw ones, with what it leaves out."""
    checkpoint = read_checkpoint(checkpoint_file)
    weights = dict(checkpoint["state_dict"])
    if ema:
        weights |= {name: value.to(weights[name].dtype) for name, value in checkpoint.get(CHECKPOINT_KEY, {}).items()}
    return module.with_unchanged(weights) if isinstance(module, Refiner) else weights


def start_from(run: Run, path: str | Path) -> None:
    """Gives a fresh run the averaged weights of another one, whose objective may be another.

    Adapters of a run that has them start as they are beside the weights of a run that has none.

    Raises:
        BadValue: no checkpoint there, or of another backbone.
    """
    _, checkpoint_file = find_checkpoint(path)
    weights, own = read_weights(checkpoint_file, run.module), run.module.state_dict()
    found = {name: weights.get(name_without(name), weights.get(name)) for name in own}
    shared = {name: value for name, value in found.items() if value is not None and own[name].shape == value.shape}
    fresh = set() if any(map(is_adapter, weights)) else set(filter(is_adapter, own))
    lacking = sorted(n for n in own.keys() - shared.keys() - fresh if not n.startswith("objective."))
    if lacking:
        here, there = (list(w[lacking[0]].shape) if lacking[0] in w else "none" for w in (own, weights))
        which = f"such as {lacking[0]}: {here} here, {there} there"
        allowed = f"a run of the same backbone: {len(lacking)} of its weights are lacking or of another size, {which}"
        raise BadValue("initial_weights", path, allowed)
    taken_up = {name_without(name) for name in shared} | shared.keys()
    unused = [n for n in weights.keys() - taken_up if not n.startswith("objective.")]
    if unused:
        raise BadValue("initial_weights", path, f"a run of the same backbone: {weight_faults([], unused)}")
    run.module.load_state_dict(shared, strict=False)
    run.checkpoint = checkpoint_file


def load_exported(folder: Path, overrides: dict[str, Any] | None = None) -> Run:
    """An exported folder as a run without data; raises :class:`BadValue` for overrides, which it has no config for."""
    if overrides:
        name, value = next(iter(overrides.items()))
        raise BadValue(name, value, f"no override: {folder} is an exported folder, which is used as it is")
    pipe = RefinerPipeline.from_pretrained(folder)
    num_levels = pipe.corruption.num_levels(pipe.config.latent_shape[1])
    trained = {name: weight.clone() for name, weight in pipe.backbone.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a new refiner silences the head of its backbone: it is trained
        module = Refiner(pipe.backbone, pipe.objective, AdamW(), pipe.sampler, pipe.corruption, num_levels)
    module.backbone.load_state_dict(trained)
    return Run(OmegaConf.create(asdict(pipe.config)), module.eval(), pipe.codec, folder=folder, checkpoint=folder)


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


def find_checkpoint(path: str | Path) -> tuple[Path, Path]:
    """The run folder and the checkpoint that ``path`` means: a run's last one that is whole, or that very one."""
    path = Path(path).expanduser().absolute()
    file = path / LAST_CHECKPOINT if path.is_dir() and not is_sharded(path) else path
    folder = next((parent for parent in file.parents if (parent / CONFIG_FILE).is_file()), None)
    found = last_whole(file.parent) if file.name == LAST else file
    reason = "no such file" if found is None or not found.exists() else fault(found)
    if found is None or reason is not None or folder is None:
        allowed = f"a run folder with {CONFIG_FILE} and {LAST_CHECKPOINT}, or a checkpoint file inside one"
        raise BadValue("checkpoint", path, f"{allowed}{f' ({reason})' if reason else ''}")
    return folder.resolve(), found.resolve()
