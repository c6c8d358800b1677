"""Latents of stills against those of the video they were taken from."""

import pytest
import torch
from diffusers import AutoencoderKLWan

from interp_refiner.core import BadValue
from interp_refiner.data.codec import PatchDCT, Still, still_gap
from interp_refiner.data.codec.still import MODES
from interp_refiner.data.codec.wan_vae import WanVAE
from tests.helpers import build, group_members


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> WanVAE:
    """The Wan autoencoder at its smallest, with random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("vae")
    AutoencoderKLWan(base_dim=8, dim_mult=[1, 1, 1, 1], num_res_blocks=1).save_pretrained(folder)
    return WanVAE(str(folder))


def moving(frames: int, height: int = 16, width: int = 24) -> torch.Tensor:
    """A bright square that moves two pixels a frame over noise."""
    video = 0.3 * torch.rand(1, 3, 1, height, width).repeat(1, 1, frames, 1, 1)
    for frame in range(frames):
        video[:, :, frame, 4:10, frame : frame + 6] = 0.9
    return video


def test_the_options_are_the_modes_that_the_gap_is_measured_for() -> None:
    assert {name: build("codec/still", name) for name in group_members("codec/still")} == MODES


def test_frame_zero_codes_a_picture_alone_whatever_its_place(causal: WanVAE) -> None:
    image = torch.rand(2, 3, 16, 16)
    alone = causal.encode(image.unsqueeze(2))[:, :, 0]
    for slot in (0, 3):
        assert torch.equal(causal.encode_still(image, slot, MODES["frame_zero"]), alone)


def test_slot_takes_its_place_in_a_static_clip(causal: WanVAE) -> None:
    image = torch.rand(1, 3, 16, 16)
    static = causal.encode(image.unsqueeze(2).expand(-1, -1, 13, -1, -1))
    for slot in range(4):
        found = causal.encode_still(image, slot, MODES["slot"])
        torch.testing.assert_close(found, static[:, :, slot], atol=1e-5, rtol=1e-4)


def test_a_static_clip_is_no_longer_than_its_context_and_its_place(causal: WanVAE) -> None:
    image = torch.rand(1, 3, 16, 16)
    for slot, same in ((0, "frame_zero"), (1, "slot"), (2, "slot")):
        assert torch.equal(causal.encode_still(image, slot), causal.encode_still(image, slot, MODES[same]))
    assert torch.equal(causal.encode_still(image, 9), causal.encode_still(image, 2))


def test_on_a_static_video_slot_has_no_gap_and_a_picture_alone_has_one(causal: WanVAE) -> None:
    gap = still_gap(causal, moving(1).expand(-1, -1, 13, -1, -1))
    assert gap["slot"].max() < 1e-4
    assert gap["frame_zero"][0] < 1e-5
    assert gap["frame_zero"][1:].min() > 100 * gap["slot"].max()


def test_on_a_moving_video_every_mode_has_a_gap_after_frame_zero(causal: WanVAE) -> None:
    gap = still_gap(causal, moving(13))
    assert all(distance.shape == (4,) and distance[0] < 1e-5 and distance[1:].min() > 1e-3 for distance in gap.values())


def test_a_codec_that_codes_frames_one_by_one_has_no_gap() -> None:
    codec, video = PatchDCT(), moving(5)
    for distance in still_gap(codec, video).values():
        assert distance.max() < 1e-6
    torch.testing.assert_close(codec.stills(video), codec.encode(video))


@pytest.mark.parametrize("mode", list(MODES))
def test_stills_of_some_slots_are_those_of_all(causal: WanVAE, mode: str) -> None:
    video, slots = torch.rand(2, 3, 13, 16, 16), torch.tensor([[3, 0], [1, 2]])
    every = causal.stills(video, MODES[mode])
    found = causal.stills_at(video, slots, MODES[mode])
    wanted = torch.stack([row[:, slot] for row, slot in zip(every, slots, strict=True)])
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_a_still_stands_for_the_middle_of_what_its_latent_frame_codes(causal: WanVAE) -> None:
    video = moving(9)
    stills = causal.stills(video)
    assert stills.shape[2] == 3
    torch.testing.assert_close(stills[:, :, 2], causal.encode_still(video[:, :, 7], 2))  # codes frames 5 to 8


def test_refuses_a_negative_context() -> None:
    with pytest.raises(BadValue, match="context=-1: expected latent frames >= 0"):
        Still(-1)
