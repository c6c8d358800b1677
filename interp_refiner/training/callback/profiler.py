"""Profiles the time of a step."""

from typing import final

from lightning.pytorch.profilers import PyTorchProfiler

MARKERS = ("[pl]", "ProfilerStep", "Optimizer.")  # spans around operations: hooks, steps, all of an optimizer's step


@final
class OperationProfiler(PyTorchProfiler):
    """torch's profiler in Lightning's clothes, whose table is of operations, sorted by the time of each itself.

    Lightning's own sorts by total time only, so that its first rows are the hooks that contain all others.
    """

    AVAILABLE_SORT_KEYS = PyTorchProfiler.AVAILABLE_SORT_KEYS | {"self_cpu_time_total", "self_cuda_time_total"}

    def summary(self) -> str:
        """The table, without the spans that operations lie in."""
        whole = super().summary()  # which ends the recording
        if not self.function_events:
            return whole
        self.function_events[:] = [event for event in self.function_events if not event.name.startswith(MARKERS)]
        return super().summary()
