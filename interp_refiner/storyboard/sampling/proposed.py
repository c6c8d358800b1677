"""Writes generated keyframes as a storyboard with pictures, which the user can look at, edit and use."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from PIL import Image

from interp_refiner.config import given, next_command, print_notes, terminal, writable
from interp_refiner.core import BadValue
from interp_refiner.data.codec import as_frames, contact_sheet
from interp_refiner.storyboard.file.storyboard import ENTRIES, Storyboard, naming
from interp_refiner.storyboard.pipeline.drafting import Draft
from interp_refiner.storyboard.pipeline.pipeline import RefinerPipeline
from interp_refiner.storyboard.sampling.report import EMPTY
from interp_refiner.storyboard.sampling.video import board_of, read_board

KEPT = ("codec", "text", "device", "hydra.searchpath", "--config-dir")  # overrides that the next command needs
BOARD, SHEET = "board.yaml", "sheet.png"
HEAD = """\
# Keyframes that were generated from a prompt. Look at them, replace any picture, and continue with
# {command}
# At strength 0 the refiner may change a keyframe, at 1 it keeps it; a picture without a strength is kept bit for bit.
"""


def propose_keyframes(cfg: DictConfig, load: Callable[[], RefinerPipeline]) -> None:
    """Writes a storyboard whose generated keyframes are pictures, and a contact sheet of it.

    Args:
        cfg: of ``interp_refiner.prepare keyframes``.
        load: loads the pipeline to its device; called after the storyboard and the output are checked.

    Raises:
        BadValue: no keyframe to generate, an output that exists already, or an error of :func:`sample_video`.
    """
    board, output = board_of(cfg), writable("output", Path(cfg.output).expanduser())
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise BadValue("output", output, "a new or empty folder; this one is not empty")
    pipeline = load()
    with naming("storyboard", only=ENTRIES) if cfg.storyboard is not None else nullcontext():
        request, notes = read_board(pipeline, board, cfg.seed)
        draft = pipeline.draft(request)
        if not any(keyframe.generated for keyframe in draft.keyframes):
            raise BadValue("keyframes_at", board.keyframes_at, "times at which a keyframe is to be made")
    kept = [text for text in given() if text.lstrip("+").startswith(KEPT)]
    words = [f"checkpoint={cfg.checkpoint}", f"storyboard={output / BOARD}", "output=out.mp4", *kept]
    command = next_command("sample", *words)
    output.mkdir(parents=True, exist_ok=True)
    (output / BOARD).write_text(HEAD.format(command=command) + as_yaml(write_pictures(pipeline, board, draft, output)))
    print_notes(notes)
    terminal().print(f"{output}: {len(draft.keyframes)} keyframes, {SHEET} shows them\nnext: {command}", soft_wrap=True)


def write_pictures(pipeline: RefinerPipeline, board: Storyboard, draft: Draft, output: Path) -> dict[str, Any]:
    """Writes the generated keyframes and the sheet; returns the content of the storyboard.

    Entries that were in the storyboard before are kept, with the path of their file.
    """
    video = pipeline.decode(draft.corrupted.interpolation)
    frames, entries = as_frames(video).numpy(), []
    for placed in sorted(draft.plan.placed, key=lambda placed: placed.frame):
        keyframe = draft.keyframes[placed.index]
        if not keyframe.generated:
            entry = board.keyframes[placed.index]
            source = next(name for name in ("image", "clip", "video") if getattr(entry, name) is not None)
            entries.append(entry.model_dump(exclude_defaults=True) | {source: str(board.files[placed.index].resolve())})
            continue
        name = f"{placed.frame:05d}.png"
        Image.fromarray(frames[placed.frame]).save(output / name)
        strength = pipeline.trust if keyframe.strength is None else keyframe.strength
        entries.append({"image": name, "time": placed.frame, "strength": strength})
    known = draft.corrupted.known[0].cpu()[torch.tensor(draft.plan.grid.slots)]
    row = torch.where(known.view(1, -1, 1, 1), video, EMPTY)
    contact_sheet([row, video], ("keyframes", "interpolation"), known, board.prompt).save(output / SHEET)
    own = board.model_dump(exclude_defaults=True, exclude={"keyframes", "keyframes_at", "seconds"})
    return {**own, "frames": draft.plan.grid.num_frames, "keyframes": entries}


def as_yaml(content: dict[str, Any]) -> str:
    """A storyboard file: one line per setting and per keyframe; strings are written as in JSON."""

    def line(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)

    settings = [f"{name}: {line(value)}" for name, value in content.items() if name != "keyframes"]
    return "\n".join([*settings, "keyframes:", *(f"  - {line(entry)}" for entry in content["keyframes"])]) + "\n"
