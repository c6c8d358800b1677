"""Collisions along edges against dense sampling, and the figures of paths against slow loops."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp_refiner.core import BadValue, Clip
from interp_refiner.evaluation.measures import MazePaths, edge_collisions, endpoint_error, path_length
from tests.evaluation.measures.tables import records

METHODS = ["refined", "linear"]


def sampled_collision(walls: Tensor, p: Tensor, q: Tensor, steps: int = 4001) -> bool:
    """Looks up the cell at many points of an edge."""
    u = torch.linspace(0, 1, steps, dtype=torch.float64).unsqueeze(1)
    points = (1 - u) * p + u * q
    if ((points < 0) | (points > 1)).any():
        return True
    cell = (points * len(walls)).long().clamp(max=len(walls) - 1)
    return bool(walls[cell[:, 0], cell[:, 1]].any())


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(2, 9))
def test_equals_dense_sampling(seed, size):
    g = torch.Generator().manual_seed(seed)
    walls = torch.rand(1, size, size, generator=g) < 0.25
    path = torch.rand(1, 2, 4, generator=g) * 1.04 - 0.02
    exact = edge_collisions(walls, path)[0].tolist()
    for e in range(3):
        p, q = path[0, :, e].double(), path[0, :, e + 1].double()
        if sampled_collision(walls[0], p, q):
            assert exact[e]
        elif exact[e]:  # a corner cut between two of the sampled points
            assert sampled_collision(walls[0], p, q, steps=400_001)


def test_known_edges():
    walls = torch.zeros(1, 4, 4, dtype=torch.bool)
    walls[0, 1, 2] = True  # rows 0.25..0.5, columns 0.5..0.75
    edges = {
        ((0.3, 0.1), (0.3, 0.9)): True,  # along its row
        ((0.1, 0.6), (0.9, 0.6)): True,  # along its column
        ((0.1, 0.3), (0.9, 0.3)): False,  # the same with the axes exchanged
        ((0.3, 0.6), (0.4, 0.7)): True,  # inside
        ((0.3, 0.6), (0.3, 0.6)): True,  # standing still inside
        ((0.1, 0.1), (0.1, 0.1)): False,  # standing still outside
        ((0.25, 0.1), (0.25, 0.9)): False,  # along its border
        ((0.125, 0.375), (0.375, 0.125)): False,
        ((0.0, 0.25), (0.5, 0.75)): True,  # its diagonal
        ((0.25, 0.25), (0.75, 0.75)): False,  # through its corner
        ((0.1, 0.1), (0.1, 1.1)): True,  # leaves the map
    }
    for (p, q), expected in edges.items():
        path = torch.tensor([p, q]).T.unsqueeze(0)
        assert edge_collisions(walls, path).item() is expected, (p, q)
        assert edge_collisions(walls, path.flip(2)).item() is expected, (q, p)


def test_moves_between_open_cell_centres_are_free():
    g = torch.Generator().manual_seed(0)
    walls = torch.rand(1, 21, 21, generator=g) < 0.3
    free = (~walls[0]).nonzero().tolist()
    checked = 0
    for i, j in free:
        for di, dj in ((0, 1), (1, 0)):
            if [i + di, j + dj] in free:
                path = (torch.tensor([[i, i + di], [j, j + dj]]) + 0.5).unsqueeze(0) / 21
                assert not edge_collisions(walls, path).any()
                checked += 1
    assert checked > 100


@pytest.mark.parametrize("size", [3, 7, 21, 64])
def test_rounding_decides_nothing_on_borders(size):
    """Paths along every border and corner of a map of walls, moved by the rounding of float32 to either side."""
    walls = torch.ones(1, size, size, dtype=torch.bool)
    line = torch.arange(size + 1) / size
    for nudge in (-1, 0, 1):
        border = torch.nextafter(line, line + nudge)
        for k in border:
            along = torch.stack([k.expand(size + 1), line])[None]
            inside = edge_collisions(walls, along)[0]
            assert not inside.any()
            assert not edge_collisions(walls, along.flip(1)).any()
    across = torch.stack([line + 0.5 / size, line])[:, :-1][None]
    assert edge_collisions(walls, across).all()


def test_a_path_that_is_no_number_collides():
    walls = torch.zeros(1, 4, 4, dtype=torch.bool)
    for bad in (math.nan, math.inf, -math.inf):
        path = torch.full((1, 2, 4), 0.5)
        path[0, 1, 2] = bad
        assert edge_collisions(walls, path)[0].tolist() == [False, True, True]


def test_length_and_endpoints():
    square = torch.tensor([[[0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 1.0, 0.0]]])
    assert path_length(square).item() == 3.0
    moved = square.clone()
    moved[0, :, 0] += torch.tensor([0.3, 0.4])
    assert endpoint_error(moved, square).item() == pytest.approx(0.25)
    assert endpoint_error(square, square).item() == 0.0


def batch(b: int = 12, t: int = 10, seed: int = 0) -> dict[str, object]:
    g = torch.Generator().manual_seed(seed)
    clean = 0.2 + 0.6 * torch.rand(b, 2, t, generator=g)
    known = torch.rand(b, t, generator=g) < 0.3
    known[:, 4] = False
    scales = {"refined": 0.05, "linear": 0.08}
    estimates = {m: clean + s * torch.randn(clean.shape, generator=g) for m, s in scales.items()}
    walls = torch.rand(b, 8, 8, generator=g) < 0.03
    context = torch.stack([walls.float(), *torch.zeros(3, b, 8, 8)], 1)
    return {
        "estimates": estimates | {"truth": clean},
        "clean": clean,
        "clip": Clip(clean, [str(i) for i in range(b)], context=context),
        "known": known,
        "level": torch.randint(1, 3, (b,), generator=g),
        "sample": torch.arange(b),
    }


def scores(one: dict[str, object]) -> dict[int, dict[str, float]]:
    found = records(MazePaths(), one, baselines=["linear"])
    return {r["level"]: {name: figure["value"] for name, figure in r["values"].items()} for r in found}


def test_equals_the_definition():
    one = batch()
    found = scores(one)
    paths, walls = one["estimates"], one["clip"].context[:, 0].bool()
    for level in (1, 2):
        clips = [i for i in range(12) if one["level"][i] == level]
        error = {m: [] for m in METHODS}
        for i in clips:
            for m in METHODS:
                points = [
                    (paths[m] - one["clean"])[i, :, t].square().mean() for t in range(10) if not one["known"][i, t]
                ]
                error[m].append((sum(points) / len(points)).item())
        for m, path in paths.items():
            hits, lengths = [], []
            for i in clips:
                ends = [(path[i, :, t].double(), path[i, :, t + 1].double()) for t in range(9)]
                hits.append([sampled_collision(walls[i], p, q) for p, q in ends])
                lengths.append(sum(math.dist(p.tolist(), q.tolist()) for p, q in ends))
            assert found[level][f"paths_in_walls/{m}"] == pytest.approx(sum(any(h) for h in hits) / len(clips))
            assert found[level][f"edges_in_walls/{m}"] == pytest.approx(sum(sum(h) / 9 for h in hits) / len(clips))
            if m != "truth":
                true_lengths = sum(path_length(one["clean"][[i]]).item() for i in clips)
                assert found[level][f"length/{m}"] == pytest.approx(sum(lengths) / true_lengths, rel=1e-5)
                assert found[level][f"path_mse/{m}"] == pytest.approx(sum(error[m]) / len(clips), rel=1e-5)
        pairs = list(zip(error["refined"], error["linear"], strict=True))
        better, worse = sum(r < 0.99 * n for r, n in pairs), sum(r > 1.01 * n for r, n in pairs)
        assert found[level]["path_mse_ratio/refined/linear"] == pytest.approx(
            sum(error["refined"]) / sum(error["linear"])
        )
        assert found[level]["path_mse_better/refined/linear"] == pytest.approx(better / len(clips))
        assert found[level]["path_mse_worse/refined/linear"] == pytest.approx(worse / len(clips))


def test_zero_output_is_unchanged_and_the_truth_is_better():
    one = batch()
    one["estimates"]["refined"] = one["estimates"]["linear"]
    for figures in scores(one).values():
        assert figures["path_mse_ratio/refined/linear"] == 1.0
        assert figures["path_mse_better/refined/linear"] == figures["path_mse_worse/refined/linear"] == 0.0
    one["estimates"]["refined"] = one["clean"]
    for figures in scores(one).values():
        assert figures["path_mse/refined"] == figures["endpoint_error/refined"] == 0.0
        assert figures["path_mse_better/refined/linear"] == figures["length/refined"] == 1.0
        assert figures["paths_in_walls/refined"] == figures["paths_in_walls/truth"]


def test_clips_without_walls_are_refused():
    with pytest.raises(BadValue, match="clip=None: expected clips with the walls of their mazes"):
        scores(batch() | {"clip": None})
