"""Measures the project: ``python -m interp_refiner.benchmark benchmark=corruption`` prints one JSON object."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from interp_refiner.core import Clip
from interp_refiner.corruption import TRAIN_STREAM, Corruption
from interp_refiner.entry import Settings, build, conf_dir, keep_freed_memory, main, run_metadata


class CorruptionBenchmark:
    """Times the forward process for every mode, interpolator and dtype on random latents of mixed levels.

    The floor is drawing the noise once plus one read and one write of the batch, timed in turn with the corruption, so
    that the ratio holds on a machine whose speed drifts.

    Args:
        modes, interpolators: options of the groups ``corruption`` and ``interpolator``.
        dtypes: of the latents.
        shape: ``[b, c, t, h, w]``.
        threads: CPU threads.
        repeats: runs of each, of which the median is reported.
    """

    def __init__(
        self,
        modes: list[str],
        interpolators: list[str],
        dtypes: list[str],
        shape: list[int],
        threads: int = 1,
        repeats: int = 7,
    ):
        self.modes, self.interpolators, self.dtypes = modes, interpolators, dtypes
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
        return {"shape": self.shape, "threads": self.threads, "repeats": self.repeats, "rows": rows}


def alternating(
    first: Callable[[], object], second: Callable[[], object], repeats: int, warmup: int = 2
) -> tuple[float, float]:
    """Median seconds of two functions run in turn."""
    times: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats + warmup):
        for function, seconds in zip((first, second), times, strict=True):
            start = time.perf_counter()
            function()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if repeat >= warmup:
                seconds.append(time.perf_counter() - start)
    return median(times[0]), median(times[1])


def default_corruption(*overrides: str) -> Corruption:
    """The corruption that training builds under these overrides."""
    if not GlobalHydra.instance().is_initialized():
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return build(compose("train", overrides=list(overrides)).corruption)
    return build(compose("train", overrides=list(overrides)).corruption)


@main("benchmark", Settings)
def benchmark(cfg: DictConfig) -> None:
    """Runs one benchmark and prints its JSON; the same goes to ``benchmark.json`` in the run's folder."""
    keep_freed_memory()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    result = json.dumps({**build(cfg.benchmark).run(device), **run_metadata()}, indent=2)
    Path(cfg.paths.output_dir, "benchmark.json").write_text(result + "\n")
    print(result)


if __name__ == "__main__":
    benchmark()
