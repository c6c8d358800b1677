"""VMAF, computed by ffmpeg's libvmaf."""

import json
import subprocess
import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import BadValue, Measure, MissingExtra
from interp_refiner.evaluation.measures.clip_table import FrameMetric

OTHER_FFMPEG = "IMAGEIO_FFMPEG_EXE"  # environment variable that gives imageio-ffmpeg another ffmpeg


def vmaf(estimate: Float[Tensor, "b 3 t h w"], clean: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b t"]:
    """Video Multimethod Assessment Fusion of every frame, 0 to 100, by libvmaf's default model (Netflix, 2016).

    The model was trained on 1080-line television and uses the motion of the *true* video. At other sizes, results rank
    methods but are not comparable across sizes. The first frame has no motion before it and may score a few points
    below 100 even if it is perfect. Runs on the host, clip by clip, on RGB in 0..1 rounded to 8 bits.

    Raises:
        MissingExtra, BadValue: see :func:`vmaf_ffmpeg`.
        RuntimeError: ffmpeg failed; contains its output.
    """
    ffmpeg = vmaf_ffmpeg()
    scores = [_clip_vmaf(x, y, ffmpeg) for x, y in zip(estimate.cpu(), clean.cpu(), strict=True)]
    return torch.tensor(scores, device=clean.device)


def vmaf_ffmpeg() -> str:
    """The path of an ffmpeg with libvmaf, such as imageio-ffmpeg's for Linux.

    Raises:
        MissingExtra: imageio-ffmpeg is not installed.
        BadValue: it has no ffmpeg for this machine, or the configured one is not an ffmpeg or lacks libvmaf.
    """
    if find_spec("imageio_ffmpeg") is None:
        raise MissingExtra("VMAF", "imageio-ffmpeg", "metrics")
    from imageio_ffmpeg import get_ffmpeg_exe

    try:
        ffmpeg = str(get_ffmpeg_exe())
    except RuntimeError:  # there is none
        ffmpeg = ""
    if "libvmaf" not in _filters(ffmpeg):
        raise BadValue(OTHER_FFMPEG, ffmpeg or None, "the path of an ffmpeg with the filter libvmaf, for VMAF")
    return ffmpeg


@cache
def _filters(ffmpeg: str) -> set[str]:
    """The names of the filters that an ffmpeg was built with."""
    try:
        done = subprocess.run([ffmpeg, "-hide_banner", "-filters"], capture_output=True, text=True, check=False)
    except OSError:  # no such program
        return set()
    return {line.split()[1] for line in done.stdout.splitlines() if len(line.split()) > 1}


def _clip_vmaf(estimate: Float[Tensor, "3 t h w"], clean: Float[Tensor, "3 t h w"], ffmpeg: str) -> list[float]:
    height, width = clean.shape[2:]
    raw = ["-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", f"{width}x{height}", "-framerate", "25"]
    with tempfile.TemporaryDirectory() as folder:
        inputs: list[str] = []
        for name, video in (("estimate.rgb", estimate), ("clean.rgb", clean)):
            pixels = (video.float().clamp(0, 1) * 255).round().byte().permute(1, 2, 3, 0).contiguous()
            Path(folder, name).write_bytes(pixels.numpy().tobytes())
            inputs += [*raw, "-i", name]
        filters = ["-lavfi", "libvmaf=log_fmt=json:log_path=scores.json", "-f", "null", "-"]
        command = [ffmpeg, "-hide_banner", "-loglevel", "error", *inputs, *filters]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"ffmpeg could not compute VMAF: {done.stderr.strip()}")
        frames = json.loads(Path(folder, "scores.json").read_text())["frames"]
    return [frame["metrics"]["vmaf"] for frame in frames]


@final
class VMAF(FrameMetric):
    """:func:`vmaf` of decoded missing frames; raises what :func:`vmaf_ffmpeg` raises."""

    measures = (Measure("vmaf", "VMAF", "higher", digits=1, compared="difference"),)

    def __init__(self) -> None:
        super().__init__()
        vmaf_ffmpeg()

    def forward(self, estimate: Float[Tensor, "b 3 t h w"], clean: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b t"]:
        return vmaf(estimate, clean)
