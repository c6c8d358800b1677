"""debug=profiler: a table of ten operations, sorted by their own time."""

import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from interp_refiner.config import build
from interp_refiner.training.callback import OperationProfiler
from tests.config.test_compose import composed


def test_it_takes_the_order_that_lightning_refuses(tmp_path):
    node = composed("train", "debug=profiler", f"paths.output_dir={tmp_path}").trainer.profiler
    profiler = build(node)
    assert isinstance(profiler, OperationProfiler)
    assert (profiler._sort_by_key, profiler._row_limit) == ("self_cpu_time_total", 10)


def test_an_order_that_torch_does_not_have_is_refused():
    with pytest.raises(MisconfigurationException, match="sort_by_key: age"):
        OperationProfiler(sort_by_key="age")


def test_the_table_is_of_operations_and_not_of_the_spans_around_them(tmp_path):
    profiler = OperationProfiler(sort_by_key="self_cpu_time_total", dirpath=tmp_path, schedule=None)
    weight = torch.nn.Parameter(torch.randn(8, 8))
    optimizer = torch.optim.AdamW([weight])
    profiler.setup(stage="fit")
    with profiler.profile("run_training_batch"), profiler.profile("[Strategy]SingleDeviceStrategy.training_step"):
        (torch.randn(4, 8) @ weight).square().sum().backward()
        optimizer.step()
    table = profiler.summary()
    assert "aten::mm" in table
    assert not [span for span in ("[pl]", "Optimizer.step", "ProfilerStep") if span in table]
    assert profiler.summary() == table
    profiler.teardown(stage="fit")
