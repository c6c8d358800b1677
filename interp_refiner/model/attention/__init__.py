"""Attention of tokens: dense, or sparse with a linear branch, by the fastest available kernel."""

from interp_refiner.model.attention.attention import Attention, AttentionLayer, Workload
from interp_refiner.model.attention.backends import AUTO, portable
from interp_refiner.model.attention.benchmark import AttentionBenchmark, Shape
from interp_refiner.model.attention.dense import Dense, DenseLayer
from interp_refiner.model.attention.flops import Flops, attention_flops, linear_flops
from interp_refiner.model.attention.sparse_linear import SparseLinear, SparseLinearLayer
from interp_refiner.model.attention.tiles import TokenOrder, tile_order

__all__ = [
    "AUTO",
    "Attention",
    "AttentionBenchmark",
    "AttentionLayer",
    "Dense",
    "DenseLayer",
    "Flops",
    "Shape",
    "SparseLinear",
    "SparseLinearLayer",
    "TokenOrder",
    "Workload",
    "attention_flops",
    "linear_flops",
    "portable",
    "tile_order",
]
