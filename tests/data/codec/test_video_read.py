"""Videos are read as a player shows them."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from interp_refiner.data.codec import UnreadableVideo, read_video, write_mp4
from interp_refiner.storyboard.file.media import read_clip, read_frame

ONE = 1 << 16  # in the fixed-point numbers of mp4
UPRIGHT = (ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30)
TURNED = {  # display matrices, by quarter turns to the left
    1: (0, -ONE, 0, ONE, 0, 0, 0, 0, 1 << 30),
    2: (-ONE, 0, 0, 0, -ONE, 0, 0, 0, 1 << 30),
    3: (0, ONE, 0, -ONE, 0, 0, 0, 0, 1 << 30),
}


def footage(height: int = 32, width: int = 48) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(6, 3, 4, 6, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear").transpose(0, 1)


def one_frame(path: Path, number: int) -> Image.Image:
    return read_frame("video", path, lambda times: number).pictures[0]


def turned(path: Path, turns: int) -> Path:
    """Lies down as a telephone's recording does: the header says how often to turn it."""
    content, matrix = path.read_bytes(), struct.pack(">9i", *UPRIGHT)
    of_film, of_track = content.index(matrix), content.rindex(matrix)
    assert of_film < of_track
    made = path.with_name(f"turned_{turns}.mp4")
    made.write_bytes(content[:of_track] + struct.pack(">9i", *TURNED[turns]) + content[of_track + len(matrix) :])
    return made


@pytest.mark.parametrize("turns", TURNED)
def test_what_a_telephone_films_comes_out_upright(tmp_path: Path, turns: int):
    stored = write_mp4(tmp_path / "lying.mp4", footage(), 8.0)
    film = turned(stored, turns)
    size = (48, 32) if turns % 2 else (32, 48)
    upright = np.rot90(read_video(stored, 32, 48).numpy(), turns, axes=(1, 2))
    assert np.array_equal(read_video(film, *size).numpy(), upright)
    still = np.asarray(one_frame(film, 3))
    assert np.array_equal(still, np.rot90(one_frame(stored, 3), turns))
    assert read_clip("clip", film, 8.0, 2).pictures[1].size == size[::-1]


def test_pixels_that_are_not_square_are_made_so(tmp_path: Path):
    path = tmp_path / "wide.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2)
        for frame in (footage().permute(1, 2, 3, 0) * 255).to(torch.uint8).numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    assert one_frame(path, 0).size == (96, 32)
    whole, middle = read_video(path, 32, 96), read_video(path, 32, 48)
    assert torch.equal(middle, whole[:, :, 24:72])  # nothing is squeezed
    assert not torch.equal(whole[:, :, 0], middle[:, :, 0])


def test_titles_need_not_be_text(tmp_path: Path):
    write_mp4(tmp_path / "a.mp4", footage(), 8.0)
    with av.open(str(tmp_path / "a.mp4")) as plain, av.open(str(tmp_path / "titled.mkv"), "w") as container:
        container.metadata["title"] = "TITLE"
        stream = container.add_stream_from_template(plain.streams.video[0])
        for packet in plain.demux(plain.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    content = (tmp_path / "titled.mkv").read_bytes()
    (tmp_path / "titled.mkv").write_bytes(content.replace(b"TITLE", b"caf\xe9 "))
    with pytest.raises(UnicodeDecodeError):
        av.open(str(tmp_path / "titled.mkv"))
    assert torch.equal(read_video(tmp_path / "titled.mkv", 32, 48), read_video(tmp_path / "a.mp4", 32, 48))


def test_a_file_without_pictures_says_so(tmp_path: Path):
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16000
        container.mux([*stream.encode(sound), *stream.encode()])
    with pytest.raises(UnreadableVideo, match="no video stream"):
        read_video(tmp_path / "sound.mp4", 32, 48)
