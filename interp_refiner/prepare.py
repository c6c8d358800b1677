"""Makes and checks data sets: ``python -m interp_refiner.prepare clip source=<clip.pth> output=<folder>``."""

import sys

from omegaconf import DictConfig

from interp_refiner.assemble import load_phase1, load_pipeline
from interp_refiner.config import build, main
from interp_refiner.core import device, suggestion
from interp_refiner.data.preparation import commands as data
from interp_refiner.data.preparation import settings
from interp_refiner.storyboard import naming
from interp_refiner.storyboard.sampling.proposed import propose_keyframes
from interp_refiner.storyboard.sampling.settings import KeyframesSettings
from interp_refiner.training.renoised_keyframes import anchor_source


@main("prepare/clip", settings.ClipSettings)
def clip(cfg: DictConfig) -> None:
    """Cuts one clip of Wan latents into windows."""
    data.cut_clip(cfg)


@main("prepare/shapes", settings.ShapesSettings)
def shapes(cfg: DictConfig) -> None:
    """Renders the embedded clips of moving shapes."""
    data.write_shapes(cfg)


@main("prepare/anchors", settings.AnchorSettings)
def anchors(cfg: DictConfig) -> None:
    """Makes keyframe proposals (anchors) for a data set, with an imperfect source or a generator."""
    with naming("checkpoint", "keyframes", only=()):
        source = anchor_source(cfg, lambda path: load_phase1(path).of_clips(build(cfg.data).open().spec).fitted)
    data.make_anchors(cfg, source)


@main("prepare/keyframes", KeyframesSettings)
def keyframes(cfg: DictConfig) -> None:
    """Generates keyframes from a prompt and writes them as a storyboard with pictures."""
    propose_keyframes(cfg, lambda: load_pipeline(cfg.checkpoint, cfg).to(device(cfg.device)))


@main("prepare/encode", settings.EncodeSettings)
def encode(cfg: DictConfig) -> None:
    """Encodes a folder of videos with captions as a data set."""
    data.encode_videos(cfg)


@main("prepare/embed", settings.EmbedSettings)
def embed(cfg: DictConfig) -> None:
    """Writes the embeddings of prompts as tensor files."""
    data.embed_prompts(cfg)


@main("prepare/verify", settings.VerifySettings)
def verify(cfg: DictConfig) -> None:
    """Checks a data set for damage; exit code 0 for clean, 1 for damaged."""
    data.verify_folders(cfg)


COMMANDS = {task.__name__: task for task in (clip, shapes, anchors, keyframes, encode, embed, verify)}


def prepare() -> None:
    """Runs the command named by the first argument."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in COMMANDS:
        del sys.argv[1]
        return COMMANDS[name]()
    if name in ("--help", "-h"):
        usage = "\n".join(f"  {command:<10}{task.__doc__}" for command, task in COMMANDS.items())
        print(f"python -m interp_refiner.prepare <command> [key=value ...]\n\n{usage}\n\n<command> --help says more.")
        return
    print(f"prepare {name}: expected {' | '.join(COMMANDS)}{suggestion(name, COMMANDS)}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    prepare()
