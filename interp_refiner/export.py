"""Exports a checkpoint as a pipeline: ``python -m interp_refiner.export checkpoint=<run folder> output=<folder>``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from omegaconf import DictConfig

from interp_refiner.assemble import load_exportable
from interp_refiner.config import Settings, main, next_command, terminal, writable
from interp_refiner.core import BadValue
from interp_refiner.storyboard import (
    Phase1,
    adapters_of,
    push,
    reserve,
    save_generator,
    save_lora,
    store_as,
    with_terms,
)


@dataclass
class ExportSettings(Settings):
    """Top-level values of ``conf/export.yaml``.

    Attributes:
        checkpoint: a run folder, or a checkpoint file inside one: of a refiner, or of a keyframe generator.
        keyframes: the keyframe generator to include in a refiner's folder, as in ``interp_refiner.sample``.
        output: a new or empty folder.
        dtype: of the stored weights; computation is in float32.
        ema: the averaged weights; false for the raw ones.
        lora: also writes the adapters as a file, with names as in ``diffusers``, ``comfyui`` or ``kohya``.
        license: of the weights, for the card.
        base_model: the initial weights, for the model card; None for ``backbone.pretrained``, if the hub has it.
        push: owner/name of a model on the hub to which the folder is uploaded.
        private: whether a new model is private.
    """

    checkpoint: str = ""
    keyframes: str | None = None
    output: str = ""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    ema: bool = True
    lora: Literal["diffusers", "comfyui", "kohya"] | None = None
    license: str | None = None
    base_model: str | None = None
    push: str | None = None
    private: bool = True


@main("export", ExportSettings)
def export(cfg: DictConfig) -> None:
    """Writes ``model_index.json``, ``transformer/``, the weights beside it and a model card."""
    output = writable("output", Path(cfg.output).expanduser())
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise BadValue("output", output, "a new or empty folder; this one is not empty")
    if cfg.push is not None:
        reserve(cfg.push, cfg.private)
    terms = {"license": cfg.license, "base_model": cfg.base_model}
    made = with_terms(load_exportable(cfg.checkpoint, cfg, ema=cfg.ema), terms)
    adapters = adapters_of(made, cfg.lora) if cfg.lora is not None else {}
    folder = save_generator(made, output) if isinstance(made, Phase1) else made.save_pretrained(output)
    if cfg.lora is not None:
        save_lora(adapters, folder, cfg.lora)
    store_as(cfg.dtype, folder)
    console = terminal()
    console.print(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}", soft_wrap=True)
    alone = [f"checkpoint={folder}", "storyboard=<board.yaml>"]
    how = ["checkpoint=<refiner>", f"keyframes={folder}", "prompt=..."] if isinstance(made, Phase1) else alone
    if cfg.push is not None:
        console.print(push(folder, cfg.push), soft_wrap=True)
    console.print(f"next: {next_command('sample', *how, 'output=out.mp4')}", soft_wrap=True)


if __name__ == "__main__":
    export()
