"""Compiled kernels of block attention against the exact reference."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.attention.flex_attention import BlockMask

from interp_refiner.core import BadValue
from interp_refiner.model.attention import Dense, SparseLinear, backends
from interp_refiner.model.attention.blocks import choose_blocks, listed, marked
from interp_refiner.model.attention.flex import block_mask, flex_block_attention
from interp_refiner.model.attention.sparse_linear import linear_attention
from tests.model.attention import loops
from tests.model.attention.workloads import small_work, work_of

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def test_the_mask_of_flex_attention_lists_every_kept_block_once_and_as_full():
    q, k = torch.randn(2, 2, 3, 300, 16, generator=torch.Generator().manual_seed(0)).unbind()
    kept = choose_blocks(q, k, 0.4, 64, 32)
    mask = block_mask(kept, 300)
    assert mask.shape == (2, 3, 300, 300)
    assert torch.equal(mask.to_dense().bool(), kept.mask)
    assert mask.kv_num_blocks.sum() == mask.q_num_blocks.sum() == 0
    for key_block in range(10):
        for query_block, keys in enumerate(kept.index[1, 2].tolist()):
            count = mask.full_q_num_blocks[1, 2, key_block]
            queries = mask.full_q_indices[1, 2, key_block, :count].tolist()
            assert (query_block in queries) == (key_block in keys)


def test_columns_are_listed_as_by_a_stable_sort():
    mask = torch.rand(2, 3, 7, 11, generator=torch.Generator().manual_seed(0)) < torch.linspace(0, 1, 7)[:, None]
    count, index = listed(mask)
    assert torch.equal(count.long(), mask.sum(3))
    assert torch.equal(index.long(), mask.logical_not().int().argsort(dim=3, stable=True))
    assert torch.equal(marked(index[..., 3:], 11).sum(3), torch.full((2, 3, 7), 8))


def test_both_passes_of_flex_attention_read_the_lists_that_torch_makes():
    q, k = torch.randn(2, 2, 3, 300, 16, generator=torch.Generator().manual_seed(0)).unbind()
    mask = block_mask(choose_blocks(q, k, 0.4, 64, 32), 300)
    lists = {name: getattr(mask, name) for name in ("kv_num_blocks", "kv_indices")}
    lists |= {name: getattr(mask, name) for name in ("full_kv_num_blocks", "full_kv_indices")}
    other = BlockMask.from_kv_blocks(**lists, BLOCK_SIZE=mask.BLOCK_SIZE, seq_lengths=mask.seq_lengths)
    assert torch.equal(mask.full_q_num_blocks, other.full_q_num_blocks)
    assert torch.equal(mask.full_q_indices, other.full_q_indices)
    assert torch.equal(mask.q_num_blocks, other.q_num_blocks)


@pytest.mark.soak  # minutes of C++ compilation
@pytest.mark.parametrize("tokens", [256, 300], ids=["whole blocks", "short last block"])
def test_flex_attention_on_a_cpu_equals_the_reference(tokens):
    command = [sys.executable, "-m", "tests.model.attention.flex_on_cpu", str(tokens)]
    done = subprocess.run(command, cwd=Path(__file__).resolve().parents[3], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["error"] < 1e-5


def test_flex_attention_that_nothing_compiles_is_refused_not_dense():
    q, k, v = torch.randn(3, 1, 2, 96, 16, generator=torch.Generator().manual_seed(0)).unbind()
    kept = choose_blocks(q, k, 0.34, 32, 32)
    with (
        torch.compiler.set_stance("force_eager"),
        pytest.raises(BadValue, match=r"backend=flex: expected compiled code: .*TORCHDYNAMO_DISABLE"),
    ):
        flex_block_attention(q, k, v, kept)


@pytest.mark.parametrize(("block_k", "searches"), [(128, False), (64, True)])
def test_small_blocks_search_kernels_in_their_own_graphs_only(block_k, searches):
    before = torch._inductor.config.max_autotune
    attention = SparseLinear(backend="auto", block_k=block_k)
    attention.self_attention(128).prepare(small_work())
    assert bool(attention.compiler_options) == searches
    assert torch._inductor.config.max_autotune == before
    assert SparseLinear(backend="eager", block_k=block_k).compiler_options == {}


def relative_error(actual, expected):
    return float((actual.double() - expected.double()).norm() / expected.double().norm())


def on_cuda(n, dim=128, dtype=torch.bfloat16):
    generator = torch.Generator("cuda").manual_seed(0)
    return torch.randn(4, 2, n, 3, dim, generator=generator, device="cuda", dtype=dtype).unbind()


def outputs_and_gradients(attention, inputs, grad, dtype, compiled=False):
    """Of a layer with a random projection, and the blocks it keeps in bfloat16."""
    torch.manual_seed(0)
    layer = attention.self_attention(inputs[0].shape[3]).cuda()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    layer.prepare(work_of(inputs[0].to(dtype)))
    options = attention.compiler_options or None
    attend = torch.compile(layer, dynamic=False, fullgraph=True, options=options) if compiled else layer
    leaves = [x.detach().to(dtype).requires_grad_() for x in inputs]
    out = attend(*leaves)
    return [out, *torch.autograd.grad(out, [*leaves, *layer.parameters()], grad.to(dtype))]


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize(
    ("n", "block_k", "compiled"),
    [
        pytest.param(1024, 128, False, id="whole blocks, layer by layer"),
        pytest.param(1024, 128, True, id="whole blocks, inside a compiled graph"),
        pytest.param(1000, 128, False, id="short last block, layer by layer"),
        pytest.param(1000, 128, True, id="short last block, inside a compiled graph"),
        pytest.param(1000, 64, True, id="small blocks"),  # once: its search for kernels takes long
    ],
)
def test_flex_attention_equals_the_reference_forward_and_backward(n, block_k, compiled):
    *inputs, grad = on_cuda(n)
    ratio = 0.25
    flex = SparseLinear(ratio, 128, block_k, backend="flex")
    eager = SparseLinear(ratio, 128, block_k, backend="eager")
    actual = outputs_and_gradients(flex, inputs, grad, torch.bfloat16, compiled)
    expected = outputs_and_gradients(eager, inputs, grad, torch.float32)
    for name, a, e in zip(("output", "dq", "dk", "dv", "dproj"), actual, expected, strict=True):
        assert relative_error(a, e) < 1e-2, name


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("n", [1024, 1000], ids=["whole blocks", "short last block"])
def test_flash_attention_4_equals_the_reference_forward_and_backward(n):
    if not backends.BACKENDS["flash4"].installed:
        pytest.skip("flash-attn-4 is not installed")
    block_q = 256 if torch.cuda.get_device_capability()[0] >= 10 else 128
    *inputs, grad = on_cuda(n)
    flash = SparseLinear(0.25, block_q, 128, backend="flash4")
    eager = SparseLinear(0.25, block_q, 128, backend="eager")
    actual = outputs_and_gradients(flash, inputs, grad, torch.bfloat16)
    expected = outputs_and_gradients(eager, inputs, grad, torch.float32)
    for name, a, e in zip(("output", "dq", "dk", "dv", "dproj"), actual, expected, strict=True):
        assert relative_error(a, e) < 1e-2, name


@pytest.mark.gpu
@on_gpu
def test_the_kept_blocks_on_a_gpu_are_those_on_a_cpu():
    q, k, _, _ = (x.transpose(1, 2) for x in on_cuda(1000, dtype=torch.float64))
    on_device, on_host = (choose_blocks(a, b, 0.25, 128, 64) for a, b in ((q, k), (q.cpu(), k.cpu())))
    assert torch.equal(on_device.index.cpu(), on_host.index)


@pytest.mark.parametrize(("n", "length"), [(21, 21), (21, 5)], ids=["among themselves", "to text"])
@pytest.mark.parametrize("backend", [name for name, backend in backends.BACKENDS.items() if backend.anywhere])
def test_dense_backends_for_every_device_equal_softmax_attention_forward_and_backward(backend, n, length):
    generator = torch.Generator().manual_seed(0)
    q, k, v, grad = (
        torch.randn(2, tokens, 3, 8, generator=generator, dtype=torch.float64, requires_grad=True)
        for tokens in (n, length, length, n)
    )
    layer = Dense(backend).self_attention(8)
    layer.prepare(work_of(q, k))
    assert layer.chosen == backend
    actual, expected = layer(q, k, v), loops.over_heads(loops.softmax_attention, q, k, v)
    torch.testing.assert_close(actual, expected)
    gradients = (torch.autograd.grad(out, (q, k, v), grad) for out in (actual, expected))
    for a, e in zip(*gradients, strict=True):
        torch.testing.assert_close(a, e)


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("name", [name for name, backend in backends.BACKENDS.items() if backend.installed])
def test_every_dense_backend_equals_softmax_attention(name):
    *inputs, grad = on_cuda(512)
    try:
        actual = outputs_and_gradients(Dense(name), inputs, grad, torch.bfloat16)
    except Exception as error:
        if backends.BACKENDS[name].module is None:  # torch's own, sdpa and cudnn: they have to run
            raise
        pytest.skip(f"{name} does not run on this device: {error}")
    expected = outputs_and_gradients(Dense("sdpa"), inputs, grad, torch.float32)
    for a, e in zip(actual, expected, strict=True):
        assert relative_error(a, e) < 1e-2


@pytest.mark.gpu
@on_gpu
def test_all_blocks_and_the_linear_branch_equal_dense_attention_plus_it():
    *inputs, grad = on_cuda(1000)
    flex = SparseLinear(1.0, 128, 128, backend="flex")
    actual = outputs_and_gradients(flex, inputs, grad, torch.bfloat16, compiled=True)
    q, k, v = (x.float().detach().requires_grad_() for x in inputs)
    torch.manual_seed(0)
    layer = flex.self_attention(128).cuda()  # the same projection
    torch.nn.init.normal_(layer.proj.weight, std=0.1)
    linear = linear_attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)
    expected = backends.BACKENDS["sdpa"].attend(q, k, v) + layer.proj(linear)
    gradients = torch.autograd.grad(expected, [q, k, v, layer.proj.weight], grad.float())
    for a, e in zip(actual, [expected, *gradients], strict=True):
        assert relative_error(a, e) < 1e-2


@pytest.mark.gpu
@on_gpu
def test_auto_names_a_backend_that_runs():
    backends.fastest.cache_clear()
    *inputs, grad = on_cuda(512)
    name = backends.fastest(work_of(inputs[0]))
    assert outputs_and_gradients(Dense(name), inputs, grad, torch.bfloat16)[0].isfinite().all()
