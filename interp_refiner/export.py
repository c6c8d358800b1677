"""Writes a pipeline of any checkpoint: ``python -m interp_refiner.export checkpoint=<run folder> output=<folder>``."""

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from interp_refiner.assemble import load_pipeline
from interp_refiner.config import Settings, main, terminal, writable
from interp_refiner.core import BadValue


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
    console = terminal()
    console.print(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}", soft_wrap=True)
    console.print(
        f"next: python -m interp_refiner.sample checkpoint={folder} storyboard=<board.yaml> output=out.mp4",
        soft_wrap=True,
    )


if __name__ == "__main__":
    export()
