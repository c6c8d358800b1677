"""The attention benchmark, as its config describes it, at a small size."""

import pytest
import torch

from interp_refiner.model.attention.benchmark import figures
from interp_refiner.model.attention.flops import Flops
from tests.helpers import build


def test_each_kind_has_a_row_and_what_cannot_run_says_why():
    small = ["benchmark.cpu.grid=[3,4,4]", "benchmark.repeats=1", "benchmark.warmup=1"]
    result = build("benchmark", "attention", *small).run("cpu")
    rows = {row["attention"]: row for row in result["rows"]}
    assert result["tokens"] == 48
    assert rows["dense_sdpa"]["ratio"] == 1
    assert rows["dense_auto"]["kernel"] == "sdpa"
    assert rows["sparse_linear_10"]["kernel"] == "eager"
    assert "cudnn is for CUDA" in rows["dense_cudnn"]["error"]
    assert all(row["training_ms"] > 0 and row["forward_ms"] > 0 for row in rows.values() if "error" not in row)


def test_figures_are_operations_over_time():
    row = figures(Flops(linear=1e12, self_attention=2e12), forward=0.5, training=2.0)
    assert row["forward_ms"] == 500
    assert row["forward_tflops_per_s"] == 6
    assert row["training_tflops_per_s"] == (3 * 1 + 3.5 * 2) / 2  # what kernels execute


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_dense_and_sparse_run_at_a_tenth_of_the_full_length_on_a_gpu():
    small = ["benchmark.cuda.grid=[7,15,26]", "benchmark.repeats=2"]
    result = build("benchmark", "attention", *small, "~benchmark.attentions.sparse_linear_10_keys_64").run("cuda")
    rows = {row["attention"]: row for row in result["rows"]}
    for name in ("dense_sdpa", "dense_auto", "sparse_linear_10"):
        assert "error" not in rows[name], rows[name]
    assert rows["sparse_linear_10"]["kernel"] == "flex"
