"""debug=profiler: a table of ten operations, sorted by their own time."""

import pytest
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from interp_refiner.callback import OperationProfiler
from interp_refiner.entry import build
from tests.config.test_compose import composed


def test_it_takes_the_order_that_lightning_refuses(tmp_path):
    node = composed("train", "debug=profiler", f"paths.output_dir={tmp_path}").trainer.profiler
    profiler = build(node)
    assert isinstance(profiler, OperationProfiler)
    assert (profiler._sort_by_key, profiler._row_limit) == ("self_cpu_time_total", 10)


def test_an_order_that_torch_does_not_have_is_refused():
    with pytest.raises(MisconfigurationException, match="sort_by_key: age"):
        OperationProfiler(sort_by_key="age")
