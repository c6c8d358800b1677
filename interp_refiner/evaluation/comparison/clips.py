"""The clips that a report shows: best, median and worst of a run's evaluation, else those of its last validation."""

import base64
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image

from interp_refiner.core import BadValue, from_stored, read_stored
from interp_refiner.data.codec import HEAD, panel_size, write_mp4
from interp_refiner.evaluation.comparison.run_folder import RunFolder

CRF = 24  # small enough for a page with dozens of videos
SHEET_WIDTH, SHEET_COLOURS = 1600, 128  # of pictures beside the Markdown


@dataclass(frozen=True)
class ClipVideo:
    """A side-by-side video.

    Attributes:
        title: ``best``, ``median``, ``worst``; or its origin.
        caption: the clip and its error.
        mp4: the file's bytes.
        videos: names of the videos from left to right; empty if the labels are in the picture.
    """

    title: str
    caption: str
    mp4: bytes
    videos: list[str] = field(default_factory=list)

    @property
    def uri(self) -> str:
        """The video inside a page."""
        return f"data:video/mp4;base64,{base64.b64encode(self.mp4).decode()}"


def clips_of(run: RunFolder) -> list[ClipVideo]:
    """The videos of a run; empty if it has none yet."""
    if run.evaluated_in is not None and (evaluated := list(_evaluated(run.evaluated_in))):
        return evaluated
    for path in sorted((run.path / "samples").glob("step_*.mp4"), reverse=True):
        if frames_of(path) is not None:
            step = int(path.stem.removeprefix("step_"))
            return [ClipVideo(f"after {step} steps", "held-out clips of the sparsest level", path.read_bytes())]
    return []


def sheet_of(run: RunFolder) -> Image.Image | None:
    """The same clips as a contact sheet, in few colours."""
    evaluated = [run.evaluated_in / "clips.png"] if run.evaluated_in is not None else []
    for path in [*evaluated, *sorted((run.path / "samples").glob("step_*.png"), reverse=True)]:
        try:
            sheet = Image.open(path).convert("RGB")
        except OSError:  # not there, or half written
            continue
        sheet.thumbnail((SHEET_WIDTH, sheet.height))
        return sheet.quantize(SHEET_COLOURS)
    return None


@dataclass(frozen=True)
class _Chosen:
    """A clip in ``clips.json``; ``frame_size`` is that of one video, None if the labels are in the picture."""

    key: str
    level: int
    ratio: float
    videos: list[str] = field(default_factory=list)
    frame_size: list[int] | None = None


def _evaluated(folder: Path) -> Iterator[ClipVideo]:
    try:
        told = read_stored("runs", folder / "clips.json", dict)
        chosen = {name: from_stored(_Chosen, clip) for name, clip in told.items()}
    except (BadValue, TypeError):  # not there, half written or damaged
        return
    for name, clip in chosen.items():
        found = frames_of(folder / f"{name}.mp4")
        if found is None:
            continue
        frames, fps = found
        caption = f"{clip.key}, level {clip.level}: MSE / linear {clip.ratio:.2f}"
        if clip.frame_size is None or len(clip.frame_size) != 2:
            yield ClipVideo(name, caption, _encoded(frames, fps))
            continue
        height, width = panel_size(*clip.frame_size)
        panels = frames[:, HEAD : HEAD + height, : len(clip.videos) * width]
        yield ClipVideo(name, caption, _encoded(panels, fps), clip.videos)


def frames_of(path: Path) -> tuple[np.ndarray, float] | None:
    """A video's frames ``[t, h, w, 3]`` and its frame rate; None for an incomplete file."""
    try:
        with av.open(str(path)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
            return np.stack(frames), float(container.streams.video[0].average_rate or 8)
    except (av.error.FFmpegError, OSError, ValueError, IndexError):
        return None


def _encoded(frames: np.ndarray, fps: float) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return write_mp4(Path(folder) / "clip.mp4", torch.from_numpy(frames), fps, crf=CRF).read_bytes()
