"""Every metric is the same on two processes, with unequal shares of the samples, as on one."""

import pytest
import torch

from interp_refiner.evaluation.measures import (
    SSIM,
    Batch,
    Frechet,
    FrechetDistance,
    KeyframeContract,
    MazePaths,
    MissingFrameError,
    RandomConvFeatures,
    Realism,
    SeveralSamples,
    SquaredError,
)
from tests.evaluation.measures import test_error_table, test_maze, test_missing_frame, test_stochastic
from tests.evaluation.measures.moving import every, linear, moving_textures
from tests.evaluation.measures.processes import run_on_processes
from tests.evaluation.measures.tables import rows, table

B = 24


def results(parts: list[slice]) -> dict[str, object]:
    """Every metric's result from these parts of the same samples."""
    truth, known, index = moving_textures(B), every(4, B, 13), torch.arange(B)
    estimate, level = linear(truth, 4), torch.ones(B, dtype=torch.long)
    clips = {"estimates": {"linear": estimate}, "clean": truth, "known": known, "level": level, "sample": index}
    forecasts = test_stochastic.forecasts(spread=0.7, b=B)
    forecasts |= {"samples": forecasts["samples"].transpose(0, 1), "estimates": {"linear": forecasts["clean"]}}
    mazes = test_maze.batch(B)
    clip = mazes.pop("clip")
    tables = {
        "error": (table(SquaredError(), test_error_table.METHODS, ["linear"]), test_error_table.batch(B)),
        "score": (table(SSIM(), ["linear"]), clips),
        "realism": (table(Realism(), ["linear"]), clips),
        "contract": (table(KeyframeContract(), ["linear"]), clips | {"values": truth}),
    }
    missing_frame, frechet = MissingFrameError(4), FrechetDistance(["linear"], [], RandomConvFeatures(2))
    maze = table(MazePaths(), [*test_maze.METHODS, "truth"], ["linear"])
    stochastic, by_level = table(SeveralSamples(4, "linear"), ["linear"]), table(Frechet(), ["linear"])
    for part in parts:
        for one, batch in tables.values():
            one.update(Batch(**rows(batch, part)))
        missing_frame.update(**slice_of(part, test_missing_frame.batch(B)))
        frechet.update({"linear": estimate[part]}, truth[part], index[part])
        maze.update(Batch(**rows(mazes, part), clip=clip.select(list(range(B))[part])))
        some = rows(forecasts, part)
        stochastic.update(Batch(**some | {"samples": some["samples"].transpose(0, 1)}))
        for s in (1, 2):  # two processes see a level each
            n = index[part][(index[part] < 9) == (s == 1)]
            if len(n):
                by_level.update(Batch({"linear": estimate[n]}, truth[n], known[n], s * level[n], n))
    metrics = {name: one for name, (one, _) in tables.items()}
    metrics |= {"missing_frame": missing_frame, "frechet": frechet, "maze": maze}
    metrics |= {"stochastic": stochastic, "by_level": by_level}
    return {name: plain(metric.compute()) for name, metric in metrics.items()}


def plain(result: object) -> object:
    """Without how many clips a process has seen, where a table counts them on its own."""
    return [r._replace(clips=None) for r in result] if isinstance(result, list) else result


def slice_of(part: slice, batch: dict) -> dict:
    return {k: slice_of(part, v) if isinstance(v, dict) else v[part] for k, v in batch.items()}


def shares(rank: int, world_size: int) -> list[dict[str, object]]:
    """Unequal shares, then everything on rank 1."""
    uneven = [[slice(0, 5), slice(5, 9)], [slice(9, B)]]
    return [results(uneven[rank]), results([[], [slice(0, B)]][rank])]


def same(a: object, b: object) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, torch.Tensor):
        return torch.allclose(a, b, rtol=1e-6, atol=0, equal_nan=True)
    return a == (pytest.approx(b, rel=1e-6, nan_ok=True) if isinstance(b, float) else b)


@pytest.mark.xdist_group("processes")
def test_two_processes_equal_one():
    alone = results([slice(0, B)])
    assert all(alone.values())
    for rank in run_on_processes(2, shares):
        for together in rank:
            for name, result in alone.items():
                assert same(together[name], result), name
