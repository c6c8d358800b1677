"""Paths on maps: drawings, measures and refusals."""

import pytest
import torch

from interp_refiner.core import BadValue, Clip, ClipSpec
from interp_refiner.data.codec import PatchDCT, as_frames
from interp_refiner.data.medium import Maze, Video, paths_on_maps
from interp_refiner.data.medium.maze import HEAD, SCALE, growing_path
from interp_refiner.evaluation.measures import standard
from tests.factories import corrupted_clip

MEAN, STD = [0.45, 0.55], [0.2, 0.25]
T = 9
PATHS = ClipSpec((2, T), context_shape=(4, 7, 7), latents_mean=MEAN, latents_std=STD)
VIDEOS = ClipSpec((16, 21, 4, 4))


def maze_batch(batch=4, size=7):
    generator = torch.Generator().manual_seed(3)
    context = torch.zeros(batch, 4, size, size)
    context[:, 0] = (torch.rand(batch, size, size, generator=generator) < 0.2).float()
    return corrupted_clip(space=(), channels=2, batch=batch, frames=21, context=context, text=None)[0]


def test_paths_are_measured_in_map_coordinates():
    c, medium = maze_batch(), Maze(None, PATHS)
    (path,) = medium.views(c.interpolation).values()
    raw = c.interpolation * torch.tensor(STD).view(2, 1) + torch.tensor(MEAN).view(2, 1)
    torch.testing.assert_close(path, raw)
    assert set(medium.domains) == {"latents", "paths"}
    assert [metric.domain for metric in standard(medium.domains)] == ["latents", "paths", "latents"]


def test_the_blurred_truth_is_the_mean_of_three_points_where_missing():
    c = maze_batch()
    soft = Maze(None, PATHS).blurred(c.clean, c.known)
    for b in range(4):
        for t in range(21):
            near = c.clean[b, :, [max(t - 1, 0), t, min(t + 1, 20)]].mean(1)
            expected = c.clean[b, :, t] if c.known[b, t] else near
            torch.testing.assert_close(soft[b, :, t], expected)


def test_a_path_grows_point_by_point():
    walls = torch.zeros(5, 7, dtype=torch.bool)
    walls[0, 3] = True
    row, columns = torch.full((T,), 0.5), torch.linspace(0.1, 0.9, T)
    video = growing_path(walls, torch.stack([row, columns]))
    assert video.shape == (3, T, 5 * SCALE, 7 * SCALE)
    middle = int(0.5 * 5 * SCALE)
    for t in range(T):
        column = int(columns[t] * 7 * SCALE)
        assert video[:, t, middle, column].tolist() == pytest.approx(HEAD)
        assert (video[:, t, middle, column + 4 :] == 1).all()  # what is still to come, beyond the dot
        if t > 0:
            assert (video[:, t, middle, 4 : column - 4] != 1).any(0).all()  # without a hole
    assert video[:, 0, 1, 3 * SCALE + 1].tolist() == pytest.approx([0.25] * 3)
    assert as_frames(video).shape[-1] == 3


def test_a_path_that_leaves_the_map_is_drawn_at_its_border():
    path = torch.tensor([[0.5, 0.5, 0.5], [0.5, 1.4, -0.3]])
    assert torch.isfinite(growing_path(torch.zeros(4, 4, dtype=torch.bool), path)).all()


def test_paths_have_their_rows_downwards():
    path = torch.stack([torch.linspace(0.1, 0.9, T), torch.linspace(0.2, 0.4, T)]).unsqueeze(0)
    known = (torch.arange(T) % 4 == 0).unsqueeze(0)
    (axes,) = paths_on_maps(torch.zeros(1, 5, 5, dtype=torch.bool), {"truth": path}, known, ["a maze"]).axes
    line, dots = axes.lines
    assert list(line.get_xdata()) == pytest.approx(path[0, 1].tolist())
    assert list(line.get_ydata()) == pytest.approx(path[0, 0].tolist())
    assert len(dots.get_xdata()) == 3
    assert axes.get_ylim() == (1, 0)
    assert axes.get_title() == "a maze"


def test_pictures_show_every_version():
    c, medium = maze_batch(batch=1), Maze(None, PATHS)
    shown = {"truth": c.clean, "linear": c.interpolation}, c.known[0], c.clip, "a title"
    sheet, film = medium.sheet(*shown), medium.film(*shown)
    assert min(sheet.size) > 200
    assert film.shape[0] == 21
    assert film.shape[2] >= 2 * 7 * SCALE


def test_other_clips_and_metrics_are_refused():
    medium = Maze(None, PATHS)
    with pytest.raises(
        BadValue, match=r"medium=maze: expected a medium for clips \[16, 21, 4, 4\], such as medium=video"
    ):
        Maze(None, VIDEOS)
    with pytest.raises(BadValue, match=r"medium=maze: expected a medium for clips \[2, 64\]"):
        Maze(None, ClipSpec((2, 64)))
    with pytest.raises(BadValue, match=r"medium=video: expected a medium for clips \[2, 64\], such as medium=maze"):
        Video(PatchDCT(), ClipSpec((2, 64), context_shape=(4, 21, 21)))
    still = torch.zeros(1, 2, T)
    with pytest.raises(BadValue, match="context=None: expected the maps"):
        medium.sheet({"truth": still}, torch.ones(T, dtype=torch.bool), Clip(still, ["a"]), "")
