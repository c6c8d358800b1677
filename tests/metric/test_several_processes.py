"""Every metric gives on two processes, with unequal shares of the samples, what it gives on one."""

import pytest
import torch

from interp_refiner.metric import Bootstrap, ErrorTable, MissingFrameError
from tests.metric import test_error_table, test_missing_frame
from tests.metric.processes import run_on_processes
from tests.metric.test_error_table import METHODS


def results(parts: list[slice]) -> dict[str, object]:
    """Every metric's result from these parts of the same samples."""
    missing_frame = MissingFrameError(4)
    error_table = ErrorTable(METHODS, ["linear"], Bootstrap(num_resamples=20))
    for part in parts:
        missing_frame.update(**{name: value[part] for name, value in test_missing_frame.batch().items()})
        error_table.update(**test_error_table.rows_of(part, test_error_table.batch(b=24)))
    metrics = {"missing_frame": missing_frame, "error_table": error_table}
    return {name: metric.compute() for name, metric in metrics.items()}


def shares(rank: int, world_size: int) -> list[dict[str, object]]:
    """Unequal shares, then everything on rank 1."""
    uneven = [[slice(0, 5), slice(5, 9)], [slice(9, 24)]]
    return [results(uneven[rank]), results([[], [slice(0, 24)]][rank])]


def same(a: object, b: object) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, torch.Tensor):
        return torch.allclose(a, b, rtol=1e-6, atol=0, equal_nan=True)
    return a == pytest.approx(b, rel=1e-6, nan_ok=True)


def test_two_processes_equal_one():
    alone = results([slice(0, 24)])
    for rank in run_on_processes(2, shares):
        for together in rank:
            for name, result in alone.items():
                assert same(together[name], result), name
