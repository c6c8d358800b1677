"""Times the forward process."""

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from statistics import median
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from torch.autograd.profiler import profile, record_function

from interp_refiner.config import build, conf_dir
from interp_refiner.core import BadValue, Clip, at_least, choice
from interp_refiner.data.codec import PatchDCT
from interp_refiner.forward.corruption import TRAIN_STREAM, Corruption
from interp_refiner.forward.interpolator import PART, Interpolator

KEYFRAMES = 4  # of the single clip that times the parts of an interpolator: the default's sparsest level
WARMUP = 2
DTYPES = ("float32", "bfloat16", "float16", "float64")


class CorruptionBenchmark:
    """Times the forward process for every mode, interpolator and dtype on random latents of mixed levels.

    The lower bound ("floor") is the time to draw the noise once plus one read and one write of the batch. It is timed
    alternately with the corruption, so that the ratio does not depend on drifts of the machine's speed. On a CPU the
    process's own time is measured, not wall time. Learned interpolators are timed untrained.

    Args:
        modes: options of the group ``corruption``.
        interpolators: options of the group ``interpolator``, each with its number of runs; the median is reported.
        clip_by_clip: the same for interpolators that need gigabytes per clip. They and their floor are timed on one
            clip.
        one_clip: interpolators that are also timed on one float32 clip with :data:`KEYFRAMES` keyframes, as a whole and
            part by part; each with its number of runs.
        dtypes: of the latents, some of :data:`DTYPES`.
        shape: ``[b, c, t, h, w]``.
        threads: CPU threads.

    Raises:
        BadValue: an unknown option or dtype, a shape that is not ``[b, c, t, h, w]`` or too short, or fewer than 1
            thread or run.
    """

    def __init__(
        self,
        modes: list[str],
        interpolators: dict[str, int],
        clip_by_clip: dict[str, int],
        one_clip: dict[str, int],
        dtypes: list[str],
        shape: list[int],
        threads: int = 1,
    ):
        for name, chosen, allowed in (
            ("modes", modes, options("corruption")),
            ("interpolators", interpolators, options("interpolator")),
            ("clip_by_clip", clip_by_clip, options("interpolator")),
            ("one_clip", one_clip, options("interpolator")),
            ("dtypes", dtypes, DTYPES),
        ):
            for value in chosen:
                choice(name, value, allowed)
        at_least(1, **{"threads": threads, **one_clip, **clip_by_clip, **interpolators})
        if len(shape) != 5 or min(shape) < 1 or shape[2] <= KEYFRAMES:
            raise BadValue("shape", shape, f"[b, c, t, h, w] with t above {KEYFRAMES}")
        self.batched, self.clip_by_clip, self.one_clip = interpolators, clip_by_clip, one_clip
        self.modes, self.dtypes, self.shape, self.threads = modes, dtypes, shape, threads

    def run(self, device: str) -> dict[str, Any]:
        """One row per mode, interpolator and dtype: milliseconds, bytes of the batch, ratio to the floor."""
        torch.set_num_threads(self.threads)
        rows = []
        for dtype in self.dtypes:
            latents = self.latents(self.shape).to(device, getattr(torch, dtype))
            for mode in self.modes:
                for members, batch in ((self.batched, latents), (self.clip_by_clip, latents[:1])):
                    for name, repeats in members.items():
                        figures = cost_of(default_corruption(mode, name), batch, repeats)
                        rows.append({"mode": mode, "interpolator": name, "dtype": dtype, **figures})
        one_clip = [self.parts(name, repeats, device) for name, repeats in self.one_clip.items()]
        load = os.getloadavg()[0] / (os.cpu_count() or 1)
        return {"shape": self.shape, "threads": self.threads, "load_per_core": load, "rows": rows, "one_clip": one_clip}

    @staticmethod
    def latents(shape: list[int]) -> torch.Tensor:
        """White noise, always the same."""
        return torch.randn(shape, generator=torch.Generator().manual_seed(0))

    def parts(self, name: str, repeats: int, device: str) -> dict[str, Any]:
        """Milliseconds of one interpolator on one clip with :data:`KEYFRAMES` keyframes, as a whole and by parts."""
        interpolator = default_corruption("none", name).interpolator.to(device)
        shape = [1, *self.shape[1:]]
        values = self.latents(shape).to(device)
        known = torch.zeros(1, shape[2], dtype=torch.bool)
        known[0, torch.linspace(0, shape[2] - 1, KEYFRAMES).round().long()] = True
        known = known.to(device)
        with torch.no_grad():
            _, cost = alternating(lambda: None, lambda: interpolator(values, known), repeats)
            runs = [shares(interpolator, values, known) for _ in range(repeats)]
        figures = {part: round(1e3 * cost * median(run[part] for run in runs), 2) for part in runs[0]}
        about = {"interpolator": name, "shape": shape, "keyframes": KEYFRAMES, "repeats": repeats}
        return {**about, "ms": round(1e3 * cost, 2), **figures}


def cost_of(corruption: Corruption, latents: torch.Tensor, repeats: int) -> dict[str, Any]:
    """The time of corrupting a batch, relative to the floor; levels are mixed, the sparsest first."""
    corruption.interpolator.to(latents.device)  # learned ones have weights
    size, levels = len(latents), corruption.num_levels(latents.shape[2])
    level = levels - torch.arange(size, device=latents.device) % levels
    clip = Clip(latents, [str(index) for index in range(size)], [0] * size, level=level)
    out = torch.empty_like(latents)

    def floor() -> None:
        torch.randn_like(latents)
        out.copy_(latents)

    least, cost = alternating(floor, lambda: corruption(clip, TRAIN_STREAM), repeats)
    return {
        "batch": size,
        "ms": round(1e3 * cost, 2),
        "floor_ms": round(1e3 * least, 2),
        "bytes": latents.numel() * latents.element_size(),
        "ratio": round(cost / least, 3),
        "repeats": repeats,
    }


def shares(interpolator: Interpolator, values: torch.Tensor, known: torch.Tensor) -> dict[str, float]:
    """The share of wall time that an interpolator spends on each part that it names by :data:`PART`."""
    with profile(use_kineto=False) as recorded, record_function(f"{PART}whole"):
        interpolator(values, known)
    spent = {event.key.removeprefix(PART): event.cpu_time_total for event in recorded.key_averages()}
    named = [event.key.removeprefix(PART) for event in recorded.key_averages() if event.key.startswith(PART)]
    return {part: spent[part] / spent["whole"] for part in named if part != "whole"}


def alternating(first: Callable[[], object], second: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median seconds of two functions run in turn: CPU time of the process, or on a GPU wall time.

    Up to :data:`WARMUP` warm-up runs come before; with one repeat, the second function has no warm-up.
    """
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    for _ in range(WARMUP):
        first()
    for _ in range(min(WARMUP, repeats - 1)):
        second()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for function, seconds in zip((first, second), times, strict=True):
            start = clock()
            function()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds.append(clock() - start)
    return median(times[0]), median(times[1])


def options(group: str) -> list[str]:
    """The options of a config group."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def default_corruption(mode: str, interpolator: str) -> Corruption:
    """The corruption as training builds it, with the embedded clips' codec; learned interpolators are untrained."""
    composing = nullcontext() if GlobalHydra.instance().is_initialized() else hydra_at_home()
    with composing:
        cfg = compose("train", overrides=[f"corruption={mode}", f"interpolator={interpolator}"])
    for key in [key for key in cfg.interpolator if OmegaConf.is_missing(cfg.interpolator, key)]:
        cfg.interpolator[key] = None
    return build(cfg.corruption).with_codec(PatchDCT())


def hydra_at_home() -> AbstractContextManager[None]:
    """Hydra over the project's own config groups."""
    return initialize_config_dir(str(conf_dir()), version_base="1.3")
