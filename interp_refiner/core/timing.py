"""Measures durations on the host or on a GPU."""

import time
from collections.abc import Callable
from statistics import median

import torch


class Mark:
    """A point in time of a device: a CUDA event on a GPU, the clock elsewhere.

    Creating a mark does not wait for the device; measuring the time between two marks does.

    Args:
        device: the device.
    """

    def __init__(self, device: torch.device | str):
        self.time, self.event = time.perf_counter(), None
        if torch.device(device).type == "cuda":
            self.event = torch.cuda.Event(enable_timing=True)
            self.event.record(torch.cuda.current_stream(device))

    def seconds_until(self, later: "Mark") -> float:
        """Seconds of the device's time from this mark to a later one of the same device."""
        if self.event is None or later.event is None:
            return later.time - self.time
        later.event.synchronize()
        return self.event.elapsed_time(later.event) / 1e3


def median_seconds(function: Callable[[], object], device: torch.device | str, repeats: int, warmup: int = 1) -> float:
    """Median duration of ``function`` in seconds: CUDA events on a GPU, the clock elsewhere.

    Args:
        function: the timed function; it runs ``warmup + repeats`` times.
        device: the device that it computes on.
        repeats: timed runs.
        warmup: runs before them, for compilation and the allocator's growth.
    """
    for _ in range(warmup):
        function()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return median(_seconds(function, device) for _ in range(repeats))


def _seconds(function: Callable[[], object], device: torch.device | str) -> float:
    start = Mark(device)
    function()
    return start.seconds_until(Mark(device))
