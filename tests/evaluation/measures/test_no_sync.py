"""Updates never wait for the device: no value read back, no result whose size depends on values."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from interp_refiner.evaluation.measures import (
    ErrorTable,
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


def updates() -> dict[str, tuple]:
    truth, known = moving_textures(4), every(4, 4, 13)
    estimate, level, index = linear(truth, 4), torch.ones(4, dtype=torch.long), torch.arange(4)
    clips = {"estimates": {"linear": estimate}, "clean": truth}
    of = {"known": known, "level": level, "sample": index}
    return {
        "missing_frame": (MissingFrameError(4), test_missing_frame.batch()),
        "error_table": (ErrorTable(test_error_table.METHODS, ["linear"]), test_error_table.batch()),
        "score_table": (ScoreTable(["linear"], []), clips | of),
        "realism": (Realism(["linear"]), clips | of),
        "frechet": (FrechetDistance(["linear"], [], RandomConvFeatures(2)), clips | {"sample": index}),
        "stochastic": (StochasticScores(4), test_stochastic.forecasts(spread=0.7, b=5)),
        "contract": (KeyframeContract(), {"output": estimate, "values": truth, "keyframes": known}),
        "maze": (MazeScores(test_maze.METHODS, ["linear"]), test_maze.batch()),
    }


class Synchronising(TorchDispatchMode):
    """Notes operators that make the host wait for values."""

    def __init__(self):
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in ("_local_scalar_dense", "nonzero", "masked_select", "unique_dim", "_unique2", "equal"):
            self.seen.append(name)
        if name in ("index", "index_put", "index_put_") and any(
            isinstance(i, torch.Tensor) and i.dtype == torch.bool for i in args[1]
        ):
            self.seen.append("boolean index")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", list(updates()))
def test_update_reads_no_value_back(name):
    metric, batch = updates()[name]
    with Synchronising() as mode:
        metric.update(**batch)
    assert mode.seen == []
    assert metric.compute()


def test_the_watch_sees_what_it_is_for():
    x = torch.rand(3)
    with Synchronising() as mode:
        x.sum().item()
        x[x > 0.5]
        x.nonzero()
    assert {"_local_scalar_dense", "boolean index", "nonzero"} <= set(mode.seen)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", list(updates()))
def test_update_never_waits_for_the_gpu(name):
    metric, batch = updates()[name]

    def moved(value):
        return {k: moved(v) for k, v in value.items()} if isinstance(value, dict) else value.cuda()

    on_gpu, metric = moved(batch), metric.cuda()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        metric.update(**on_gpu)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    on_host = updates()[name][0]
    on_host.update(**batch)
    assert_close(metric.compute(), on_host.compute())


def assert_close(a, b) -> None:
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_close(a[key], b[key])
    elif isinstance(a, list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_close(x, y)
    else:
        assert float(a) == pytest.approx(float(b), rel=2e-3, abs=1e-4)
