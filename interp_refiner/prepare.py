"""Makes data sets: ``python -m interp_refiner.prepare clip source=<clip.pth> output=<folder>``."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from interp_refiner.core import BadValue, suggestion
from interp_refiner.corruption import Corruption, Noiseless
from interp_refiner.data import DatasetMetadata, write_clip_windows
from interp_refiner.entry import Settings, build, main
from interp_refiner.interpolator import Linear
from interp_refiner.schedule import Uniform
from interp_refiner.scheduled_sampling import Phase1


@dataclass
class ClipSettings(Settings):
    """Top-level values of ``conf/prepare/clip.yaml``; see :func:`write_clip_windows`."""

    source: str = ""
    output: str = ""
    size: list[int] = field(default_factory=list)
    stride: list[int] = field(default_factory=list)
    held_out_width: int = 16
    text_shape: list[int] = field(default_factory=list)
    normalised: bool = True


@dataclass
class ShapesSettings(Settings):
    """Top-level values of ``conf/prepare/shapes.yaml``."""

    output: str = ""


@main("prepare/clip", ClipSettings)
def clip(cfg: DictConfig) -> None:
    """One clip of Wan latents, cut into windows."""
    source, output = Path(cfg.source).expanduser(), Path(cfg.output).expanduser()
    if not source.is_file():
        raise BadValue("source", source, "a tensor file of one clip: no such file")
    if output.is_dir() and any(output.iterdir()):
        raise BadValue("output", output, "a new or empty folder: it holds files already")
    cut = {"size": cfg.size, "stride": cfg.stride, "text_shape": cfg.text_shape}
    write_clip_windows(
        source,
        output,
        held_out_width=cfg.held_out_width,
        normalised=cfg.normalised,
        **{name: list(value) for name, value in cut.items()},
    )
    tell(output)


@main("prepare/shapes", ShapesSettings)
def shapes(cfg: DictConfig) -> None:
    """The embedded moving-shapes clips."""
    build(cfg.writer).write(Path(cfg.output))
    tell(Path(cfg.output))


def tell(root: Path) -> None:
    """Prints what was written, and the command that trains on it."""
    console = Console(highlight=False)
    for split in sorted(path.parent for path in root.glob("*/dataset.json")):
        metadata = DatasetMetadata.load(split)
        console.print(f"{split}: {metadata.num_samples} samples of {list(metadata.latent_shape)}", soft_wrap=True)
    console.print(
        f"next: python -m interp_refiner.train +experiment=gt_keyframes data=wan_synth data.root={root}", soft_wrap=True
    )


@main("prepare/anchors", Settings)
def anchors(cfg: DictConfig) -> None:
    """Proposals of keyframes (anchors) for a data set, from a deliberately imperfect source."""
    data = build(cfg.data, corruption=Corruption(Uniform(k_min=2), Linear(), Noiseless(), Phase1()))
    data.prepare_data()  # makes what is missing
    root = Path(cfg.data.anchors.root)
    console = Console(highlight=False)
    for split in sorted(path.parent for path in root.glob("*/dataset.json")):
        console.print(f"{split}: anchors of {DatasetMetadata.load(split).num_samples} clips", soft_wrap=True)
    console.print(
        "next: python -m interp_refiner.train +experiment=phase1_keyframes "
        f"data.root={cfg.data.root} data.anchors.root={root}",
        soft_wrap=True,
    )


COMMANDS = {"clip": clip, "shapes": shapes, "anchors": anchors}


def prepare() -> None:
    """Runs the command named by the first argument."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in COMMANDS:
        del sys.argv[1]
        COMMANDS[name]()
        return
    usage = "\n".join(f"  {command:<8}{task.__doc__}" for command, task in COMMANDS.items())
    if name in ("--help", "-h"):
        print(f"python -m interp_refiner.prepare <command> [key=value ...]\n\n{usage}\n\n<command> --help says more.")
        return
    print(f"prepare {name}: expected {' | '.join(COMMANDS)}{suggestion(name, COMMANDS)}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    prepare()
