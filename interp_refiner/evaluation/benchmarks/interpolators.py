"""Evaluates every interpolator on held-out clips by gap: error, time, and correlation of confidence and error."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp_refiner.core import BadValue, Measure, at_least, check_least, masked_mean
from interp_refiner.data import ShardDataset, Writer
from interp_refiner.data.codec import Codec, declared_codec
from interp_refiner.evaluation.benchmarks.peers import Peer
from interp_refiner.evaluation.measures import paired_bootstrap, psnr, rank_correlation
from interp_refiner.evaluation.records.markdown import cell, markdown_table
from interp_refiner.forward.interpolator import InPixels, Interpolation, Interpolator, Learned, Linear

MEASURES = (
    Measure("ratio", "Missing-frame MSE relative to linear"),
    Measure("ratio_interval", "Its 95% interval, by the paired bootstrap over clips"),
    Measure("psnr", "PSNR of decoded missing frames against the decoded truth, dB", "higher", digits=2),
    Measure("ms", "CPU milliseconds per clip", digits=1),
    Measure("correlation", "Rank correlation of confidence and squared error at missing positions", digits=2),
)


@dataclass(frozen=True)
class HeldOutClips:
    """The first clips of a folder.

    Attributes:
        root, split: the clips are in the folder ``split`` below ``root``.
        count: number of clips.
        writer: makes the clips if they are missing; None if they exist.

    Raises:
        BadValue: fewer than 1 clip.
    """

    root: str
    split: str = "val"
    count: int = 64
    writer: Writer | None = None

    def __post_init__(self) -> None:
        check_least(self, count=1)

    @property
    def folder(self) -> Path:
        """The folder of the clips."""
        return Path(self.root).expanduser() / self.split

    def read(self) -> tuple[Float[Tensor, "b c t h w"], Codec]:
        """The clips in float32, and the codec that their data set declares."""
        if self.writer is not None:
            self.writer.write(self.folder.parent)
        data = ShardDataset(self.folder)
        clips = torch.stack([data[index].latents.float() for index in range(min(self.count, len(data)))])
        return clips, declared_codec(data.metadata.spec)


class InterpolatorBenchmark:
    """Interpolators x gaps on held-out clips.

    Keyframes are every ``gap`` frames from the first one on, and the frames between them are evaluated.

    Args:
        interpolators: by name. Those that cannot run are listed in the report: learned ones without a checkpoint, and
            pixel-space ones if the clips have no decoder.
        clips: the held-out clips.
        gaps: distances between neighbouring keyframes in frames, each at least 2.
        batch_size: clips at a time.
        threads: CPU threads.

    Raises:
        BadValue: a gap below 2 or longer than the clips, or no shards there.
    """

    def __init__(
        self,
        interpolators: Mapping[str, Interpolator],
        clips: HeldOutClips,
        gaps: Sequence[int] = (2, 3, 4, 5, 6, 7, 8, 10),
        batch_size: int = 8,
        threads: int = 1,
    ):
        at_least(1, batch_size=batch_size, threads=threads)
        if not gaps or min(gaps) < 2:
            raise BadValue("gaps", list(gaps), "gaps of at least 2 frames")
        self.interpolators, self.clips = dict(interpolators), clips
        self.gaps, self.batch_size, self.threads = list(gaps), batch_size, threads

    @torch.no_grad()
    def run(self, device: str) -> dict[str, Any]:
        """One row per interpolator and gap, with the :data:`MEASURES`, ``mse`` and ``improved_share``."""
        torch.set_num_threads(self.threads)
        clean, codec = self.clips.read()
        clean, codec = clean.to(device), codec.to(device)
        if max(self.gaps) >= clean.shape[2]:
            raise BadValue("gaps", self.gaps, f"gaps below the {clean.shape[2]} frames of a clip")
        left_out = {name: reason for name, i in self.interpolators.items() if (reason := unusable(i, codec))}
        taking_part = {n: i.with_codec(codec).to(device) for n, i in self.interpolators.items() if n not in left_out}
        rows = []
        for gap in self.gaps:
            known, missing = masks(clean, gap)
            reference = masked_mean(squared_error(Linear()(clean, known), clean).mean((2, 3)), missing)
            for name, interpolator in taking_part.items():
                filled, seconds = self.fill(interpolator, clean, known)
                figures = judge(filled, clean, missing, reference, codec)
                rows.append({"interpolator": name, "gap": gap, "ms": 1e3 * seconds / len(clean), **figures})
        return {
            "root": str(self.clips.folder), "shape": list(clean.shape), "threads": self.threads,
            "decoder": codec.caveat or codec.name, "left_out": left_out, "rows": rows,
        }  # fmt: skip

    def fill(
        self, interpolator: Interpolator, clean: Float[Tensor, "b c t h w"], known: Bool[Tensor, "b t"]
    ) -> tuple[Interpolation, float]:
        """Interpolates all clips in batches; also returns the seconds (CPU time, or wall time on a GPU)."""
        clock = time.perf_counter if clean.is_cuda else time.process_time
        parts = list(zip(clean.split(self.batch_size), known.split(self.batch_size), strict=True))
        interpolator(*parts[0])  # warm-up
        synchronise(clean)
        start = clock()
        filled = [interpolator(*part) for part in parts]
        synchronise(clean)
        seconds = clock() - start
        latents, confidence = torch.cat([f.latents for f in filled]), torch.cat([f.confidence for f in filled])
        return Interpolation(latents, confidence), seconds

    def markdown(self, result: dict[str, Any]) -> str:
        """A Markdown table of every figure, interpolators by gaps."""
        parts = [f"{result['shape'][0]} clips of `{result['shape'][1:]}`, decoder: {result['decoder']}."]
        parts += [f"Left out: {name}, {reason}." for name, reason in result["left_out"].items()]
        for measure in MEASURES:
            measured: dict[str, list[str]] = defaultdict(list)
            for row in result["rows"]:
                if row[measure.name] is not None:
                    measured[row["interpolator"]].append(cell(measure, row))
            table = [[name, *cells] for name, cells in measured.items() if len(cells) == len(self.gaps)]
            if table:
                parts.append(f"{measure.heading}:\n\n{markdown_table(['gap', *map(str, self.gaps)], table)}")
        return "\n\n".join(part.rstrip() for part in parts)


def unusable(interpolator: Interpolator, codec: Codec) -> str | None:
    """Why an interpolator cannot run here (missing weights, or pixels without a decoder); None if it can."""
    if isinstance(interpolator, Learned) and any(weight.requires_grad for weight in interpolator.parameters()):
        return "no checkpoint"
    if absent := next((part.absent for part in interpolator.modules() if isinstance(part, Peer) and part.absent), None):
        return absent
    in_pixels = any(isinstance(part, InPixels) for part in interpolator.modules())
    return "no decoder for its pixels" if in_pixels and codec.caveat else None


def masks(clean: Float[Tensor, "b c t h w"], gap: int) -> tuple[Bool[Tensor, "b t"], Bool[Tensor, "b t"]]:
    """Keyframes every ``gap`` frames, and the frames between two of them."""
    frame = torch.arange(clean.shape[2], device=clean.device)
    known = frame % gap == 0
    missing = ~known & (frame < (clean.shape[2] - 1) // gap * gap)
    return known.expand(len(clean), -1), missing.expand(len(clean), -1)


def squared_error(filled: Interpolation, clean: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b t h w"]:
    """The squared error at every position, averaged over channels."""
    return (filled.latents - clean).square().mean(1)


def judge(
    filled: Interpolation,
    clean: Float[Tensor, "b c t h w"],
    missing: Bool[Tensor, "b t"],
    reference: Float[Tensor, " b"],
    codec: Codec,
) -> dict[str, float | list[float] | None]:
    """The measurements of one interpolator at one gap; ``reference`` is linear interpolation's error of every clip.

    PSNR is None without a true decoder; the correlation is None if the confidence is constant.
    """
    error = squared_error(filled, clean)
    by_clip = masked_mean(error.mean((2, 3)), missing)
    confidence = filled.confidence.expand_as(error)
    decibels = None
    if not codec.caveat:
        decoded = psnr(codec.decode(filled.latents), codec.decode(clean))
        decibels = masked_mean(decoded, missing).mean().item()
    ratio = paired_bootstrap(by_clip, reference)
    return {
        "mse": by_clip.mean().item(),
        "ratio": ratio.value,
        "ratio_interval": [ratio.low, ratio.high],
        "improved_share": (by_clip < reference).float().mean().item(),
        "psnr": decibels,
        "correlation": rank_correlation(confidence[missing], error[missing]),
    }


def synchronise(like: Tensor) -> None:
    """Waits for the device if it is a GPU."""
    if like.is_cuda:
        torch.cuda.synchronize()
