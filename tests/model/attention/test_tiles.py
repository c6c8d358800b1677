"""The order of tokens by space-time tiles."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from interp_refiner.model.attention import SparseLinear, tile_order

sizes = st.tuples(*[st.integers(1, 7)] * 3)


@settings(max_examples=30)
@given(grid=sizes, tile=sizes)
def test_tiles_follow_one_another_in_raster_order_and_so_do_their_tokens(grid, tile):
    def key(index):
        place = [index // (grid[1] * grid[2]), index // grid[2] % grid[1], index % grid[2]]
        return [p // e for p, e in zip(place, tile, strict=True)] + place

    order = tile_order(grid, tile).tolist()
    assert order == sorted(range(grid[0] * grid[1] * grid[2]), key=key)


def test_undo_is_the_inverse_of_apply():
    order = SparseLinear(tile=[2, 3, 2]).order((5, 4, 7), torch.device("cpu"))
    tokens = torch.randn(2, 140, 3, generator=torch.Generator().manual_seed(0))
    moved = order.apply(tokens)
    assert not torch.equal(moved, tokens)
    assert torch.equal(order.undo(moved), tokens)
    assert torch.equal(moved[:, order.place], tokens)


def test_a_block_of_a_tile_is_more_compact_than_a_block_of_raster_rows():
    def extent(order):
        blocks = [torch.stack(torch.unravel_index(block, (8, 16, 16))).float() for block in order.split(128)]
        return torch.stack([places.std(1).norm() for places in blocks]).mean()

    assert extent(tile_order((8, 16, 16), (4, 8, 4))) < 0.7 * extent(torch.arange(8 * 16 * 16))


def test_an_order_made_for_sampling_serves_training():
    with torch.inference_mode():
        order = SparseLinear(tile=[2, 2, 2]).order((3, 3, 5), torch.device("cpu"))
    tokens = torch.randn(1, 45, 2, requires_grad=True)
    order.apply(tokens).square().sum().backward()
    assert torch.equal(tokens.grad, 2 * tokens)


class Operators(TorchDispatchMode):
    """The names of what ran."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_the_gradient_of_an_order_is_read_by_its_inverse_and_nothing_is_summed():
    order = SparseLinear(tile=[2, 2, 2]).order((3, 3, 5), torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(2, 45, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    for move, back in ((order.apply, order.undo), (order.undo, order.apply)):
        grad = torch.randn(2, 45, 3, generator=generator, dtype=torch.float64)
        with Operators() as ran:
            found = torch.autograd.grad(move(tokens), tokens, grad)[0]
        assert torch.equal(found, back(grad))
        assert "index_select" in ran.names
        assert not {name for name in ran.names if "add" in name or "put" in name or "scatter" in name}
    few = tokens.detach()[:1, :, :1].requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: order.apply(x).pow(3), (few,))


def test_raster_order_is_no_order():
    assert SparseLinear(tile=None).order((3, 3, 5), torch.device("cpu")) is None
