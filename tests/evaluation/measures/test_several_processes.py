"""Every metric gives on two processes, with unequal shares of the samples, what it gives on one."""

import pytest
import torch

from interp_refiner.evaluation.measures import (
    Bootstrap,
    ErrorTable,
    FrechetByLevel,
    FrechetDistance,
    KeyframeContract,
    MazeScores,
    MissingFrameError,
    RandomConvFeatures,
    Realism,
    ScoreTable,
    StochasticScores,
)
from tests.evaluation.measures import test_error_table, test_maze, test_missing_frame, test_stochastic
from tests.evaluation.measures.moving import every, linear, moving_textures
from tests.evaluation.measures.processes import run_on_processes

B = 24
FEW = Bootstrap(num_resamples=20)


def results(parts: list[slice]) -> dict[str, object]:
    """Every metric's result from these parts of the same samples."""
    truth, known, index = moving_textures(B), every(4, B, 13), torch.arange(B)
    estimate, level = linear(truth, 4), torch.ones(B, dtype=torch.long)
    forecasts = test_stochastic.forecasts(spread=0.7, b=B)
    forecasts["samples"] = forecasts["samples"].transpose(0, 1)
    metrics = {
        "missing_frame": MissingFrameError(4),
        "error_table": ErrorTable(test_error_table.METHODS, ["linear"], bootstrap=FEW),
        "score_table": ScoreTable(["linear"], [], bootstrap=FEW),
        "maze": MazeScores(test_maze.METHODS, ["linear"], bootstrap=FEW),
        "stochastic": StochasticScores(4, FEW),
        "realism": Realism(["linear"], FEW),
        "frechet": FrechetDistance(["linear"], [], RandomConvFeatures(2)),
        "frechet_by_level": FrechetByLevel(["linear"], []),
        "contract": KeyframeContract(),
    }
    for part in parts:
        rows = slice_of(part, forecasts)
        metrics["missing_frame"].update(**slice_of(part, test_missing_frame.batch(B)))
        metrics["error_table"].update(**slice_of(part, test_error_table.batch(B)))
        metrics["maze"].update(**slice_of(part, test_maze.batch(B)))
        metrics["stochastic"].update(**rows | {"samples": rows["samples"].transpose(0, 1)})
        metrics["realism"].update({"linear": estimate[part]}, truth[part], known[part], level[part], index[part])
        metrics["frechet"].update({"linear": estimate[part]}, truth[part], index[part])
        metrics["score_table"].update({"linear": estimate[part]}, truth[part], known[part], level[part], index[part])
        for s in (1, 2):  # two processes see a level each
            n = index[part][(index[part] < 9) == (s == 1)]
            if len(n):
                metrics["frechet_by_level"].update({"linear": estimate[n]}, truth[n], known[n], s * level[n], n)
        metrics["contract"].update(estimate[part], truth[part], known[part])
    return {name: metric.compute() for name, metric in metrics.items()}


def slice_of(part: slice, batch: dict) -> dict:
    return {k: slice_of(part, v) if isinstance(v, dict) else v[part] for k, v in batch.items()}


def shares(rank: int, world_size: int) -> list[dict[str, object]]:
    """Unequal shares, then everything on rank 1."""
    uneven = [[slice(0, 5), slice(5, 9)], [slice(9, B)]]
    return [results(uneven[rank]), results([[], [slice(0, B)]][rank])]


def same(a: object, b: object) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, torch.Tensor):
        return torch.allclose(a, b, rtol=1e-6, atol=0, equal_nan=True)
    return a == pytest.approx(b, rel=1e-6, nan_ok=True)


def test_two_processes_equal_one():
    alone = results([slice(0, B)])
    assert all(alone.values())
    for rank in run_on_processes(2, shares):
        for together in rank:
            for name, result in alone.items():
                assert same(together[name], result), name
