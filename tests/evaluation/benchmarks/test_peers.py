"""Methods of others: they follow motion, and read keyframes only."""

import pytest
import torch
from hydra import compose, initialize_config_dir

from interp_refiner.config import build
from interp_refiner.core import BadValue, neighbours
from interp_refiner.data.codec import PatchDCT
from interp_refiner.evaluation.benchmarks.interpolators import unusable
from interp_refiner.evaluation.benchmarks.peers import NETWORK, Minterpolate, TwoFrameNetwork, gaps
from interp_refiner.forward.interpolator import Linear
from tests.helpers import CONF


def moving_square(frames=9, speed=2, seed=0):
    """``[1, 3, t, 32, 56]``: a textured square that moves to the right over a smooth background."""
    texture = 0.6 + 0.4 * torch.rand(3, 10, 10, generator=torch.Generator().manual_seed(seed))
    background = 0.25 + 0.08 * torch.sin(torch.arange(56) / 9)
    video = background.expand(1, 3, frames, 32, 56).clone()
    for frame in range(frames):
        video[0, :, frame, 10:20, 3 + speed * frame : 13 + speed * frame] = texture
    return video


def hidden(video, known):
    return torch.where(known.view(1, 1, -1, 1, 1), video, torch.nan)


def test_gaps_are_found_by_length():
    known = torch.tensor([[1, 0, 0, 1, 1, 0, 1], [0, 1, 0, 1, 0, 0, 0]]).bool()
    assert gaps(neighbours(known)) == {3: [(0, 0, 3)], 2: [(0, 4, 6), (1, 1, 3)]}


def test_minterpolate_moves_what_moves_and_reads_keyframes_only():
    video = moving_square()
    known = torch.tensor([[1, 0, 0, 0, 1, 0, 1, 0, 0]]).bool()
    made, linear = (peer(hidden(video, known[0]), known).latents for peer in (Minterpolate(), Linear()))
    inside = [1, 2, 3, 5]
    errors = [float((clip - video)[:, :, inside].square().mean()) for clip in (made, linear)]
    assert errors[0] < 0.3 * errors[1]
    assert torch.equal(made[:, :, known[0]], video[:, :, known[0]])
    assert torch.equal(made[:, :, 7], video[:, :, 6])  # outside the outermost keyframes the nearest is held


def test_every_gap_is_interpolated_by_itself():
    videos = torch.cat([moving_square(5, speed, seed) for seed, speed in enumerate((1, 2, 3))])
    known = torch.tensor([[1, 0, 0, 0, 1]]).bool().expand(3, -1)
    together = Minterpolate()(videos, known).latents
    for video, made in zip(videos.split(1), together.split(1), strict=True):
        assert torch.equal(Minterpolate()(video, known[:1]).latents, made)


class Blend(torch.nn.Module):
    def forward(self, first: torch.Tensor, last: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        return first + time * (last - first)


def test_a_network_of_others_is_read_from_its_folder(tmp_path):
    torch.jit.script(Blend()).save(tmp_path / NETWORK)
    video, known = moving_square(5), torch.tensor([[1, 0, 0, 0, 1]]).bool()
    made = TwoFrameNetwork(str(tmp_path))(hidden(video, known[0]), known).latents
    torch.testing.assert_close(made, Linear()(video, known).latents)


def test_a_network_without_weights_is_said_to_be_not_measured(tmp_path):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        node = compose("benchmark", ["benchmark=interpolators"]).benchmark.interpolators
    assert unusable(build(node.rife), PatchDCT()) == "not measured: folder=<folder with its weights> is not set"
    assert unusable(build(node.minterpolate), PatchDCT()) is None
    with pytest.raises(BadValue, match=r"folder=.*: expected a folder with flownet\.pt"):
        TwoFrameNetwork(str(tmp_path))
    with pytest.raises(BadValue, match="block=5: expected 4"):
        Minterpolate(block=5)
