"""Storyboard files: what is read, and one line for every mistake."""

import json
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from interp_refiner.core import BadValue
from interp_refiner.data.codec import read_image, write_mp4
from interp_refiner.data.codec.video_read import Film, opened
from interp_refiner.storyboard import load_storyboard, parse_storyboard
from interp_refiner.storyboard.file.keyframe import Keyframe, frame_at
from interp_refiner.storyboard.file.media import as_tensor, as_video, fitted, read_clip, read_frame
from interp_refiner.storyboard.file.timeline import Placed

ONE = {"image": "a.png", "time": 0}


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = torch.randint(256, (height, width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return Image.fromarray(pixels.numpy())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"keyframes": []}, r"^keyframes=\[\]: expected a list of at least one keyframe"),
        ({}, "^keyframes=None: expected a list of at least one keyframe"),
        ({"keyframes": [ONE], "heigth": 32}, r"^heigth=32: expected a known key: .*did you mean 'height'\?"),
        ({"keyframes": [ONE, {**ONE, "tiem": 3}]}, r"^keyframes\[1\]\.tiem=3: .*did you mean 'time'\?"),
        ({"keyframes": [{"image": "a.png", "tiem": 3}]}, r"^keyframes\[0\]\.tiem=3: .*did you mean 'time'\?"),
        ({"keyframes": [ONE, {"image": "a.png"}]}, r"^keyframes\[1\]\.time=None: expected a frame \(12\)"),
        ({"keyframes": [{**ONE, "time": 2.5}]}, r"^keyframes\[0\]\.time=2\.5: expected a frame \(12\), seconds"),
        (
            {"keyframes": [{"video": "b.mp4", "time": 0, "frame": 2.5}]},
            r"^keyframes\[0\]\.frame=2\.5: expected a frame",
        ),
        ({"keyframes": [{**ONE, "strength": "0.5"}]}, r"^keyframes\[0\]\.strength='0\.5': expected a valid number"),
        ({"keyframes": ["a.png"]}, r"^keyframes\[0\]=a\.png: expected a mapping"),
        ({"keyframes": [ONE], "folder": "b"}, "^folder=b: expected a known key: width"),
        ({"keyframes": [{**ONE, "time": "late"}]}, r"^keyframes\[0\]\.time=late: expected a frame \(12\)"),
        ({"keyframes": [{**ONE, "strength": 2}]}, r"^keyframes\[0\]\.strength=2\.0: expected a number from 0"),
        ({"keyframes": [{**ONE, "strength": 0.5, "hard": True}]}, r"^keyframes\[0\]\.strength=0\.5: .*not both"),
        ({"keyframes": [{**ONE, "clip": "b.mp4"}]}, r"^keyframes\[0\]\.image=image and clip: expected exactly one"),
        ({"keyframes": [{"time": 0}]}, r"^keyframes\[0\]\.image=None: expected exactly one of image, clip and video"),
        ({"keyframes": [{"video": "b.mp4", "time": 0}]}, r"^keyframes\[0\]\.frame=None: expected a frame of the video"),
        (
            {"keyframes": [{**ONE, "frame": 2}]},
            r"^keyframes\[0\]\.frame=2: expected a frame of the video",
        ),
        ({"keyframes": [{**ONE, "fit": "crap"}]}, r"fit=crap: expected crop \| pad \| stretch; did you mean 'crop'"),
        ({"keyframes": [ONE], "frames": 21, "seconds": 2.0}, r"^storyboard\.seconds=2\.0: expected frames or seconds"),
        ({"keyframes": [ONE], "fps": -1}, "^fps=-1: expected greater than 0"),
        ([ONE], "^storyboard=list: expected a mapping"),
    ],
)
def test_mistakes_name_the_entry_and_what_is_allowed(content, said):
    with pytest.raises(BadValue, match=said) as error:
        parse_storyboard(content)
    assert "\n" not in str(error.value)


def test_yaml_and_json_say_the_same(tmp_path):
    (tmp_path / "a.yaml").write_text("seconds: 2.5\nkeyframes:\n  - {image: a.png, time: 50%, strength: 0.25}\n")
    content = {"seconds": 2.5, "keyframes": [{"image": "a.png", "time": "50%", "strength": 0.25}]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    boards = [load_storyboard(tmp_path / name) for name in ("a.yaml", "a.json")]
    assert boards[0] == boards[1]
    assert boards[0].keyframes[0].strength == 0.25


@pytest.mark.parametrize(
    ("written", "frame"),
    [("1:30", 90), ("0:01:30", 90), ("0:02.5", 2), ("90s", 90), ("010", 10), ("12", 12), ("+3", 3), ("'3'", 3)],
)
def test_times_are_what_they_look_like(tmp_path, written, frame):
    (tmp_path / "a.yaml").write_text("keyframes:\n  - {image: a.png, time: " + written + "}\n")
    time = load_storyboard(tmp_path / "a.yaml").keyframes[0].time
    assert frame_at(time, num_frames=200, fps=1.0) == frame
    (tmp_path / "a.json").write_text(json.dumps({"keyframes": [{"image": "a.png", "time": time}]}))
    assert load_storyboard(tmp_path / "a.json").keyframes[0].time == time


@pytest.mark.parametrize(
    "written", ["1:75", "1:2:03", "1:30s", "1:30%", "1_0", "0x10", "0o17", "2024-01-01", "1e1", "-1"]
)
def test_times_that_are_none_are_refused(tmp_path, written):
    (tmp_path / "a.yaml").write_text("keyframes:\n  - {image: a.png, time: " + written + "}\n")
    with pytest.raises(
        BadValue, match=r"keyframes\[0\]\.time=.*expected a frame \(12\), seconds .*minutes and seconds"
    ):
        load_storyboard(tmp_path / "a.yaml")


def test_other_values_are_read_as_ever(tmp_path):
    text = "fps: 12.5\nseconds: 2.\nprompt: &p 3:2\nkeyframes:\n"
    text += "  - {image: a.png, time: 0, strength: .5, prompt: *p}\n  - {image: b.png, time: 50%, hard: yes}\n"
    (tmp_path / "a.yaml").write_text(text)
    board = load_storyboard(tmp_path / "a.yaml")
    assert (board.fps, board.seconds, board.prompt) == (12.5, 2.0, "3:2")
    assert (board.keyframes[0].strength, board.keyframes[0].prompt, board.keyframes[1].hard) == (0.5, "3:2", True)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("b.yaml", "keyframes:\n  - {image: a.png, time: 0, time: 5}\n"),
        ("b.json", '{"keyframes": [{"image": "a.png", "time": 0, "time": 5}]}'),
    ],
)
def test_a_key_that_is_there_twice_is_a_mistake(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(BadValue, match=f"storyboard=.*{name}: expected .*the key time occurs twice") as error:
        load_storyboard(tmp_path / name)
    assert "\n" not in str(error.value)


def test_storyboards_are_utf_8_wherever_they_are_read(tmp_path):
    (tmp_path / "a.yaml").write_text("prompt: ein weißer Kreis\nkeyframes: [{image: a.png, time: 0}]", "utf-8-sig")
    assert load_storyboard(tmp_path / "a.yaml").prompt == "ein weißer Kreis"
    (tmp_path / "a.yaml").write_bytes("prompt: weiß".encode("latin-1"))
    with pytest.raises(BadValue, match=r"a\.yaml: expected a YAML or JSON file: .*can't decode byte 0xdf"):
        load_storyboard(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("b.yaml", "a: [1"),
        ("b.yaml", "[" * 1500),
        ("b.yaml", "prompt: !!bool maybe"),
        ("b.json", "{"),
        ("b.json", "[" * 5000),
        ("b.yaml", None),
    ],
)
def test_files_that_are_none_are_named(tmp_path, name, text):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(BadValue, match=f"storyboard=.*{name}: expected a YAML or JSON file"):
        load_storyboard(tmp_path / name)


def test_pictures_of_the_right_size_are_read_as_they_are(tmp_path):
    picture(24, 16).save(tmp_path / "a.png")
    picture(24, 16, 1).save(tmp_path / "b.webp", lossless=True)
    board = parse_storyboard({"keyframes": [ONE, {"image": "b.webp", "time": 5, "strength": 0.3}]}, tmp_path)
    (first, second), notes = board.read(24, 16, 8.0, 30)
    assert notes == []
    assert torch.equal(first.image, as_tensor(picture(24, 16)))
    assert torch.equal(second.image, as_tensor(picture(24, 16, 1)))
    assert (first.given, second.given, second.strength, second.name) == (True, False, 0.3, "b.webp")


def test_other_sizes_are_fitted_and_noted(tmp_path):
    picture(40, 16).save(tmp_path / "a.png")
    board = parse_storyboard({"fit": "pad", "keyframes": [ONE, {**ONE, "time": 3, "fit": "crop"}]}, tmp_path)
    (padded, cropped), notes = board.read(24, 16, 8.0, 30)
    assert padded.image.shape == cropped.image.shape == (3, 16, 24)
    assert padded.image[:, :3].abs().max() == 0 < padded.image[:, 8].min()
    torch.testing.assert_close(cropped.image, as_tensor(picture(40, 16).crop((8, 0, 32, 16))))
    assert notes == [
        "keyframes[0] a.png is 40x16, the video 24x16: pad",
        "keyframes[1] a.png is 40x16, the video 24x16: crop",
    ]
    assert fitted(picture(40, 16), 24, 16, "stretch").size == (24, 16)


def test_frames_of_videos_and_clips(tmp_path):
    ramp = torch.linspace(0.1, 0.9, 8).view(1, 8, 1, 1).expand(3, 8, 16, 24)
    write_mp4(tmp_path / "v.mp4", ramp, 8.0)
    entries = [{"video": "v.mp4", "frame": f, "time": n} for n, f in enumerate((0, 5, "100%", "0.25s"))]
    keyframes, _ = parse_storyboard({"keyframes": [*entries, {"clip": "v.mp4", "time": 9}]}, tmp_path).read(
        24, 16, 8.0, 30
    )
    for keyframe, number in zip(keyframes, (0, 5, 7, 2), strict=False):
        assert float(keyframe.image.mean()) == pytest.approx(float(ramp[0, number, 0, 0]), abs=0.02)
    torch.testing.assert_close(keyframes[4].video, ramp, atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"image": "no.png"}, r"keyframes\[1\]\.image=.*no\.png: expected an image file \(png .*: no such file"),
        ({"image": "text.png"}, r"keyframes\[1\]\.image=.*text\.png: expected a complete, readable image"),
        ({"clip": "text.png"}, r"keyframes\[1\]\.clip=.*text\.png: expected a video that can be decoded"),
        ({"video": "no.mp4", "frame": 0}, r"keyframes\[1\]\.video=.*no\.mp4: expected a video file: no such file"),
        ({"video": "v.mp4", "frame": 9}, r"keyframes\[1\]\.frame=9: expected a frame from 0 to 7"),
    ],
)
def test_files_of_entries_that_are_missing_or_broken_are_named(tmp_path, entry, said):
    picture(24, 16).save(tmp_path / "a.png")
    (tmp_path / "text.png").write_text("no picture")
    write_mp4(tmp_path / "v.mp4", torch.rand(3, 8, 16, 24), 8.0)
    with pytest.raises(BadValue, match=said):
        parse_storyboard({"keyframes": [ONE, {**entry, "time": 3}]}, tmp_path).read(24, 16, 8.0, 30)


def test_grey_of_16_bits_is_scaled(tmp_path):
    grey = np.linspace(0, 65535, 24 * 16).reshape(16, 24).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "a.png")
    read = np.asarray(read_image(tmp_path / "a.png")[0]).astype(float)
    assert read.shape == (16, 24, 3)
    assert np.abs(read - grey[..., None] / 257).max() <= 1


def test_a_picture_too_large_to_open_is_a_mistake_in_one_line(tmp_path, monkeypatch):
    picture(24, 16).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(BadValue, match=r"image=.*a\.png: expected a complete, .*exceeds limit of 200 pixels"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("key", ["fps", "seconds"])
def test_lengths_and_rates_are_finite(key):
    with pytest.raises(BadValue, match=f"{key}=inf: expected a finite number"):
        parse_storyboard({key: float("inf"), "keyframes": [ONE]})


@pytest.fixture
def counted_frames(monkeypatch):
    """How many frames were decoded so far."""
    frames, count = Film.frames, []

    def counting(film):
        for frame in frames(film):
            count.append(frame.pts)
            yield frame

    monkeypatch.setattr(Film, "frames", counting)
    return count


def long_video(path, codec: str, frames: int = 60) -> None:
    """Every frame has a grey of its own; intra-coded every 12 frames."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=24, options={"g": "12", "keyint": "12"})
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        stream.gop_size = 12
        for number in range(frames):
            pixels = np.full((32, 32, 3), 20 + 3 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mpg", "mpeg1video"), ("a.mkv", "libx264")])
@pytest.mark.parametrize("number", [0, 13, 47, 59])
def test_one_frame_of_a_long_video_decodes_few(tmp_path, counted_frames, name, codec, number):
    long_video(tmp_path / name, codec)
    asked = []
    picture = read_frame("video", tmp_path / name, lambda times: asked.extend(times) or number).pictures[0]
    assert asked == pytest.approx([n / 24 for n in range(60)], abs=1e-3)
    decoded = len(counted_frames)
    with opened(tmp_path / name) as film:
        frames = [film.picture(frame) for frame in film.frames()]
    assert np.array_equal(picture, frames[number])
    assert decoded <= (14 if name.endswith("mp4") else 61)


def test_a_clip_is_read_at_the_rate_of_the_storyboard_and_no_further_than_needed(tmp_path, counted_frames):
    long_video(tmp_path / "a.mp4", "libx264")
    clip = read_clip("clip", tmp_path / "a.mp4", 8.0, 5)
    assert clip.rate == 24
    shown = [round((np.asarray(picture).mean() - 20) / 3) for picture in clip.pictures]
    assert shown == [0, 3, 6, 9, 12]
    assert len(counted_frames) < 20
    board = parse_storyboard({"fps": 12, "keyframes": [{"clip": "a.mp4", "time": 2}]}, tmp_path)
    (keyframe,), notes = board.read(32, 32, 12.0, 41)
    assert keyframe.video.shape == (3, 30, 32, 32)
    assert notes[0] == "keyframes[0] a.mp4 has 24 frames per second and is read at 12"


def test_pictures_of_every_kind_are_the_same():
    shown = picture(8, 6)
    pixels = np.asarray(shown)
    for other in (pixels, pixels / 255.0, torch.from_numpy(pixels.copy()).permute(2, 0, 1)):
        torch.testing.assert_close(as_tensor(other), as_tensor(shown))
    assert torch.equal(as_video([shown, shown]), as_video(np.stack([pixels, pixels])))


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((8, 6)), r"image=\[8, 6\]: expected an array \[h, w, 3\]"),
        (torch.zeros(8, 6, 3), r"image=\[8, 6, 3\]: expected a tensor \[3, h, w\]"),
        (torch.full((3, 4, 4), 200.0), r"image=200 to 200: expected RGB in 0\.\.1, or bytes"),
        (torch.full((3, 4, 4), float("nan")), "image=nan to nan: expected RGB"),
        ("a.jpg", "image=a.jpg: expected a picture of PIL, an array or a tensor"),
    ],
)
def test_pictures_that_are_none_are_refused(image, said):
    with pytest.raises(BadValue, match=said):
        as_tensor(image)
    with pytest.raises(BadValue, match="video=0 frames: expected at least one frame"):
        as_video([])


def test_the_sound_of_a_clip_starts_with_its_pictures(tmp_path, monkeypatch):
    """A clip fills whole latent slots: one at 2 s may show its first picture some frames earlier."""
    monkeypatch.setattr("interp_refiner.storyboard.file.storyboard.has_sound", lambda path: True)
    entry = {"clip": "a.mp4", "time": "2s", "sound": True}
    board = parse_storyboard({"fps": 16, "frames": 81, "keyframes": [entry]}, tmp_path)
    placed = Placed(index=0, frame=32, slots=range(8, 12), shown=range(29, 45))
    assert board.sound([placed], 16.0).at == 29 / 16


def test_a_seek_after_which_nothing_decodes_reads_from_the_start(tmp_path, monkeypatch):
    long_video(tmp_path / "a.mp4", "libx264", 20)
    expected = read_frame("video", tmp_path / "a.mp4", lambda _: 13).pictures[0]
    frames, calls = Film.frames, []
    monkeypatch.setattr(Film, "frames", lambda film: frames(film) if calls else calls.append(film) or iter(()))
    assert read_frame("video", tmp_path / "a.mp4", lambda _: 13).pictures[0] == expected
    assert len(calls) == 1


def test_pictures_in_python_are_converted_like_files(tmp_path: Path):
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    pictures = {
        "grey of 16 bits": Image.fromarray(rng.integers(0, 65536, (4, 6), np.uint16)),
        "alpha": Image.fromarray(rng.integers(0, 256, (4, 6, 4), np.uint8)),
        "turned": Image.fromarray(rng.integers(0, 256, (4, 6, 3), np.uint8)),
    }
    for name, picture in pictures.items():
        picture.save(tmp_path / "a.png", exif=exif if name == "turned" else None)
        wanted = np.asarray(read_image(tmp_path / "a.png")[0])
        with Image.open(tmp_path / "a.png") as opened:
            keyframe = Keyframe(image=opened)
            np.testing.assert_allclose(255 * as_tensor(opened).permute(1, 2, 0), wanted, atol=1e-4)
        for again in (keyframe, replace(keyframe, time=1)):  # the conversion happens once
            np.testing.assert_array_equal(np.asarray(again.image), wanted)
    with pytest.raises(BadValue, match=r"image=.*mode F are not supported"):
        Keyframe(image=Image.new("F", (6, 4)))
