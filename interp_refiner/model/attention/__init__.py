"""Attention of tokens: dense, or sparse with a linear branch, by the fastest available kernel."""

from interp_refiner.model.attention.attention import Attention, AttentionLayer, Workload
from interp_refiner.model.attention.benchmark import AttentionBenchmark, Shape
from interp_refiner.model.attention.dense import Dense
from interp_refiner.model.attention.flops import Flops, attention_flops, linear_flops
from interp_refiner.model.attention.sparse_linear import SparseLinear
from interp_refiner.model.attention.tiles import TokenOrder, tile_order

__all__ = [
    "Attention",
    "AttentionBenchmark",
    "AttentionLayer",
    "Dense",
    "Flops",
    "Shape",
    "SparseLinear",
    "TokenOrder",
    "Workload",
    "attention_flops",
    "linear_flops",
    "tile_order",
]
