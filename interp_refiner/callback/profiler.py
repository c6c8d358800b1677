"""Where the time of a step goes."""

from typing import final

from lightning.pytorch.profilers import PyTorchProfiler


@final
class OperationProfiler(PyTorchProfiler):
    """torch's profiler in Lightning's clothes, whose table may be sorted by the time of an operation itself.

    Sorted by total time, as Lightning allows, the first rows are Lightning's own hooks, which contain all others.
    """

    AVAILABLE_SORT_KEYS = PyTorchProfiler.AVAILABLE_SORT_KEYS | {"self_cpu_time_total", "self_cuda_time_total"}
