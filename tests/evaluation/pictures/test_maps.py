"""Maps of corrections show the numbers that they get."""

import pytest
import torch

from interp_refiner.evaluation import correction_map, maps_by_frame


def test_a_map_is_the_root_mean_square_over_channels():
    clip, zbar = torch.randn(2, 5, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    found = correction_map(clip, zbar)
    assert found.shape == (3, 4, 6)
    expected = sum((clip[c] - zbar[c]) ** 2 for c in range(5)) / 5
    torch.testing.assert_close(found, expected.sqrt())


def test_every_frame_of_every_map_is_drawn_on_one_scale():
    values = torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(1)) + 0.1
    known = torch.tensor([True, False, True])
    figure = maps_by_frame({"needed": 2 * values, "done": values}, known)
    pictures = [(axes, axes.get_images()[0]) for axes in figure.axes if axes.get_images()][:6]
    assert [picture.get_clim() for _, picture in pictures] == [(0.0, pytest.approx(2 * float(values.max())))] * 6
    torch.testing.assert_close(torch.as_tensor(pictures[4][1].get_array().data), values[1])
    colours = [axes.title.get_color() for axes, _ in pictures[:3]]
    assert colours[0] == colours[2] != colours[1]
    assert [axes.get_title() for axes, _ in pictures[:3]] == ["0", "1", "2"]
