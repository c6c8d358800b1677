"""The refiner of paths: looks maps up where the interpolation is. What all backbones have in common: test_laws.py."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from interp_refiner.core import BadValue
from interp_refiner.model.attention import SparseLinear
from interp_refiner.model.backbone import MapView, Trajectory
from interp_refiner.model.backbone.trajectory import look_up, slope
from tests.helpers import cuda_sync_is_an_error
from tests.model.backbone.made import made
from tests.model.backbone.small_trajectory import MEAN, SIZES, SPEC, STD, path, perturbed, trajectory


def test_maps_are_looked_up_bilinearly():
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(2, 3, 5, 7, generator=generator)
    points = torch.rand(2, 2, 4, 6, generator=generator) * 1.2 - 0.1
    found = look_up(maps, points)
    assert found.shape == (2, 3, 4, 6)
    for b, k in np.ndindex(2, 3):
        where = points[b].double().numpy() * np.array([5, 7]).reshape(2, 1, 1) - 0.5  # in cells from the first centre
        expected = map_coordinates(maps[b, k].double().numpy(), where, order=1, mode="nearest")
        torch.testing.assert_close(found[b, k].double(), torch.from_numpy(expected), atol=1e-5, rtol=0)


def test_the_slope_of_a_plane_is_known():
    rows, columns = torch.meshgrid(torch.arange(5.0), torch.arange(6.0), indexing="ij")
    gradient = slope((3 * rows - 2 * columns)[None, None])
    assert torch.equal(gradient, torch.tensor([3.0, -2.0]).view(1, 2, 1, 1).expand(1, 2, 5, 6))


def test_start_and_goal_are_the_marked_cells():
    corrupted, _, cells = path()
    ends = trajectory()._ends(corrupted.clip.context, corrupted.x)
    expected = ((cells + 0.5) / 11 - torch.tensor(MEAN)) / torch.tensor(STD)
    torch.testing.assert_close(ends, expected.flatten(1)[:, :, None].expand(-1, -1, 21))


def test_the_window_is_the_neighbourhood_of_the_interpolated_point():
    corrupted, _, _ = path(batch=1)
    centre = (torch.tensor([4, 6]) + 0.5) / 11
    zbar = ((centre - torch.tensor(MEAN)) / torch.tensor(STD)).view(1, 2, 1).expand(1, 2, 21)
    model = trajectory()
    window = model._around(corrupted.clip.context, model._on_map(zbar))[0, 2:, 5].view(4, 3, 3)
    torch.testing.assert_close(window, corrupted.clip.context[0, :, 3:6, 5:8], atol=1e-5, rtol=0)


def test_the_order_of_points_matters():
    corrupted, _, _ = path()
    model = perturbed(trajectory())
    model.frame_numbers.out.weight.data.zero_()
    same = replace(corrupted, x=corrupted.x[:, :, :1].expand_as(corrupted.x), noise_profile=torch.zeros(3, 21))
    output = model(same)
    assert not torch.allclose(output[:, :, 3], output[:, :, 4], atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spec": replace(SPEC, latent_shape=(16, 21))}, "latent_channels=16: expected 2, the coordinates of a path"),
        ({"spec": replace(SPEC, context_shape=None)}, "context_channels=None: expected 4, the maps of a maze"),
        ({"num_heads": 5}, "num_heads=5: expected a divisor of dim=32"),
        ({"attention": SparseLinear(ratio=0.5)}, "attention=SparseLinear: expected dense"),
    ],
)
def test_other_data_and_sizes_are_refused(arguments, message):
    with pytest.raises(BadValue, match=message):
        made(Trajectory, **{"spec": SPEC, **SIZES, **arguments})
    with pytest.raises(BadValue, match="window=4: expected an odd number of cells"):
        MapView(window=4)
    with pytest.raises(BadValue, match=r"latent_shape=\[16, 21, 8, 14\]: expected \[2, t\], paths"):
        trajectory().check((16, 21, 8, 14))


def test_clips_without_maps_are_refused():
    corrupted, _, _ = path()
    with pytest.raises(BadValue, match="context=None: expected the maps of every path's maze"):
        trajectory()(replace(corrupted, clip=replace(corrupted.clip, context=None)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_nothing_waits_on_a_gpu():
    model, corrupted = trajectory().cuda(), path()[1](path()[0].clip.to("cuda"), "train")
    model(corrupted)  # what is allocated once
    with cuda_sync_is_an_error():
        model(corrupted)
