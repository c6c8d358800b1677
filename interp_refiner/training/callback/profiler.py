"""Profiles the time of a step."""

from typing import final

from lightning.pytorch.profilers import PyTorchProfiler

MARKERS = ("[pl]", "ProfilerStep", "Optimizer.")  # spans that contain operations: hooks, steps, a whole optimizer step


@final
class OperationProfiler(PyTorchProfiler):
    """Lightning's wrapper of torch's profiler, with a table of operations sorted by self time.

    Lightning's own table is sorted by total time, so its first rows are the hooks that contain everything else.
    """

    AVAILABLE_SORT_KEYS = PyTorchProfiler.AVAILABLE_SORT_KEYS | {"self_cpu_time_total", "self_cuda_time_total"}

    def summary(self) -> str:
        """The table without the spans that contain operations."""
        whole = super().summary()  # this call ends the recording
        if not self.function_events:
            return whole
        self.function_events[:] = [event for event in self.function_events if not event.name.startswith(MARKERS)]
        return super().summary()
