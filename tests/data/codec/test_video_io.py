import io
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from interp_refiner.core import BadValue
from interp_refiner.data.codec import add_video, as_frames, gif_bytes, write_mp4


def smooth_video(num_frames: int, height: int, width: int) -> Tensor:
    """Random low-frequency RGB that a lossy coder keeps."""
    coarse = torch.rand(1, 3, num_frames, 3, 3)
    return torch.nn.functional.interpolate(coarse, (num_frames, height, width), mode="trilinear")[0]


def read_mp4(path: Path) -> tuple[np.ndarray, float]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(stream)]), float(stream.average_rate)


def test_frames_are_enlarged_by_repetition():
    video = torch.rand(3, 2, 4, 5)
    frames = as_frames(video, scale=3)
    assert frames.shape == (2, 12, 15, 3)
    expected = (video * 255).round().to(torch.uint8).permute(1, 2, 3, 0)
    assert torch.equal(frames[:, 1::3, 2::3], expected)
    assert torch.equal(as_frames(expected, scale=3), frames)


def test_values_beyond_the_range_are_clamped():
    frames = as_frames(torch.stack([torch.full((1, 2, 2), v) for v in (-0.5, 0.5, 1.5)]))
    assert frames[0, 0, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize(("size", "scale", "stored"), [((16, 24), 2, (32, 48)), ((15, 21), 1, (16, 22))])
def test_mp4_holds_the_video(tmp_path: Path, size: tuple[int, int], scale: int, stored: tuple[int, int]):
    video = smooth_video(9, *size)
    path = write_mp4(tmp_path / "new" / "clip.mp4", video, fps=12.5, scale=scale)
    frames, fps = read_mp4(path)
    assert frames.shape == (9, *stored, 3)
    assert fps == 12.5
    expected = as_frames(video, scale).numpy()
    error = frames[:, : expected.shape[1], : expected.shape[2]].astype(float) - expected
    assert np.sqrt((error**2).mean()) < 12  # of 255: colour is stored at half the resolution


def test_the_same_frames_give_the_same_bytes(tmp_path: Path):
    coarse = torch.rand(1, 3, 31, 5, 6, generator=torch.Generator().manual_seed(0))
    video = torch.nn.functional.interpolate(coarse, (31, 20, 36), mode="trilinear")[0]
    files, between = set(), []  # between: no encoder is handed the memory that the last one left
    for size in range(10):
        files.add(write_mp4(tmp_path / "clip.mp4", video, fps=8.0).read_bytes())
        between.append(bytearray(b"\xff" * 20000 * (size + 1)))
    assert len(files) == 1


def test_mp4_refuses_bad_settings(tmp_path: Path):
    with pytest.raises(BadValue, match=r"fps=0.0: expected a finite number > 0"):
        write_mp4(tmp_path / "a.mp4", torch.rand(3, 2, 4, 4), fps=0.0)
    with pytest.raises(BadValue, match="scale=0"):
        write_mp4(tmp_path / "a.mp4", torch.rand(3, 2, 4, 4), fps=8.0, scale=0)


def test_gif_plays_every_frame_at_the_asked_speed():
    video = smooth_video(5, 8, 8)
    image = Image.open(io.BytesIO(gif_bytes(video, fps=10.0, scale=2)))
    assert (image.n_frames, image.size, image.info["duration"], image.info["loop"]) == (5, (16, 16), 100, 0)
    image.seek(3)
    error = np.array(image.convert("RGB")).astype(float) - as_frames(video, 2)[3].numpy()
    assert np.abs(error).mean() < 4


@pytest.mark.parametrize(("fps", "frames", "seconds"), [(16.0, 16, 1.0), (24.0, 48, 2.0), (60.0, 50, 1.0)])
def test_a_gif_lasts_as_long_as_the_video(fps: float, frames: int, seconds: float):
    image = Image.open(io.BytesIO(gif_bytes(torch.rand(3, frames, 8, 8), fps)))
    total = 0
    for frame in range(image.n_frames):
        image.seek(frame)
        total += image.info.get("duration", 0)
    assert total == pytest.approx(1000 * seconds, abs=10)


def test_tensorboard_gets_an_animation(tmp_path: Path):
    video = smooth_video(4, 8, 12)
    with SummaryWriter(tmp_path) as writer:
        add_video(writer, "val/clip", video, step=7, fps=8.0)
        add_video(writer, "val/frames", as_frames(video), step=7, fps=8.0, scale=2)
    events = EventAccumulator(str(tmp_path)).Reload()
    for tag, scale in (("val/clip", 1), ("val/frames", 2)):
        (event,) = events.Images(tag)
        assert (event.step, event.height, event.width) == (7, 8 * scale, 12 * scale)
        assert Image.open(io.BytesIO(event.encoded_image_string)).n_frames == 4


def test_colours_survive_and_are_tagged(tmp_path: Path):
    colours = torch.tensor([[0.8, 0.1, 0.15], [0.1, 0.7, 0.25], [0.1, 0.15, 0.85], [0.95, 0.95, 0.1], [0, 0.8, 0.8]])
    video = colours.T.repeat_interleave(16, 1).view(3, 1, 1, -1).expand(3, 4, 32, -1)
    with av.open(str(write_mp4(tmp_path / "a.mp4", video, 8.0))) as container:
        context = container.streams.video[0].codec_context
        tags = (context.color_primaries, context.color_trc, context.colorspace, context.color_range)
        frame = next(container.decode(video=0))
    assert tags == (1, 1, 1, 1)  # of H.273: BT.709 throughout; luma in 16..235
    inside = frame.to_ndarray(format="rgb24")[16, 8::16].astype(float) / 255
    np.testing.assert_allclose(inside, colours.numpy(), atol=0.02)
    luma = frame.to_ndarray(format="yuv420p")[16, 8:80:16].astype(float)
    np.testing.assert_allclose(luma, 16 + 219 * (colours.numpy() @ [0.2126, 0.7152, 0.0722]), atol=2)
