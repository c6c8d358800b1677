"""How long a function takes, on a host or on a GPU."""

import time
from collections.abc import Callable
from statistics import median

import torch


def median_seconds(function: Callable[[], object], device: torch.device | str, repeats: int, warmup: int = 1) -> float:
    """Median duration of ``function`` in seconds: CUDA events on a GPU, the clock elsewhere.

    Args:
        function: what is timed; it runs ``warmup + repeats`` times.
        device: where it computes.
        repeats: timed runs.
        warmup: runs before them, which hold compilation and the allocator's growth.
    """
    for _ in range(warmup):
        function()
    if torch.device(device).type != "cuda":
        return median(_clocked(function) for _ in range(repeats))
    torch.cuda.synchronize(device)
    return median(_between_events(function) for _ in range(repeats))


def _clocked(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _between_events(function: Callable[[], object]) -> float:
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    function()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3
