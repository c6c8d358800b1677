"""Keyframe positions determine nearly all motion of a smooth world, and none of a random one."""

from dataclasses import replace

import pytest
import torch
from hydra.utils import instantiate
from torch import Tensor

from interp_refiner.core import BadValue, Draws
from interp_refiner.data.world import Bouncing, Gliding, Scene
from interp_refiner.evaluation import PositionOracle
from interp_refiner.evaluation.benchmarks.position_oracle import (
    DeviationNetwork,
    Paths,
    squared_error,
    straight_gaps,
    straight_lines,
)
from tests.helpers import group_config

KEYFRAMES = [0, 5, 10, 15, 20]
SMALL = {"counts": [5], "scenes": 600, "batch_size": 256}


def scene(number: int = 50) -> Scene:
    return Gliding().draw(Draws(0, "train", [str(i) for i in range(number)]), 21, 32, 56)


def ratio(world: Gliding, steps: int = 80) -> float:
    [row] = PositionOracle(world, steps=steps, **SMALL).run("cpu")["rows"]
    assert row["ratio_interval"][0] < row["ratio"] < row["ratio_interval"][1]
    return row["ratio"]


def test_smooth_motion_is_told_by_its_keyframes():
    assert ratio(Gliding(turn_probability=0.0)) < 0.7


def test_motion_by_chance_is_not():
    assert ratio(Gliding(turn_probability=1.0), steps=30) > 0.9


def test_an_untrained_network_draws_straight_lines():
    paths = Paths.of(scene())
    lines = straight_lines(paths, KEYFRAMES)
    assert torch.equal(DeviationNetwork(KEYFRAMES, 21)(paths), lines)
    torch.testing.assert_close(lines[:, KEYFRAMES], paths.position[:, KEYFRAMES])
    left, right = paths.position[:, 5], paths.position[:, 10]
    torch.testing.assert_close(lines[:, 7], 0.6 * left + 0.4 * right)


def test_the_network_sees_keyframes_only():
    network, paths = DeviationNetwork(KEYFRAMES, 21), Paths.of(scene())
    torch.nn.init.normal_(network.layers[-1].weight)
    other = paths.position + torch.randn_like(paths.position)
    other[:, KEYFRAMES] = paths.position[:, KEYFRAMES]
    torch.testing.assert_close(network(replace(paths, position=other)), network(paths))


def test_positions_are_relative_to_the_frame():
    drawn = scene(4)
    paths = Paths.of(replace(drawn, centre=torch.tensor([27.5, 15.5]).expand_as(drawn.centre)))
    assert not paths.position.any()
    assert paths.in_view.all()
    assert paths.radius.max() <= 0.2 * 2 * torch.tensor(0.015 * 20).exp()


def test_only_frames_in_view_count():
    paths = Paths.of(scene())
    off = paths.position + torch.tensor([3.0, 4.0])
    torch.testing.assert_close(squared_error(off, paths), 25.0 * paths.in_view.sum(1))


def test_mirrored_and_reversed_paths_are_as_long():
    generator = torch.Generator().manual_seed(0)
    paths = Paths.of(scene(1))
    more = paths.augmented(40, generator)

    def length(position: Tensor) -> Tensor:
        return position.diff(dim=1).norm(dim=-1).sum(1)

    known = length(paths.position)
    assert (length(more.position)[:, None] - known).abs().amin(1).max() < 1e-4
    assert more.position[:, 0].unique(dim=0).shape[0] > 12  # of three paths


def test_a_turn_makes_its_gap_crooked():
    """At a keyframe it lies in no gap; of an object that is not there it does not count."""
    steps = torch.tensor([2.0, 0.0]).expand(1, 3, 20, 2).clone()
    steps[:, 1, 7:] = torch.tensor([0.0, 2.0])  # object 1 turns in frame 7
    steps[:, 2, 15:] = torch.tensor([0.0, -2.0])  # object 2 in the keyframe 15
    crooked = replace(scene(1), centre=torch.cat([torch.zeros(1, 3, 1, 2), steps.cumsum(2)], 2))
    all_there = replace(crooked, present=torch.ones(1, 3, dtype=torch.bool))
    assert straight_gaps(all_there, 0.3, KEYFRAMES).tolist() == [[True, False, True, True]]
    without = replace(crooked, present=torch.tensor([[True, False, True]]))
    assert straight_gaps(without, 0.3, KEYFRAMES).all()
    smooth = replace(all_there, centre=scene(1).centre * 0 + circle(0.25))
    assert straight_gaps(smooth, 0.25, KEYFRAMES).all()
    assert not straight_gaps(smooth, 0.2, KEYFRAMES).any()


def circle(rate: float) -> Tensor:
    angle = rate * torch.arange(21)
    return 10 * torch.stack([angle.cos(), angle.sin()], -1)


def test_the_table_names_its_world():
    oracle = PositionOracle(Bouncing(), counts=[8], scenes=20, steps=1, batch_size=4)
    text = oracle.markdown(oracle.run("cpu"))
    assert "World bouncing, 60 paths." in text
    assert "\n| 8 | " in text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"counts": [21]}, r"counts=\[21\]: expected numbers of keyframes from 2 to 20"),
        ({"counts": []}, r"counts=\[\]: expected numbers of keyframes"),
        ({"scenes": 5}, "scenes=5: expected at least 10"),
        ({"steps": 0}, "steps=0: expected at least 1"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(BadValue, match=message):
        PositionOracle(Gliding(), **settings)


def test_its_option_composes_with_either_world():
    for world in (Gliding(), Bouncing()):
        config = group_config("benchmark", "position_oracle", f"data/world@benchmark.world={world.name}")
        assert instantiate(config, _convert_="all").world == world
