"""From a config to a run's objects, and from a run folder or checkpoint back to them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import seed_everything
from omegaconf import DictConfig, OmegaConf

from interp_refiner.callback import CHECKPOINT_KEY
from interp_refiner.codec import Codec
from interp_refiner.core import BadValue
from interp_refiner.data import ShardedDataModule
from interp_refiner.entry import build
from interp_refiner.training import Refiner, check_method

CONFIG_FILE = "config.yaml"
LAST_CHECKPOINT = "checkpoints/last.ckpt"


@dataclass
class Run:
    """What every program that uses a refiner holds.

    Attributes:
        config: resolved.
        data: the data module, with its metadata read and its codec.
        refiner: backbone, objective and sampler.
        checkpoint: where the weights came from; None for fresh ones.
    """

    config: DictConfig
    data: ShardedDataModule
    refiner: Refiner
    checkpoint: Path | None = None


def assemble(cfg: DictConfig) -> Run:
    """Builds data, codec and refiner from a checked config; cheap and refusable things first, the backbone last.

    Raises:
        BadValue: with the config path of what cannot be.
    """
    seed_everything(cfg.seed, verbose=False)
    corruption = build(cfg.corruption)
    data = build(cfg.data, corruption=corruption)
    data.validate()
    sampler, optimizer = build(cfg.sampler), build(cfg.optimizer)
    data.prepare_data()
    metadata = data.metadata
    num_levels = corruption.num_levels(metadata.num_frames)
    objective = build(cfg.objective, num_levels=num_levels)
    check_method(corruption, objective, sampler)
    data.codec = build_codec(cfg.codec, data)
    backbone = build(
        cfg.backbone,
        latent_channels=metadata.latent_shape[0],
        text_dim=metadata.text_shape[1] if metadata.text_shape else 1,
    )
    refiner = Refiner(backbone, objective, optimizer, sampler, corruption, num_levels)
    return Run(cfg, data, refiner)


def build_codec(cfg: DictConfig, data: ShardedDataModule) -> Codec:
    """The chosen codec with the statistics that the data set declares."""
    metadata = data.metadata
    statistics = {"latents_mean": metadata.latents_mean, "latents_std": metadata.latents_std}
    if cfg.get("_partial_", False):
        name = metadata.codec.get("name", "")
        return build(cfg, name=name, latent_channels=metadata.latent_shape[0], **statistics)
    return build(cfg).set_statistics(**{key: cfg.get(key) or value for key, value in statistics.items()})


def load_run(path: str | Path, *, ema: bool = True, overrides: dict[str, Any] | None = None) -> Run:
    """Loads a trained refiner with the config it was trained under.

    Args:
        path: a run folder, or a checkpoint file inside one.
        ema: the averaged weights, which validation used; False for the raw ones.
        overrides: config values to replace, by dotted key, for example ``{"sampler": node, "data.batch_size": 2}``.

    Returns:
        The run, its refiner in evaluation mode on the CPU.

    Raises:
        BadValue: no run folder or checkpoint there.
    """
    folder, checkpoint_file = find_checkpoint(path)
    config = cast(DictConfig, OmegaConf.load(folder / CONFIG_FILE))
    for key, value in (overrides or {}).items():
        OmegaConf.update(config, key, value, merge=False)
    run = assemble(config)
    checkpoint = torch.load(checkpoint_file, map_location="cpu", weights_only=True)
    weights = dict(checkpoint["state_dict"])
    if ema:
        weights |= {name: value.to(weights[name].dtype) for name, value in checkpoint.get(CHECKPOINT_KEY, {}).items()}
    run.refiner.load_state_dict(weights)
    run.refiner.eval()
    run.checkpoint = checkpoint_file
    return run


def find_checkpoint(path: str | Path) -> tuple[Path, Path]:
    """The run folder and the checkpoint file that ``path`` means: the last checkpoint of a folder, or a file."""
    path = Path(path).expanduser().resolve()
    file = path / LAST_CHECKPOINT if path.is_dir() else path
    folder = next((parent for parent in file.parents if (parent / CONFIG_FILE).is_file()), None)
    if not file.is_file() or folder is None:
        allowed = f"a run folder with {CONFIG_FILE} and {LAST_CHECKPOINT}, or a checkpoint file inside one"
        raise BadValue("checkpoint", path, allowed)
    return folder, file
