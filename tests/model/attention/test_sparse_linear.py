"""Sparse-linear attention against its equations, forward and backward."""

import pytest
import torch

from interp_refiner.core import BadValue
from interp_refiner.model.attention import Dense, SparseLinear
from interp_refiner.model.attention.blocks import choose_blocks, pooled
from interp_refiner.model.attention.flash4 import check_flash4_blocks
from interp_refiner.model.attention.sparse_linear import linear_attention
from tests.model.attention import loops
from tests.model.attention.workloads import small_work, work_of


def random_qkv(n=27, batch=2, heads=2, dim=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, n, heads, dim)
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(3))


def make_layer(ratio, block_q=8, block_k=4, dim=6, std=0.5, seed=0):
    torch.manual_seed(seed)
    layer = SparseLinear(ratio, block_q, block_k).self_attention(dim).double()
    assert torch.equal(layer.proj.weight, torch.zeros(dim, dim).double())
    torch.nn.init.normal_(layer.proj.weight, std=std)
    layer.prepare(small_work(dtype=torch.float64))
    return layer


def dense(q, k, v):
    layer = Dense().self_attention(q.shape[3])
    layer.prepare(work_of(q))
    return layer(q, k, v)


@pytest.mark.parametrize("n", [24, 27], ids=["whole blocks", "short last block"])
def test_all_blocks_without_projection_is_dense_attention(n):
    q, k, v = random_qkv(n)
    torch.testing.assert_close(make_layer(1.0, std=0.0)(q, k, v), dense(q, k, v))
    torch.testing.assert_close(dense(q, k, v), loops.over_heads(loops.softmax_attention, q, k, v))


@pytest.mark.parametrize("n", [24, 27], ids=["whole blocks", "short last block"])
@pytest.mark.parametrize("ratio", [1.0, 0.4])
def test_output_is_the_sparse_plus_the_projected_linear_branch(n, ratio):
    q, k, v = random_qkv(n)
    layer = make_layer(ratio)

    def sparse(q, k, v):
        return loops.sparse_attention(q, k, v, ratio, 8, 4)

    expected = loops.over_heads(sparse, q, k, v)
    expected = expected + loops.over_heads(loops.linear_attention, q, k, v) @ layer.proj.weight.T
    torch.testing.assert_close(layer(q, k, v), expected)


def test_linear_branch_alone():
    q, k, v = random_qkv(seed=3)
    result = linear_attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)
    torch.testing.assert_close(result, loops.over_heads(loops.linear_attention, q, k, v))


@pytest.mark.parametrize(("ratio", "blocks"), [(0.1, (8, 4)), (0.3, (4, 8)), (0.5, (8, 8)), (1.0, (8, 4))])
def test_the_kept_blocks_are_those_of_the_highest_affinity(ratio, blocks):
    q, k, _ = random_qkv(45, seed=1)
    kept = choose_blocks(q.transpose(1, 2), k.transpose(1, 2), ratio, *blocks)
    for b in range(2):
        for h in range(2):
            expected = loops.kept_sets(q[b, :, h], k[b, :, h], ratio, *blocks)
            assert [row.tolist() for row in kept.index[b, h]] == [sorted(kept_set) for kept_set in expected]
            assert [set(row.nonzero()[:, 0].tolist()) for row in kept.mask[b, h]] == expected


def test_a_short_block_is_pooled_over_the_tokens_it_has():
    x = random_qkv(11)[0].detach().transpose(1, 2)
    expected = torch.stack([part.mean(2) for part in x.split(4, 2)], 2)
    torch.testing.assert_close(pooled(x, 4), expected)


@pytest.mark.parametrize("ratio", [0.4, 1.0])
def test_gradients_are_those_of_finite_differences(ratio):
    q, k, v = random_qkv(5, batch=1, dim=3)
    layer = make_layer(ratio, block_q=2, block_k=2, dim=3)

    def attend(q, k, v, weight):
        return torch.func.functional_call(layer, {"proj.weight": weight}, (q, k, v))

    assert torch.autograd.gradcheck(attend, (q, k, v, layer.proj.weight))


def test_gradients_stay_inside_the_kept_blocks():
    q, k, v = random_qkv(24, batch=1, heads=1)
    layer = make_layer(0.34, std=0.0)
    kept = loops.kept_sets(q[0, :, 0], k[0, :, 0], 0.34, 8, 4)[0]
    layer(q, k, v)[:, :8].square().sum().backward()  # the first block of queries alone
    touched = {j for j, rows in enumerate(v.grad[0].split(4)) if rows.abs().sum() > 0}
    assert touched == kept
    assert len(kept) == 2


def test_half_precision_stays_half_precision():
    q, k, v = (x.detach().bfloat16() for x in random_qkv())
    layer = make_layer(0.5).float()
    assert layer(q, k, v).dtype == torch.bfloat16
    assert layer.proj.weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ratio": 0.0}, "ratio=0.0: expected a share above 0"),
        ({"block_q": 100}, "block_q=100: expected a power of two"),
        ({"block_k": 0}, "block_k=0: expected a power of two"),
        ({"tile": [4, 0, 4]}, r"tile=\[4, 0, 4\]: expected three sizes"),
        ({"backend": "flx"}, "backend=flx: expected auto .*; did you mean 'flex'"),
        ({"cross_backend": "cudn"}, "did you mean 'cudnn'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(BadValue, match=message):
        SparseLinear(**settings)


@pytest.mark.parametrize("backend", ["flex", "flash4"])
def test_kernels_for_gpus_are_refused_on_a_cpu_not_replaced(backend, monkeypatch):
    monkeypatch.setattr("interp_refiner.model.attention.backends._importable", lambda module: True)
    layer = SparseLinear(backend=backend).self_attention(8)
    with pytest.raises(BadValue, match=f"backend={backend}: expected eager or auto on cpu"):
        layer.prepare(small_work())


@pytest.mark.parametrize(
    ("capability", "blocks", "message"),
    [
        ((9, 0), (256, 128), "block_q=256: expected 128 with backend=flash4 on compute capability 9.0"),
        ((9, 0), (128, 64), "block_k=64: expected 128"),
        ((10, 0), (128, 128), "block_q=128: expected 256"),
        ((8, 0), (128, 128), r"backend=flash4: expected flex on compute capability 8\.0"),
    ],
)
def test_blocks_that_flash4_has_no_kernel_for_are_refused(capability, blocks, message):
    with pytest.raises(BadValue, match=message):
        check_flash4_blocks(capability, *blocks)


def test_flash4_in_float32_is_refused(monkeypatch):
    monkeypatch.setattr("interp_refiner.model.attention.backends._importable", lambda module: True)
    layer = SparseLinear(backend="flash4").self_attention(8)
    with pytest.raises(BadValue, match=r"backend=flash4: expected flex or auto in torch.float32"):
        layer.prepare(small_work("cuda"))


def test_blocks_that_flash4_has_kernels_for_pass():
    check_flash4_blocks((9, 0), 128, 128)
    check_flash4_blocks((10, 3), 256, 128)
