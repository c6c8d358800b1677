"""Makes and checks data sets: ``python -m interp_refiner.prepare clip source=<clip.pth> output=<folder>``."""

import sys

from omegaconf import DictConfig

from interp_refiner.assemble import anchor_source
from interp_refiner.config import main
from interp_refiner.core import suggestion
from interp_refiner.data.preparation import (
    AnchorSettings,
    ClipSettings,
    EmbedSettings,
    EncodeSettings,
    ShapesSettings,
    VerifySettings,
    cut_clip,
    embed_prompts,
    encode_videos,
    make_anchors,
    verify_folders,
    write_shapes,
)


@main("prepare/clip", ClipSettings)
def clip(cfg: DictConfig) -> None:
    """One clip of Wan latents, cut into windows."""
    cut_clip(cfg)


@main("prepare/shapes", ShapesSettings)
def shapes(cfg: DictConfig) -> None:
    """The embedded moving-shapes clips."""
    write_shapes(cfg)


@main("prepare/anchors", AnchorSettings)
def anchors(cfg: DictConfig) -> None:
    """Proposals of keyframes (anchors) for a data set, from an imperfect source or a generator."""
    make_anchors(cfg, anchor_source(cfg))


@main("prepare/encode", EncodeSettings)
def encode(cfg: DictConfig) -> None:
    """A folder of videos with captions, encoded."""
    encode_videos(cfg)


@main("prepare/embed", EmbedSettings)
def embed(cfg: DictConfig) -> None:
    """Prompts as tensor files."""
    embed_prompts(cfg)


@main("prepare/verify", VerifySettings)
def verify(cfg: DictConfig) -> None:
    """Looks for damage in a data set: exit code 0 clean, 1 damaged."""
    verify_folders(cfg)


COMMANDS = {"clip": clip, "shapes": shapes, "anchors": anchors, "encode": encode, "embed": embed, "verify": verify}


def prepare() -> None:
    """Runs the command named by the first argument."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in COMMANDS:
        del sys.argv[1]
        return COMMANDS[name]()
    usage = "\n".join(f"  {command:<8}{task.__doc__}" for command, task in COMMANDS.items())
    if name in ("--help", "-h"):
        print(f"python -m interp_refiner.prepare <command> [key=value ...]\n\n{usage}\n\n<command> --help says more.")
        return
    print(f"prepare {name}: expected {' | '.join(COMMANDS)}{suggestion(name, COMMANDS)}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    prepare()
