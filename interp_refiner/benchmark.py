"""Measures the project: ``python -m interp_refiner.benchmark benchmark=corruption`` prints one JSON object."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Protocol, runtime_checkable

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig
from torch.autograd.profiler import profile, record_function

from interp_refiner.core import BadValue, Clip
from interp_refiner.corruption import TRAIN_STREAM, Corruption
from interp_refiner.entry import Settings, build, conf_dir, keep_freed_memory, main, run_metadata
from interp_refiner.interpolator import PART, Interpolator

KEYFRAMES = 4  # of the one clip that an interpolator is timed on by its parts: the sparsest level of the defaults


class CorruptionBenchmark:
    """Times the forward process for every mode, interpolator and dtype on random latents of mixed levels.

    The floor is drawing the noise once plus one read and one write of the batch, timed in turn with the corruption, so
    that the ratio holds on a machine whose speed drifts. On a CPU the process's own time is taken, not the clock's.

    Args:
        modes, interpolators: options of the groups ``corruption`` and ``interpolator``.
        one_clip: options of ``interpolator`` that are also timed alone, on one float32 clip with :data:`KEYFRAMES`
            keyframes, and by their parts.
        dtypes: of the latents.
        shape: ``[b, c, t, h, w]``.
        threads: CPU threads.
        repeats: runs of each, of which the median is reported.

    Raises:
        BadValue: fewer than 1 thread or repeat.
    """

    def __init__(
        self,
        modes: list[str],
        interpolators: list[str],
        dtypes: list[str],
        shape: list[int],
        one_clip: Sequence[str] = (),
        threads: int = 1,
        repeats: int = 7,
    ):
        for name, number in {"threads": threads, "repeats": repeats}.items():
            if number < 1:
                raise BadValue(name, number, "at least 1")
        self.modes, self.interpolators, self.dtypes, self.one_clip = modes, interpolators, dtypes, one_clip
        self.shape, self.threads, self.repeats = shape, threads, repeats

    def run(self, device: str) -> dict[str, Any]:
        """One row per mode, interpolator and dtype: milliseconds, bytes of the batch, ratio to the floor."""
        torch.set_num_threads(self.threads)
        rows = []
        for dtype in self.dtypes:
            generator = torch.Generator().manual_seed(0)
            latents = torch.randn(self.shape, generator=generator).to(device, getattr(torch, dtype))
            levels = torch.arange(self.shape[0], device=device) % 4 + 1
            keys = [str(index) for index in range(self.shape[0])]
            clip = Clip(latents, keys, [0] * self.shape[0], level=levels)
            out = torch.empty_like(latents)
            for mode in self.modes:
                for interpolator in self.interpolators:
                    corruption = default_corruption(f"corruption={mode}", f"interpolator={interpolator}")

                    def floor(clip: Clip = clip, out: torch.Tensor = out) -> None:
                        torch.randn_like(clip.latents)
                        out.copy_(clip.latents)

                    def corrupt(clip: Clip = clip, corruption: Corruption = corruption) -> None:
                        corruption(clip, TRAIN_STREAM)

                    least, cost = alternating(floor, corrupt, self.repeats)
                    rows.append(
                        {
                            "mode": mode,
                            "interpolator": interpolator,
                            "dtype": dtype,
                            "ms": round(1e3 * cost, 2),
                            "floor_ms": round(1e3 * least, 2),
                            "bytes": latents.numel() * latents.element_size(),
                            "ratio": round(cost / least, 3),
                        }
                    )
        one_clip = [self.parts(name, device) for name in self.one_clip]
        settings = {"shape": self.shape, "threads": self.threads, "repeats": self.repeats}
        return {**settings, "rows": rows, "one_clip": one_clip}

    def parts(self, name: str, device: str) -> dict[str, Any]:
        """One interpolator on one clip with :data:`KEYFRAMES` keyframes: milliseconds, in all and of its parts."""
        interpolator = default_corruption(f"interpolator={name}").interpolator.to(device)
        shape = [1, *self.shape[1:]]
        values = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
        known = torch.zeros(1, shape[2], dtype=torch.bool)
        known[0, torch.linspace(0, shape[2] - 1, KEYFRAMES).round().long()] = True
        known = known.to(device)
        with torch.no_grad():
            _, cost = alternating(lambda: None, lambda: interpolator(values, known), self.repeats)
            runs = [shares(interpolator, values, known) for _ in range(self.repeats)]
        figures = {part: round(1e3 * cost * median(run[part] for run in runs), 2) for part in runs[0]}
        return {"interpolator": name, "shape": shape, "keyframes": KEYFRAMES, "ms": round(1e3 * cost, 2), **figures}


def shares(interpolator: Interpolator, values: torch.Tensor, known: torch.Tensor) -> dict[str, float]:
    """The share of one run that an interpolator spends on every part that it names by :data:`PART`, by the clock."""
    with profile(use_kineto=False) as recorded, record_function(f"{PART}whole"):
        interpolator(values, known)
    spent = {event.key.removeprefix(PART): event.cpu_time_total for event in recorded.key_averages()}
    named = [event.key.removeprefix(PART) for event in recorded.key_averages() if event.key.startswith(PART)]
    return {part: spent[part] / spent["whole"] for part in named if part != "whole"}


def alternating(
    first: Callable[[], object], second: Callable[[], object], repeats: int, warmup: int = 2
) -> tuple[float, float]:
    """Median seconds of two functions run in turn: of the CPU's own time, or on a GPU of the clock."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    times: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats + warmup):
        for function, seconds in zip((first, second), times, strict=True):
            start = clock()
            function()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if repeat >= warmup:
                seconds.append(clock() - start)
    return median(times[0]), median(times[1])


def default_corruption(*overrides: str) -> Corruption:
    """The corruption that training builds under these overrides."""
    if not GlobalHydra.instance().is_initialized():
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return build(compose("train", overrides=list(overrides)).corruption)
    return build(compose("train", overrides=list(overrides)).corruption)


@runtime_checkable
class HasTables(Protocol):
    """A benchmark whose result reads better as tables than as JSON."""

    def markdown(self, result: dict[str, Any]) -> str:
        """The tables."""


@main("benchmark", Settings)
def benchmark(cfg: DictConfig) -> None:
    """Runs one benchmark and prints its JSON, or its tables if it has any; the JSON goes to ``benchmark.json``, too."""
    keep_freed_memory()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    measure = build(cfg.benchmark)
    result = {**measure.run(device), **run_metadata()}
    Path(cfg.paths.output_dir, "benchmark.json").write_text(json.dumps(result, indent=2) + "\n")
    print(measure.markdown(result) if isinstance(measure, HasTables) else json.dumps(result, indent=2))


if __name__ == "__main__":
    benchmark()
