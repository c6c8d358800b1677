"""Updates never wait for the device: they read no value back, and no size depends on values."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from interp_refiner.evaluation.measures import (
    SSIM,
    Batch,
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
from tests.evaluation.measures.tables import table


def updates() -> dict[str, tuple]:
    """Metrics with what they are updated with; of a table the fields of a batch."""
    truth, known = moving_textures(4), every(4, 4, 13)
    estimate, level, index = linear(truth, 4), torch.ones(4, dtype=torch.long), torch.arange(4)
    clips = {"estimates": {"linear": estimate}, "clean": truth}
    of = {"known": known, "level": level, "sample": index}
    samples = test_stochastic.forecasts(spread=0.7, b=5)
    return {
        "missing_frame": (MissingFrameError(4), test_missing_frame.batch()),
        "frechet": (FrechetDistance(["linear"], [], RandomConvFeatures(2)), clips | {"sample": index}),
        "error": (table(SquaredError(), test_error_table.METHODS, ["linear"]), test_error_table.batch()),
        "score": (table(SSIM(), ["linear"]), clips | of),
        "realism": (table(Realism(), ["linear"]), clips | of),
        "samples": (table(SeveralSamples(4, "a"), ["a"]), samples | {"estimates": {"a": samples["clean"]}}),
        "contract": (table(KeyframeContract(), ["linear"]), clips | of | {"values": truth}),
        "maze": (table(MazePaths(), test_maze.METHODS, ["linear"]), test_maze.batch()),
    }


def update(metric, batch: dict) -> None:
    """With a batch, or with its fields by name."""
    if isinstance(metric, MissingFrameError | FrechetDistance):
        metric.update(**batch)
    else:
        metric.update(Batch(**batch))


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
        update(metric, batch)
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
        if isinstance(value, dict):
            return {k: moved(v) for k, v in value.items()}
        return value.to("cuda")

    on_gpu, metric = moved(batch), metric.cuda()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        update(metric, on_gpu)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    on_host = updates()[name][0]
    update(on_host, batch)
    assert_close(metric.compute(), on_host.compute())


def assert_close(a, b) -> None:
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_close(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_close(x, y)
    elif a is None or isinstance(a, str):
        assert a == b
    else:
        assert float(a) == pytest.approx(float(b), rel=2e-3, abs=1e-4)
