"""Costs, regrets and minima of block matching, against loops and known values."""

import pytest
import torch

from interp_refiner.forward.interpolator.block_matching import cheapest, displacements, matching_cost, read_at, regret


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_displacements_fill_the_window_row_by_row():
    grid = displacements(2, torch.zeros(())).view(2, 5, 5)
    axis = torch.arange(-2.0, 3)
    assert torch.equal(grid[0], axis.expand(5, 5))
    assert torch.equal(grid[1], axis.view(5, 1).expand(5, 5))


@pytest.mark.parametrize("block", [1, 2, 3])
def test_cost_is_the_mean_square_over_nine_blocks(block):
    left, right, radius = noise(2, 3, 6, 12), noise(2, 3, 6, 12, seed=1), 2
    cost = matching_cost(left, right, radius, block)
    rows, cols = 6 // block, 12 // block
    clamp = torch.Tensor.clamp
    y, x = torch.arange(6).view(6, 1), torch.arange(12)
    for v, (dx, dy) in enumerate(displacements(radius, left).T.long().tolist()):
        moved = right[:, :, clamp(y + dy, 0, 5), clamp(x + dx, 0, 11)]
        square = (left - moved).square().mean(1)
        means = square.view(2, rows, block, cols, block).mean((2, 4))
        for i in range(rows):
            for j in range(cols):
                nine = [
                    means[:, min(max(i + di, 0), rows - 1), min(max(j + dj, 0), cols - 1)]
                    for di in (-1, 0, 1)
                    for dj in (-1, 0, 1)
                ]
                torch.testing.assert_close(cost[:, v, i, j], torch.stack(nine).mean(0))


def test_reading_along_displacements_takes_the_nearest_block_inside():
    cost, step = noise(2, 4, 3, 5), 2 * noise(2, 2, 4, seed=1)
    read = read_at(cost, step)
    for n in range(2):
        for v in range(4):
            for i in range(3):
                for j in range(5):
                    x = min(max(round(j + step[n, 0, v].item()), 0), 4)
                    y = min(max(round(i + step[n, 1, v].item()), 0), 2)
                    assert read[n, v, i, j] == cost[n, v, y, x]


def test_regret_is_what_both_blocks_lose_against_their_best():
    cost, step = noise(1, 9, 7, 8).square(), displacements(1, torch.zeros(()))
    found = regret(cost, step)[0]
    ends = {
        (v, i, j): (i + dy, j + dx)
        for v, (dx, dy) in enumerate(step.T.long().tolist())
        for i in range(7)
        for j in range(8)
    }
    for (v, i, j), end in ends.items():
        if 2 <= i < 5 and 2 <= j < 6:  # blocks that meet no edge
            arriving = [cost[0, u, k, m] for (u, k, m), other in ends.items() if other == end]
            expected = 2 * cost[0, v, i, j] - cost[0, :, i, j].min() - min(arriving)
            torch.testing.assert_close(found[v, i, j], expected, atol=1e-5, rtol=1e-5)
    inside = found[:, 2:5, 2:6]
    assert inside.min() >= 0
    assert (inside == 0).any()


@pytest.mark.parametrize(("x", "y"), [(0.3, -1.4), (-2.0, 0.75), (1.49, 1.51)])
def test_the_minimum_of_a_parabola_is_found_between_positions(x, y):
    grid = displacements(3, torch.zeros(()))
    cost = 2 * (grid[0] - x) ** 2 + 0.5 * (grid[1] - y) ** 2 + 1
    found = cheapest(cost.view(1, 49, 1, 1).expand(2, -1, 3, 2), 3)
    torch.testing.assert_close(found, torch.tensor([x, y]).view(1, 2, 1, 1).expand(2, -1, 3, 2))


def test_standing_still_is_exact_and_the_window_is_never_left():
    grid = displacements(2, torch.zeros(()))
    near_zero = (grid[0] - 0.2).square() + grid[1].square()
    outside = (grid[0] - 5).square() + (grid[1] + 7).square()
    found = cheapest(torch.stack([near_zero, outside, torch.zeros(25)]).view(3, 25, 1, 1), 2).view(3, 2)
    assert found[0].tolist() == [0, 0]
    assert found[1].tolist() == [2, -2]
    assert found[2].isfinite().all()
