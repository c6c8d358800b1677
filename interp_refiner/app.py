"""The demo page: ``python -m interp_refiner.app [checkpoint=<run folder | file | exported folder>]``.

The page turns pictures on a timeline into a video. It shows the interpolation at once and refines it when you press a
button. With a keyframe generator (``keyframes=<generator>``) a prompt is enough.
"""

import logging
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from omegaconf import DictConfig

from interp_refiner.assemble import load_pipeline
from interp_refiner.config import Settings, build, main, quiet_libraries, terminal
from interp_refiner.core import BadValue, MissingExtra, device
from interp_refiner.storyboard.page.studio import Studio
from interp_refiner.training.checkpoint import SHIPPED, SHIPPED_ONE_STEP


@dataclass
class AppSettings(Settings):
    """Top-level values of ``conf/app.yaml``.

    Attributes:
        checkpoint: a run folder, a checkpoint file inside one, an exported folder, ``shipped`` or ``shipped_camera``.
        keyframes: the keyframe generator, as in ``interp_refiner.sample``; None for pictures only.
        fast: a distilled model that the page also offers; None: ``shipped_one_step`` with ``checkpoint=shipped``.
        device: ``auto``, ``cpu`` or ``cuda``.
        host: the address that serves the page; ``0.0.0.0`` for all networks of the machine.
        port: of the page; None for the first free one from 7860 on.
        upscale: integer factor by which shown videos are enlarged; None: to about 448 pixels in width.
    """

    checkpoint: str = "shipped"
    keyframes: str | None = None
    fast: str | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    host: str = "127.0.0.1"
    port: int | None = 7860
    upscale: int | None = None


@main("app", AppSettings)
def app(cfg: DictConfig) -> None:
    """Serves the page until it is interrupted."""
    quiet_libraries()
    logging.getLogger("httpx").setLevel(logging.WARNING)  # gradio polls its own server at the start
    if cfg.upscale is not None and cfg.upscale < 1:
        raise BadValue("upscale", cfg.upscale, "at least 1, or null")
    folder = Path(cfg.paths.output_dir)
    # gradio reads these when it is imported: no telemetry, and uploads stay in the run's folder
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": str(folder / "uploads")}
    if find_spec("gradio") is None:
        raise MissingExtra("the demo page", "gradio", "app")
    fast = cfg.fast or (SHIPPED_ONE_STEP if cfg.checkpoint == SHIPPED else None)
    studio = Studio(
        load_pipeline(cfg.checkpoint, cfg).to(device(cfg.device)),
        samplers={name: build(node) for name, node in cfg.samplers.items()},
        folder=folder / "videos",
        upscale=cfg.upscale,
        fast=None if fast is None else load_pipeline(fast, cfg).to(device(cfg.device)),
    )
    from interp_refiner.storyboard.page.page import open_page  # here, because gradio takes seconds to import

    page, url = open_page(studio, cfg.host, cfg.port, cfg.seed)
    terminal().print(f"{url}   (Ctrl-C ends it)", soft_wrap=True)
    page.block_thread()


if __name__ == "__main__":
    app()
