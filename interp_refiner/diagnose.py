"""Shows the effect of a forward process: ``python -m interp_refiner.diagnose schedule=dp corruption.sigma=0.5``."""

from dataclasses import dataclass, field
from typing import Any, Literal

from omegaconf import DictConfig

from interp_refiner.assemble import forward_process
from interp_refiner.config import Settings, build, main, option_name, quiet_libraries
from interp_refiner.core import BadValue, at_least, device, keep_freed_memory
from interp_refiner.data import Clips, ShardedDataModule
from interp_refiner.data.codec import Codec
from interp_refiner.evaluation.diagnosis.forward_table import clean_clips, measure, write
from interp_refiner.forward.corruption import Corruption


@dataclass
class DiagnoseSettings(Settings):
    """Top-level values of ``conf/diagnose.yaml``.

    Attributes:
        compare: more schedules, by name: ``+schedule@compare.<name>=<option>``.
        clips: how many held-out clips; None for all.
        batch_size: clips at a time.
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    compare: dict[str, Any] = field(default_factory=dict)
    clips: int | None = 64
    batch_size: int = 16
    device: Literal["auto", "cpu", "cuda"] = "auto"


@main("diagnose", DiagnoseSettings)
def diagnose(cfg: DictConfig) -> None:
    """Prints gaps, corruption sizes and interpolation errors by level; writes them as JSON and Markdown."""
    quiet_libraries()
    keep_freed_memory()
    at_least(1, batch_size=cfg.batch_size)
    place = device(cfg.device)
    opened = build(cfg.data).open()
    corruptions = compared(cfg, build(cfg.codec, spec=opened.spec))
    data = checked(opened, corruptions)
    rows = measure(clean_clips(data, cfg, place), corruptions)
    write(rows, corruptions, cfg)


def compared(cfg: DictConfig, codec: Codec) -> dict[str, Corruption]:
    """The same corruption with every requested schedule, by name; the run's own schedule first."""
    own = forward_process(cfg.corruption, codec)
    corruptions = {option_name("schedule", cfg.schedule): own}
    for name, node in cfg.compare.items():
        if name in corruptions:
            raise BadValue(f"compare.{name}", node._target_, f"another name: schedule={name} is already in the table")
        corruptions[str(name)] = forward_process(cfg.corruption, codec, schedule=build(node))
    return corruptions


def checked(opened: Clips, corruptions: dict[str, Corruption]) -> ShardedDataModule:
    """The data module of the clips; every corruption is checked against them."""
    for corruption in corruptions.values():
        corruption.check(opened.spec.latent_shape)
    return ShardedDataModule(opened, max(corruptions.values(), key=lambda corruption: corruption.needs_anchors))


if __name__ == "__main__":
    diagnose()
