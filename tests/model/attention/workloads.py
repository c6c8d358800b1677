"""Workloads for layers of attention."""

import torch

from interp_refiner.model.attention import Workload


def work_of(q, k=None, training=True):
    """That of queries ``[b, n, h, d]`` and keys, their own where there are no others."""
    (b, n, h, d), keys = q.shape, (q if k is None else k).shape[1]
    return Workload(b, n, keys, h, d, q.device, q.dtype, training)


def small_work(device="cpu", dtype=torch.float32, **sizes):
    settings = {"batch": 2, "queries": 48, "keys": 48, "heads": 2, "head_dim": 8, **sizes}
    return Workload(device=torch.device(device), dtype=dtype, **settings)
