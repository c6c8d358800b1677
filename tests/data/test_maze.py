"""Mazes obey their laws, paths are shortest, and a batch holds what was written."""

from collections import deque
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from interp_refiner.core import BadValue
from interp_refiner.data import BadSample, ClipSource, DatasetMetadata, ShardDataset, ShardedDataModule
from interp_refiner.data.maze import Maze, Mazes, shortest_path
from interp_refiner.evaluation.measures import edge_collisions
from tests.data.shards_on_disk import read_members, replace_member
from tests.factories import make_corruption

SMALL = {"num_train": 12, "num_val": 5, "num_points": 16, "size": 11, "min_distance": 5}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("maze")
    Mazes(**SMALL).write(folder)
    return folder


def steps(walls: np.ndarray, start: tuple[int, int], goal: tuple[int, int]) -> int:
    """Length of the shortest path by breadth-first search."""
    distance, queue = {start: 0}, deque([start])
    while queue:
        i, j = queue.popleft()
        for cell in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)):
            if not walls[cell] and cell not in distance:
                distance[cell] = distance[i, j] + 1
                queue.append(cell)
    return distance[goal]


def test_mazes_are_as_declared():
    mazes, shares = Mazes(), []
    for number in range(40):
        _, maze = mazes.maze("train", number)
        walls, cells = maze.walls, maze.cells
        assert walls.shape == (21, 21)
        assert walls[[0, -1]].all()
        assert walls[:, [0, -1]].all()
        shares.append(walls[1:-1, 1:-1].mean())
        (a, b), (c, d) = cells[0], cells[-1]
        assert abs(a - c) + abs(b - d) >= 10
        assert not any(walls[cell] for cell in cells)
        assert all(abs(i - k) + abs(j - m) == 1 for (i, j), (k, m) in pairwise(cells))
        assert len(cells) - 1 == steps(walls, cells[0], cells[-1])
    # 361 cells of probability uniform in 0.15..0.30: standard deviation of the mean over 40 mazes about 0.008
    assert np.mean(shares) == pytest.approx(0.225, abs=0.03)
    assert 0.06 < min(shares) < 0.2 < 0.25 < max(shares) < 0.4


def shortest_paths(walls: np.ndarray, start: tuple[int, int], goal: tuple[int, int]) -> list[list[tuple[int, int]]]:
    """All of them, by exhaustion."""
    length, found, paths = steps(walls, start, goal), [], [[start]]
    while paths:
        path = paths.pop()
        i, j = path[-1]
        if path[-1] == goal:
            found.append(path)
        elif len(path) <= length:
            paths += [[*path, n] for n in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)) if not walls[n]]
    return found


@pytest.mark.parametrize("seed", range(3))
def test_of_all_shortest_paths_it_is_the_one_nearest_to_the_straight_line(seed):
    walls = np.random.default_rng(seed).random((7, 7)) < 0.12
    walls[[0, -1]] = walls[:, [0, -1]] = True
    walls[1, 1] = walls[5, 4] = False
    start, goal = np.array([1, 1]), np.array([5, 4])

    def off_line(path):
        along = (goal - start) / np.linalg.norm(goal - start)
        return sum(np.linalg.norm((cell - start) - ((cell - start) @ along) * along) for cell in np.array(path))

    every = shortest_paths(walls, (1, 1), (5, 4))
    assert len(every) > 1
    path = shortest_path(walls, (1, 1), (5, 4))
    assert path in every
    assert off_line(path) == pytest.approx(min(map(off_line, every)))


@pytest.mark.parametrize("num_points", [2, 7, 64])
def test_points_stand_at_equal_arc_length(num_points):
    _, maze = Mazes().maze("val", 3)
    path = maze.path(num_points).double()
    corners = (torch.tensor(maze.cells) + 0.5).double() / 21
    torch.testing.assert_close(path[:, 0], corners[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(path[:, -1], corners[-1], atol=1e-6, rtol=0)
    for number, point in enumerate(path.T):
        walked = number / (num_points - 1) * (len(corners) - 1)  # in cells
        before = min(int(walked), len(corners) - 2)
        expected = corners[before] + (walked - before) * (corners[before + 1] - corners[before])
        torch.testing.assert_close(point, expected, atol=1e-6, rtol=0)
    assert num_points < 64 or not edge_collisions(torch.from_numpy(maze.walls)[None], path[None]).any()


def test_maps_against_a_slow_loop():
    _, maze = Mazes(**SMALL).maze("train", 1)
    walls, distance, start, goal = maze.maps()
    assert torch.equal(walls.bool(), torch.from_numpy(maze.walls))
    assert (start.nonzero().tolist(), goal.nonzero().tolist()) == ([list(maze.cells[0])], [list(maze.cells[-1])])
    for cell in np.ndindex(*maze.walls.shape):
        others = np.argwhere(maze.walls != maze.walls[cell])
        nearest = np.sqrt(((others - cell) ** 2).sum(1)).min()
        assert distance[cell].item() == pytest.approx(-nearest if maze.walls[cell] else nearest, rel=1e-5)


def test_mazes_are_a_function_of_seed_split_and_number():
    def walls(number=2, split="train", **settings):
        return Mazes(**{**SMALL, **settings}).maze(split, number)[1].walls

    assert np.array_equal(walls(), walls(num_train=500))
    for other in (walls(3), walls(split="val"), walls(seed=1)):
        assert not np.array_equal(walls(), other)


def test_what_is_read_is_what_was_made(root):
    dataset = ShardDataset(root / "val")
    metadata = dataset.metadata
    assert (metadata.layout, metadata.latent_shape, metadata.context_shape) == ("ct", (2, 16), (4, 11, 11))
    mean, std = (torch.tensor(v).view(2, 1) for v in (metadata.latents_mean, metadata.latents_std))
    for number in range(SMALL["num_val"]):
        key, maze = Mazes(**SMALL).maze("val", number)
        sample = dataset[number]
        assert sample.key == key
        torch.testing.assert_close(sample.latents * std + mean, maze.path(16))
        torch.testing.assert_close(sample.context.float(), maze.maps(), atol=2e-3, rtol=0)  # float16
    points = torch.cat([sample.latents for sample in (ShardDataset(root / "train")[i] for i in range(12))], 1)
    torch.testing.assert_close(points.mean(1), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(points.std(1), torch.ones(2), atol=1e-4, rtol=0)


def test_batches_bring_maps_along_at_every_level(root):
    clips = ClipSource(str(root), batch_size=5, val_batch_size=7)
    data = ShardedDataModule(clips.open(), make_corruption("schedule.counts=[8,4]"))
    maps = {key: maze.maps() for key, maze in (Mazes(**SMALL).maze(*split_number(n)) for n in range(17))}
    for loader in (data.train_dataloader(), data.val_dataloader()):
        clip = next(iter(loader))
        corrupted = data.on_after_batch_transfer(clip, 0)
        assert corrupted.clip.context.dtype == torch.float32
        assert corrupted.x.shape[1:] == (2, 16)
        for key, context in zip(clip.keys, corrupted.clip.context, strict=True):
            torch.testing.assert_close(context, maps[key], atol=2e-3, rtol=0)
    chosen = clip.select([1, 0])
    assert torch.equal(chosen.context, clip.context[[1, 0]])


def split_number(n: int) -> tuple[str, int]:
    return ("train", n) if n < 12 else ("val", n - 12)


def test_a_maze_without_its_maps_is_named(root, tmp_path):
    shard = tmp_path / "shard-00000.tar"
    shard.write_bytes((root / "val" / shard.name).read_bytes())
    replace(DatasetMetadata.load(root / "val"), num_samples=None).save(tmp_path)
    assert "val-000002.context.pt" in read_members(shard)
    replace_member(shard, "val-000002.context.pt", None)
    with pytest.raises(BadSample, match=r"val-000002.*no context member"):
        ShardDataset(tmp_path)


def test_another_context_than_declared_is_refused(root):
    declared = replace(DatasetMetadata.load(root / "val"), context_shape=(4, 11, 12))
    with pytest.raises(BadValue, match=r"val-000000: shape=\[4, 11, 11\]: expected the declared \[4, 11, 12\]"):
        list(next(Mazes(**SMALL).samples("val", 1)).members(declared))
    with pytest.raises(BadValue, match=r"val-000000\.context=None: expected a tensor of the declared shape"):
        list(replace(next(Mazes(**SMALL).samples("val", 1)), context=None).members(declared))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_val": 0}, "num_val=0: expected at least 1"),
        ({"size": 4}, "size=4: expected at least 5"),
        ({"wall_probability": [0.4, 0.3]}, r"wall_probability=\[0.4, 0.3\]: expected .* 0 <= least"),
        ({"wall_probability": [0.15, 0.6]}, r"wall_probability=\[0.15, 0.6\]: expected .* <= 0.5"),
        ({"min_distance": 12}, "min_distance=12: expected 1 to 11 cells"),
        ({"size": 5, "min_distance": 5}, "min_distance=5: expected 1 to 4 cells"),
    ],
)
def test_bad_settings_are_refused(arguments, message):
    with pytest.raises(BadValue, match=message):
        Mazes(**{**SMALL, **arguments})


def test_another_set_in_the_folder_is_refused(root):
    with pytest.raises(BadValue, match=r"an empty folder or maze of fingerprint .*min_distance=5 instead of 6"):
        Mazes(**{**SMALL, "min_distance": 6}).write(root)


def test_a_maze_of_one_corridor_has_known_maps():
    walls = np.ones((5, 5), bool)
    walls[2, 1:4] = False
    maps = Maze(walls, [(2, 1), (2, 2), (2, 3)]).maps()
    assert maps[1, 2].tolist() == [-1, 1, 1, 1, -1]
    assert maps[1, 0].tolist() == pytest.approx([-(5**0.5), -2, -2, -2, -(5**0.5)])


def test_the_largest_distance_is_found():
    _, maze = Mazes(**{**SMALL, "size": 5, "min_distance": 4}).maze("train", 0)
    assert {maze.cells[0], maze.cells[-1]} in ({(1, 1), (3, 3)}, {(1, 3), (3, 1)})
