"""The operator over flash-attn-4: the lists that the package gets, checked with a stand-in that computes from them."""

import os
import subprocess
import sys
from types import ModuleType
from typing import NamedTuple

import pytest
import torch

from interp_refiner.core import MissingExtra
from interp_refiner.model.attention import SparseLinear, backends
from interp_refiner.model.attention.blocks import block_attention, choose_blocks
from interp_refiner.model.attention.flash4 import flash4_attention, flash4_block_attention


class Lists(NamedTuple):
    mask_block_cnt: torch.Tensor
    mask_block_idx: torch.Tensor
    full_block_cnt: torch.Tensor | None = None
    full_block_idx: torch.Tensor | None = None
    block_size: tuple[int, int] | None = None


def rows_to_mask(lists, columns):
    """``[b, h, rows, columns]`` from the listed full blocks; indices must ascend and no block be partial."""
    assert lists.mask_block_cnt.sum() == 0
    assert lists.full_block_cnt.dtype == lists.full_block_idx.dtype == torch.int32
    mask = torch.zeros(*lists.full_block_cnt.shape, columns, dtype=torch.bool)
    for place in torch.cartesian_prod(*(torch.arange(size) for size in lists.full_block_cnt.shape)).tolist():
        index = lists.full_block_idx[tuple(place)][: lists.full_block_cnt[tuple(place)]]
        assert index.tolist() == sorted(index.tolist())
        mask[tuple(place)][index.long()] = True
    return mask


def scores_of(q, k, mask, block_size):
    """Scaled scores ``[b, h, n, l]`` of ``[b, h, n, d]``, minus infinity outside the listed blocks."""
    scores = q @ k.transpose(2, 3) / q.shape[3] ** 0.5
    if mask is None:
        return scores
    rows = mask.repeat_interleave(block_size[0], 2)[:, :, : q.shape[2]]
    return scores.masked_fill(~rows.repeat_interleave(block_size[1], 3)[..., : k.shape[2]], float("-inf"))


def forward(q, k, v, *, causal, block_sparse_tensors, return_lse):
    assert not causal
    assert return_lse
    lists, mask = block_sparse_tensors, None
    if lists is not None:
        mask = rows_to_mask(lists, -(-k.shape[1] // lists.block_size[1]))
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    scores = scores_of(q, k, mask, lists and lists.block_size)
    return (scores.softmax(3) @ v).transpose(1, 2).contiguous(), scores.logsumexp(3)


def backward(q, k, v, out, grad, lse, *, causal, block_sparse_tensors):
    """``dS = P (dP - rowsum(dO O))`` with ``P = exp(S - lse)``: FlashAttention-2, algorithm 2."""
    lists, mask = block_sparse_tensors, None
    if lists is not None:  # listed by key block
        mask = rows_to_mask(lists, -(-q.shape[1] // lists.block_size[0])).transpose(2, 3)
    q, k, v, out, grad = (x.transpose(1, 2) for x in (q, k, v, out, grad))
    p = (scores_of(q, k, mask, lists and lists.block_size) - lse.unsqueeze(3)).exp()
    ds = p * (grad @ v.transpose(2, 3) - (grad * out).sum(3, keepdim=True)) / q.shape[3] ** 0.5
    gradients = ds @ k, ds.transpose(2, 3) @ q, p.transpose(2, 3) @ grad
    return tuple(x.transpose(1, 2).contiguous() for x in gradients)


@pytest.fixture
def package(monkeypatch):
    interface, sparsity = ModuleType("interface"), ModuleType("block_sparsity")
    interface._flash_attn_fwd, interface._flash_attn_bwd = forward, backward
    sparsity.BlockSparseTensorsTorch = Lists
    for name, module in {
        "flash_attn": ModuleType("flash_attn"),
        "flash_attn.cute": ModuleType("flash_attn.cute"),
        "flash_attn.cute.interface": interface,
        "flash_attn.cute.block_sparsity": sparsity,
    }.items():
        monkeypatch.setitem(sys.modules, name, module)


def random_qkv(n, layout):
    generator = torch.Generator().manual_seed(0)
    shape = (2, n, 2, 8) if layout == "b n h d" else (2, 2, n, 8)
    return [torch.randn(shape, generator=generator).requires_grad_() for _ in range(3)]


@pytest.mark.parametrize("n", [24, 29], ids=["whole blocks", "short last block"])
def test_kept_blocks_are_listed_by_query_forward_and_by_key_backward(package, n):
    q, k, v = random_qkv(n, "b h n d")
    kept = choose_blocks(q, k, 0.4, 8, 4)
    assert 0 < kept.mask.float().mean() < 0.6
    grad = torch.randn(q.shape, generator=torch.Generator().manual_seed(1))
    actual, expected = (attend(q, k, v, kept) for attend in (flash4_block_attention, block_attention))
    torch.testing.assert_close(actual, expected)
    actual, expected = (torch.autograd.grad(out, (q, k, v), grad) for out in (actual, expected))
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e)


def test_dense_needs_no_lists(package):
    q, k, v = random_qkv(24, "b n h d")
    expected = backends.BACKENDS["sdpa"].attend(q, k, v)
    out = flash4_attention(q, k, v)
    torch.testing.assert_close(out, expected)
    actual, expected = (torch.autograd.grad(x.square().sum(), (q, k, v)) for x in (out, expected))
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e)


COMPILE = """
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from interp_refiner.model.attention import flash4

forward, backward = flash4._flash4._init_fn, flash4._flash4_backward._init_fn  # the bodies, not their fakes
b, n, h, d, blocks, kept = 2, 1000, 3, 128, 8, 2
with FakeTensorMode(allow_non_fake_inputs=True):
    q, k, v, grad = (torch.empty(b, n, h, d, dtype=torch.bfloat16, device="cuda") for _ in range(4))
    keys, count, queries = (
        torch.empty(b, h, blocks, *last, dtype=torch.int32, device="cuda") for last in ((kept,), (), (blocks,))
    )
    for lists in ((None, None, None, 0, 0), (keys, count, queries, 128, 128)):
        out, lse = forward(q, k, v, *lists)
        gradients = backward(q, k, v, out, lse, grad, *lists[1:])
        assert [x.shape for x in (out, *gradients)] == [q.shape] * 4
        assert lse.shape == (b, h, n) and lse.dtype == torch.float32
"""


@pytest.mark.skipif(not backends.BACKENDS["flash4"].installed, reason="flash-attn-4 is not installed")
def test_the_package_compiles_for_hopper_what_it_is_handed():
    """Forward and backward, dense and over blocks: it compiles without a GPU, and checks shapes and block sizes."""
    target = {"FLASH_ATTENTION_ARCH": "sm_90", "CUTE_DSL_ARCH": "sm_90a", "FLASH_ATTENTION_NUM_SMS": "132"}
    done = subprocess.run([sys.executable, "-c", COMPILE], env={**os.environ, **target}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_missing_package_is_refused(monkeypatch):
    monkeypatch.setattr(backends, "_importable", lambda module: False)
    with pytest.raises(MissingExtra, match=r"backend=flash4 needs flash-attn-4.*interp_refiner\[flash4\]"):
        SparseLinear(backend="flash4")
