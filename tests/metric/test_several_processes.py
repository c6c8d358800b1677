"""Every metric gives on two processes, with unequal shares of the samples, what it gives on one."""

import pytest
import torch

from interp_refiner.metric import MissingFrameError
from tests.metric.processes import run_on_processes
from tests.metric.test_missing_frame import batch


def results(rows: list[slice]) -> dict[str, object]:
    """Every metric's result from these rows of the same samples."""
    missing_frame = MissingFrameError(4)
    for part in rows:
        missing_frame.update(**{name: value[part] for name, value in batch().items()})
    return {"missing_frame": missing_frame.compute()}


def share(rank: int, world_size: int) -> dict[str, object]:
    return results([[slice(0, 5), slice(5, 9)], [slice(9, 24)]][rank])


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
    for rank in run_on_processes(2, share):
        for name, result in alone.items():
            assert same(rank[name], result), name
