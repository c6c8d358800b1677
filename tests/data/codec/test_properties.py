"""How videos with special properties are read, as the table in docs/data.md says; each file is made here."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

from interp_refiner.core import BadValue
from interp_refiner.data.codec import UnreadableVideo, colour, decode_video, read_image, write_mp4
from interp_refiner.data.codec.jpeg import HOLE, jpeg_fault
from interp_refiner.data.codec.sound import Sound
from interp_refiner.data.codec.video_read import opened
from interp_refiner.storyboard.file.keyframe import frame_shown_at
from interp_refiner.storyboard.file.media import read_clip, read_frame

RED, GREY = (200, 40, 60), (128, 128, 128)
SIZE = (48, 32)  # width and height


def plain(*colours: Sequence[int]) -> np.ndarray:
    """Frames of one colour each."""
    return np.stack([np.full((SIZE[1], SIZE[0], len(c)), c, np.uint8) for c in colours])


def video(path: Path, frames: np.ndarray, codec: str = "ffv1", fmt: str = "bgr0", **context: Any) -> Path:
    """Writes frames as they are, with tags of the codec's context; ``times`` are in hundredths of a second."""
    times = context.pop("times", None)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=100 if times else 8)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], fmt
        for name, value in context.items():
            setattr(stream.codec_context, name, value)
        for number, pixels in enumerate(frames):
            format = {1: "gray", 3: "rgb24", 4: "rgba"}[pixels.shape[-1]]
            if pixels.dtype == np.uint16:
                format = "rgb48le"
            frame = av.VideoFrame.from_ndarray(pixels, format=format)
            if fmt != format:
                frame = frame.reformat(
                    format=fmt, dst_colorspace=context.get("colorspace"), dst_color_range=context.get("color_range")
                )
            frame.pts = times[number] if times else number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def shown(path: Path, **settings: Any) -> tuple[np.ndarray, list[str]]:
    """The middle pixel of every frame, and the remarks."""
    frames, remarks = decode_video(path, SIZE[1], SIZE[0], **settings)
    return frames[:, SIZE[1] // 2, SIZE[0] // 2].numpy(), remarks


def signal(nits: float) -> float:
    """PQ's value of a luminance (SMPTE ST 2084), written out again."""
    y = (nits / 10000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * y) / (1 + 2392 / 128 * y)) ** (2523 / 32)


# Colours of videos


@pytest.mark.parametrize("nits", [1.0, 100.0, 203.0, 1000.0])
def test_pq_is_tone_mapped_with_203_nits_as_white(tmp_path: Path, nits: float):
    pixels = np.full((2, 32, 48, 3), round(65535 * signal(nits)), np.uint16)
    film = video(tmp_path / "a.mkv", pixels, fmt="gbrp16le", color_primaries=9, color_trc=16)
    (value, *_), remarks = shown(film)
    light = nits / 203
    wanted = light if light < 0.8 else 0.8 + 0.2 * (1 - np.exp(-(light - 0.8) / 0.2))
    srgb = 12.92 * wanted if wanted <= 0.0031308 else 1.055 * wanted ** (1 / 2.4) - 0.055
    np.testing.assert_allclose(value, 255 * srgb, atol=1)
    assert "HDR (PQ, BT.2020) is tone-mapped to sRGB, 203 nits as white" in remarks
    assert "16 bits are rounded to 8" in remarks


def test_white_in_hlg_is_white(tmp_path: Path):
    pixels = np.full((1, 32, 48, 3), round(0.75 * 65535), np.uint16)  # BT.2408: 75% of HLG's signal are 203 nits
    film = video(tmp_path / "a.mkv", pixels, fmt="gbrp16le", color_primaries=9, color_trc=18)
    value, remarks = shown(film)
    np.testing.assert_allclose(value[0], 247, atol=1)
    assert "HDR (HLG, BT.2020)" in remarks[0]


@pytest.mark.parametrize(("number", "name"), [(9, "BT.2020"), (12, "Display P3"), (5, "BT.601 (625 lines)")])
def test_primaries_are_converted_and_white_stays(tmp_path: Path, number: int, name: str):
    film = video(tmp_path / "a.mkv", plain(RED, (255, 255, 255)), color_primaries=number, color_trc=1)
    values, remarks = shown(film)
    assert remarks[-1] == f"{name} is converted to sRGB"
    assert values[1].tolist() == [255, 255, 255]
    light = colour.to_bt709(number) @ ((np.array(RED) / 255 + 0.055) / 1.055) ** 2.4
    back = np.where(light > 0.0031308, 1.055 * light.clip(0.001, 1) ** (1 / 2.4) - 0.055, 12.92 * light)
    np.testing.assert_allclose(values[0], (255 * back).clip(0, 255), atol=2)
    assert values[0, 0] > RED[0]  # a wide gamut's red is more than sRGB's


@pytest.mark.parametrize(("matrix", "where"), [(1, 1), (5, 5), (9, 9), (2, 5)])
@pytest.mark.parametrize("full", [False, True])
def test_matrix_and_range_are_those_of_the_file(tmp_path: Path, matrix: int, where: int, full: bool):
    kr, kb = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 9: (0.2627, 0.0593)}[where]
    r, g, b = np.array(RED) / 255
    y = kr * r + (1 - kr - kb) * g + kb * b
    parts = np.array([y, (b - y) / (2 - 2 * kb), (r - y) / (2 - 2 * kr)])
    parts = parts * 255 + [0, 128, 128] if full else parts * [219, 224, 224] + [16, 128, 128]
    frame = av.VideoFrame(*SIZE, "yuv444p")
    for plane, value in zip(frame.planes, parts, strict=True):
        plane.update(bytes([round(value)]) * plane.buffer_size)
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=8)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv444p"
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, 2 if full else 1
        frame.colorspace, frame.color_range, frame.pts = matrix, 2 if full else 1, 0
        container.mux([*stream.encode(frame), *stream.encode()])
    values, remarks = shown(path)
    np.testing.assert_allclose(values[0], RED, atol=3)
    assert (matrix == 2) == ("colours without a matrix are treated as BT.601" in remarks)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("full", [False, True])
def test_white_and_black_stay_in_every_coding(tmp_path: Path, deep: bool, full: bool):
    name, bits = ("yuv420p10le", 10) if deep else ("yuv420p", 8)
    top, bottom = ((1 << bits) - 1, 0) if full else (235 << bits - 8, 16 << bits - 8)
    for tags in ({"color_primaries": 1, "color_trc": 1}, {"color_primaries": 9, "color_trc": 14}):
        path = tmp_path / "a.mkv"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("ffv1", rate=8)
            stream.width, stream.height, stream.pix_fmt = *SIZE, name
            for key, value in {**tags, "colorspace": 1, "color_range": 2 if full else 1}.items():
                setattr(stream.codec_context, key, value)
            for number, luma in enumerate((top, bottom)):
                frame = av.VideoFrame(*SIZE, name)
                for plane, value in zip(frame.planes, (luma, 1 << bits - 1, 1 << bits - 1), strict=True):
                    samples = np.full(plane.buffer_size // (2 if deep else 1), value, np.uint16 if deep else np.uint8)
                    plane.update(samples.tobytes())
                frame.colorspace, frame.color_range, frame.pts = 1, 2 if full else 1, number
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        values, _ = shown(path)
        assert values.tolist() == [[255] * 3, [0] * 3]


@pytest.mark.parametrize(
    ("tags", "said"),
    [({"color_trc": 9}, r"transfer function 9 \(logarithmic\)"), ({"color_primaries": 22}, "primaries 22 of H.273")],
)
def test_colours_that_are_not_understood_are_refused_by_name(tmp_path: Path, tags: dict[str, int], said: str):
    with pytest.raises(UnreadableVideo, match=f"colour {said}.* is not supported: convert it to BT.709 first"):
        shown(video(tmp_path / "a.mkv", plain(RED), **tags))


def test_tone_mapping_keeps_hues_and_order():
    rng = np.random.default_rng(0)
    light = rng.exponential(2.0, (1000, 3))
    mapped = colour.tone_mapped(light)
    assert mapped.max() <= 1
    np.testing.assert_allclose(mapped / mapped.max(1, keepdims=True), light / light.max(1, keepdims=True))
    below = light.max(1) < colour.KNEE
    np.testing.assert_allclose(mapped[below], light[below])
    order = np.argsort(light.max(1))
    assert (np.diff(mapped.max(1)[order]) >= -1e-9).all()


# Other properties of videos


def test_transparency_is_over_black(tmp_path: Path):
    values, remarks = shown(video(tmp_path / "a.mov", plain((*RED, 128), (*RED, 255)), "png", "rgba"))
    np.testing.assert_allclose(values, [[c * 128 / 255 for c in RED], RED], atol=1)
    assert "transparent pixels become black" in remarks


def test_a_variable_rate_is_followed_and_said(tmp_path: Path):
    film = video(tmp_path / "a.mkv", plain(*[(50 * n,) * 3 for n in range(5)]), times=[0, 10, 20, 100, 110])
    values, remarks = shown(film, fps=10.0)
    assert values[:, 0].tolist() == [0, 50] + 8 * [100] + [150, 200]
    assert remarks == ["variable frame rate, 100 to 800 ms a frame"]
    assert len(shown(film)[0]) == 5  # as they are
    for second, number in ((0.2, 2), (0.9, 3), (1.1, 4)):
        found = read_frame("video", film, lambda times, s=second: frame_shown_at(f"{s}s", times)).pictures[0]
        assert found.getpixel((5, 5))[0] == 50 * number, second
    with pytest.raises(BadValue, match=r"time=9s: expected 0s to 1\.1s, of 5 frames"):
        read_frame("video", film, lambda times: frame_shown_at("9s", times))


def test_time_counts_from_the_first_frame(tmp_path: Path):
    film = video(tmp_path / "a.mkv", plain(*[(50 * n,) * 3 for n in range(3)]), times=[300, 310, 320])
    values, remarks = shown(film, fps=10.0)
    assert values[:, 0].tolist() == [0, 50, 100]
    assert "begins at 3 s: times count from its first frame" in remarks


def test_a_frame_after_a_seek_is_not_taken_for_the_first(tmp_path: Path):
    film = noise(tmp_path / "a.mp4", codec="libx264")
    remarks = read_frame("video", film, lambda times: len(times) - 1).remarks
    assert not any(remark.startswith("begins at") for remark in remarks)


def test_a_file_that_was_cut_off_says_how_much_is_there(tmp_path: Path):
    frames = torch.rand(3, 24, 4, 6, generator=torch.Generator().manual_seed(0))
    frames = torch.nn.functional.interpolate(frames, size=(64, 96), mode="bilinear")
    whole = write_mp4(tmp_path / "whole.mp4", frames, 8.0)
    with (
        av.open(str(whole)) as source,
        av.open(str(tmp_path / "front.mp4"), "w", options={"movflags": "faststart"}) as made,
    ):
        stream = made.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                made.mux(packet)
    content = (tmp_path / "front.mp4").read_bytes()
    torn = tmp_path / "torn.mp4"
    torn.write_bytes(content[: len(content) * 7 // 10])
    values, remarks = shown(torn)
    assert 5 < len(values) < 24
    assert remarks[0] == f"truncated: {len(values)} of 24 frames are there"
    assert read_clip("clip", torn, 8.0, 3).remarks[0] == remarks[0]  # also when less is needed
    with pytest.raises(BadValue, match=rf"decoded up to frame {len(values)}: {remarks[0]}$"):
        read_frame("video", torn, lambda _: len(values))
    with pytest.raises(UnreadableVideo, match=f"^truncated: {len(values)} of 24 frames are there$"):
        shown(torn, incomplete=False)
    assert len(shown(tmp_path / "front.mp4", incomplete=False)[0]) == 24


@pytest.mark.parametrize("name", ["a.mkv", "a.avi"])
def test_other_formats_that_were_cut_off(tmp_path: Path, name: str):
    rng = np.random.default_rng(0)
    film = video(tmp_path / name, rng.integers(0, 256, (24, 32, 48, 3), np.uint8), "mpeg4", "yuv420p")
    film.write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    with opened(film) as one:
        there = len(list(one.frames()))
        assert one.faults[0] == f"truncated: {there} of {'about ' if name == 'a.mkv' else ''}24 frames are there"


@pytest.mark.parametrize("sound", [False, True])
def test_a_matroska_file_without_durations_of_its_streams_that_was_cut_off(tmp_path: Path, sound: bool):
    film = noise(tmp_path / "a.mkv", sound)
    whole = film.read_bytes().replace(b"DURATION", b"XURATION")
    for content, said in ((whole, False), (whole[: len(whole) // 2], True)):
        film.write_bytes(content)
        with opened(film) as one:
            there = len(list(one.frames()))
            declared = 72 if sound else 24  # the longest stream
            assert one.faults == ([f"truncated: {there} of about {declared} frames are there"] if said else [])


@pytest.mark.parametrize("name", ["a.mkv", "a.avi"])  # with and without exact seeking
def test_one_frame_of_a_file_that_was_cut_off_says_so(tmp_path: Path, name: str):
    film = noise(tmp_path / name)
    for whole in (True, False):
        for part in (0.0, 1.0):
            found = read_frame("video", film, lambda times, p=part: round(p * (len(times) - 2)))
            assert any(remark.startswith("truncated: ") for remark in found.remarks) != whole
        film.write_bytes(film.read_bytes()[: film.stat().st_size // 2])


def test_a_fragmented_mp4_that_was_cut_between_fragments(tmp_path: Path):
    film = noise(tmp_path / "a.mp4", codec="libx264", options={"movflags": "dash+frag_keyframe+global_sidx"})
    whole = film.read_bytes()
    assert len(shown(film, incomplete=False)[0]) == 24
    fragments = [at - 4 for at in range(len(whole)) if whole.startswith(b"moof", at)]
    film.write_bytes(whole[: fragments[len(fragments) // 2]])
    values, remarks = shown(film)
    assert 0 < len(values) < 24
    assert remarks[0] == f"truncated: {len(values)} of about 24 frames are there"


def test_a_gif_that_was_cut_off(tmp_path: Path):
    pictures = [Image.fromarray(pixels).convert("P") for pixels in plain(RED, GREY, (0, 0, 255))]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:])
    content = (tmp_path / "a.gif").read_bytes()
    assert "truncated: its end is missing" not in shown(tmp_path / "a.gif")[1]
    (tmp_path / "a.gif").write_bytes(content[:-1])
    assert shown(tmp_path / "a.gif")[1][0] == "truncated: its end is missing"


def test_a_hole_in_a_transport_stream_is_said(tmp_path: Path):
    film = noise(tmp_path / "a.ts", codec="mpeg2video")
    assert not any("damaged" in remark for remark in shown(film)[1])
    content = bytearray(film.read_bytes())
    middle = len(content) // 376 * 188
    content[middle : middle + 188 * 9] = bytes(188 * 9)
    film.write_bytes(content)
    assert any(remark.startswith("damaged") for remark in shown(film)[1])


@pytest.mark.parametrize("name", ["a.ts", "a.mkv"])
def test_damage_is_the_same_in_every_run(tmp_path: Path, name: str):
    film = noise(tmp_path / name, codec="libx264")
    content = bytearray(film.read_bytes())
    content[len(content) // 3 : len(content) // 3 + 1500] = bytes(1500)
    film.write_bytes(content)
    found = []
    for _ in range(3):
        with opened(film) as opened_film:
            opened_film.stream.thread_count = 8
            frames = [frame.to_ndarray().tobytes() for frame in opened_film.frames()]
            assert opened_film.stream.thread_type.name == "SLICE"  # threads of frames would find it after some frames
            found.append((frames, opened_film.remarks))
    assert found[0] == found[1] == found[2]
    assert any(remark.startswith(("damaged", "truncated")) for remark in found[0][1])


def noise(path: Path, sound: bool = False, codec: str = "mpeg4", **settings: Any) -> Path:
    """24 frames of noise, three of them intra-coded; with a tone that lasts two seconds longer."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", **settings) as container:
        stream = container.add_stream(codec, rate=24, options={"g": "8", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        tone = container.add_stream("pcm_s16le", rate=8000, layout="mono") if sound else None
        for _ in range(24):
            pixels = rng.integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
        if tone is not None:
            heard = av.AudioFrame.from_ndarray(np.zeros((1, 8000 * 3), np.int16), "s16", "mono")
            heard.sample_rate, heard.pts = 8000, 0
            container.mux([*tone.encode(heard), *tone.encode()])
    return path


def test_damaged_frames_are_counted_and_refused_on_demand(tmp_path: Path):
    frames = torch.rand(3, 24, 8, 12, generator=torch.Generator().manual_seed(0))
    film = write_mp4(tmp_path / "a.mp4", torch.nn.functional.interpolate(frames, size=(64, 96), mode="bilinear"), 8.0)
    content, said = film.read_bytes(), []
    for place in range(len(content) // 4, len(content), len(content) // 5):
        film.write_bytes(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
        said += [remark for remark in shown(film)[1] if remark.startswith("damaged: ")]
        if said:
            break
    with pytest.raises(UnreadableVideo, match=f"^{said[0]}$"):
        shown(film, incomplete=False)


def test_mirrored_film_is_mirrored_back(tmp_path: Path):
    pixels = np.zeros((1, 32, 48, 3), np.uint8)
    pixels[:, :, :24] = RED
    film = tmp_path / "a.mp4"
    with av.open(str(film), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv444p"
        container.mux([*stream.encode(av.VideoFrame.from_ndarray(pixels[0], format="rgb24")), *stream.encode()])
    content, one = film.read_bytes(), 1 << 16
    upright = struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    at = content.rindex(upright)
    film.write_bytes(content[:at] + struct.pack(">9i", -one, 0, 0, 0, one, 0, 0, 0, 1 << 30) + content[at + 36 :])
    frames, remarks = decode_video(film, 32, 48)
    np.testing.assert_allclose(frames[0, 16, [8, 40]].float(), [(0, 0, 0), RED], atol=12)
    assert "mirrored" in " ".join(remarks)


def tone(path: Path, seconds: float = 2.0, pitch: float = 440.0) -> Path:
    """A grey video with a tone that begins after half of it."""
    with av.open(str(path), "w") as container:
        picture = container.add_stream("libx264", rate=8)
        picture.width, picture.height, picture.pix_fmt = *SIZE, "yuv420p"
        sound = container.add_stream("aac", rate=48000, layout="mono")
        for pixels in plain(*[GREY] * round(8 * seconds)):
            container.mux(picture.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(picture.encode())
        time = np.arange(round(48000 * seconds)) / 48000
        wave = np.where(time >= seconds / 2, 0.5 * np.sin(2 * np.pi * pitch * time), 0).astype(np.float32)
        for start in range(0, len(wave), 1024):
            frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], "fltp", "mono")
            frame.sample_rate, frame.pts = 48000, start
            container.mux(sound.encode(frame))
        container.mux(sound.encode())
    return path


def loudness(path: Path) -> np.ndarray:
    """Root mean square of every tenth of a second."""
    with av.open(str(path)) as container:
        wave = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    return np.sqrt((wave[: len(wave) // 4800 * 4800].reshape(-1, 4800) ** 2).mean(1))


@pytest.mark.parametrize(("at", "start", "first"), [(0.0, 0.0, 1.0), (0.5, 0.0, 1.5), (0.0, 0.7, 0.3)])
def test_sound_is_left_out_or_carried_over_at_its_time(tmp_path: Path, at: float, start: float, first: float):
    source = tone(tmp_path / "a.mp4")
    assert "its sound is not used" in shown(source)[1]
    made = write_mp4(tmp_path / "b.mp4", torch.rand(3, 12, 32, 48), 8.0, sound=Sound(source, at, start))
    heard = loudness(made)
    assert len(heard) in (15, 16)  # as long as the video, to an AAC frame
    loud = np.flatnonzero(heard > 0.2)
    if first < 1.5:
        assert loud[0] == pytest.approx(10 * first, abs=1)
    else:
        assert not loud.size


def test_damaged_sound_is_refused_by_name(tmp_path: Path):
    source = tone(tmp_path / "a.mp4")
    with av.open(str(source)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(audio=0) if packet.size]
    content = bytearray(source.read_bytes())
    for at, size in places[5:]:
        content[at : at + size] = b"\xff" * size
    source.write_bytes(content)
    with pytest.raises(BadValue, match=r"sound=.*a\.mp4: expected a file whose sound can be decoded: "):
        Sound(source).samples(2.0)


# Names


@pytest.mark.parametrize("name", ["take:1.mp4", "2026-01-01T12:30:00.mp4", "Cats [dQw4w9WgXcQ].mp4", "100%d.mp4"])
def test_any_name_is_a_file(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    write_mp4(name, torch.rand(3, 3, 32, 48), 8.0)
    assert (tmp_path / name).is_file()
    assert len(shown(Path(name))[0]) == 3


# Pictures


def saved(path: Path, image: Image.Image, **settings: Any) -> tuple[np.ndarray, list[str]]:
    image.save(path, **settings)
    read, remarks = read_image(path)
    return np.asarray(read)[SIZE[1] // 2, SIZE[0] // 2], remarks


def one_colour(mode: str, value: Any) -> Image.Image:
    return Image.new(mode, SIZE, value)


def profile(kind: str) -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(kind)).tobytes()


def test_an_icc_profile_is_converted(tmp_path: Path):
    icc = swapped_profile()
    for name, mode, value in (("a.png", "RGB", RED), ("b.png", "RGBA", (*RED, 255)), ("c.jpg", "RGB", RED)):
        found, remarks = saved(tmp_path / name, one_colour(mode, value), icc_profile=icc, quality=100)
        np.testing.assert_allclose(found, (RED[1], RED[0], RED[2]), atol=6)
        assert remarks == ["ICC profile 'sRGB built-in' is converted to sRGB"]
    found, remarks = saved(tmp_path / "d.png", one_colour("RGB", RED), icc_profile=profile("sRGB"))
    assert (found.tolist(), remarks) == (list(RED), [])  # bit for bit


def swapped_profile() -> bytes:
    """sRGB's profile with red and green exchanged."""
    content = profile("sRGB")
    return content.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")


def test_a_profile_that_does_not_fit_is_ignored_and_said(tmp_path: Path):
    for name, mode, value in (("a.jpg", "CMYK", (0, 200, 200, 0)), ("b.png", "L", 77)):
        found, remarks = saved(tmp_path / name, one_colour(mode, value), icc_profile=profile("sRGB"))
        assert any(remark.startswith("its ICC profile is ignored") for remark in remarks), name
    assert found.tolist() == [77] * 3
    _, remarks = saved(tmp_path / "c.png", one_colour("RGB", RED), icc_profile=b"no profile")
    assert any(remark.startswith("its ICC profile is ignored") for remark in remarks)
    assert saved(tmp_path / "d.jpg", one_colour("CMYK", (0, 0, 0, 255)))[1] == [
        "CMYK without a profile is converted approximately"
    ]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(tmp_path: Path, orientation: int):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    image.save(tmp_path / "a.png", exif=exif)
    read, remarks = read_image(tmp_path / "a.png")
    pixels = np.asarray(image)
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    assert np.array_equal(np.asarray(read), pixels[::rows, ::columns])
    assert bool(remarks) == (orientation > 1)


@pytest.mark.parametrize("suffix", ["png", "webp", "jpg"])
def test_exif_that_cannot_be_read_is_none(tmp_path: Path, suffix: str):
    for garbage in (
        b"Exif\0\0garbage",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(30),
    ):
        found, _ = saved(tmp_path / f"a.{suffix}", one_colour("RGB", GREY), exif=garbage, quality=100)
        np.testing.assert_allclose(found, GREY, atol=2)


def test_adobe_rgb_as_cameras_say_it(tmp_path: Path):
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ColorSpace] = 0xFFFF
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.IFD.Interop] = {1: "R03"}
    found, remarks = saved(tmp_path / "a.jpg", one_colour("RGB", (220, 30, 30)), exif=exif, quality=100)
    np.testing.assert_allclose(found, (255, 24, 24), atol=4)
    assert remarks == ["Adobe RGB (by its EXIF) is converted to sRGB"]


def test_the_gamma_of_a_png_counts(tmp_path: Path):
    info = PngImagePlugin.PngInfo()
    info.add(b"gAMA", struct.pack(">I", 100000))  # linear light
    found, remarks = saved(tmp_path / "a.png", one_colour("RGB", (55, 55, 55)), pnginfo=info)
    np.testing.assert_allclose(found, 128, atol=1)  # 0.2158 of white
    assert remarks == ["gamma 1 is converted to sRGB"]


def test_hdr_pictures_are_refused_and_wide_ones_converted(tmp_path: Path):
    for transfer, primaries in ((16, 9), (13, 12)):
        info = PngImagePlugin.PngInfo()
        info.add(b"cICP", bytes([primaries, transfer, 0, 1]))
        one_colour("RGB", RED).save(tmp_path / f"{transfer}.png", pnginfo=info)
    with pytest.raises(BadValue, match=r"16\.png: .*HDR \(PQ\) is not supported"):
        read_image(tmp_path / "16.png")
    read, remarks = read_image(tmp_path / "13.png")
    assert remarks == ["Display P3 is converted to sRGB"]
    assert read.getpixel((0, 0))[0] > RED[0]


def test_chromaticities_of_a_png_count_with_a_gamma(tmp_path: Path):
    adobe = [0.3127, 0.329, *np.ravel(colour.ADOBE_RGB)]
    chunk = struct.pack(">8I", *(round(100000 * value) for value in adobe))
    for gamma, value in ((45455, (255, 24, 24)), (None, (220, 30, 30))):
        info = PngImagePlugin.PngInfo()
        if gamma:
            info.add(b"gAMA", struct.pack(">I", gamma))
        info.add(b"cHRM", chunk)
        found, remarks = saved(tmp_path / "a.png", one_colour("RGB", (220, 30, 30)), pnginfo=info)
        np.testing.assert_allclose(found, value, atol=4)
        assert "own primaries (cHRM)" in remarks[0]
        assert ("ignored" in remarks[0]) == (gamma is None)


def test_transfer_function_and_range_of_cicp(tmp_path: Path):
    def tagged(*coding: int) -> tuple[np.ndarray, list[str]]:
        info = PngImagePlugin.PngInfo()
        info.add(b"cICP", bytes(coding))
        return saved(tmp_path / "a.png", one_colour("RGB", (55, 55, 55)), pnginfo=info)

    found, remarks = tagged(1, 8, 0, 1)
    np.testing.assert_allclose(found, 128, atol=1)  # 0.2158 of white
    assert remarks == ["BT.709, linear is converted to sRGB"]
    with pytest.raises(BadValue, match=r"\(logarithmic\) of H.273 is not supported"):
        tagged(1, 9, 0, 1)
    with pytest.raises(BadValue, match="limited range is not supported"):
        tagged(1, 13, 0, 0)


def test_a_pixel_aspect_without_a_unit_is_said(tmp_path: Path):
    for density, said in (((2, 1), ["pixels of 2 x 1 per unit are assumed to be square"]), ((0, 1), [])):
        path = with_chunk(tmp_path / "a.png", b"pHYs", struct.pack(">2IB", *density, 0))
        assert read_image(path)[1] == said
    one_colour("RGB", RED).save(tmp_path / "a.jpg")
    content = bytearray((tmp_path / "a.jpg").read_bytes())
    at = content.index(b"JFIF") + 7
    content[at : at + 5] = struct.pack(">B2H", 0, 2, 1)
    (tmp_path / "a.jpg").write_bytes(content)
    assert read_image(tmp_path / "a.jpg")[1] == ["pixels of 2 x 1 per unit are assumed to be square"]


def test_a_transparent_grey_of_16_bits_becomes_black(tmp_path: Path):
    grey = np.full((SIZE[1], SIZE[0]), 30000, np.uint16)
    grey[16] = 40000
    grey[:16] = 40001
    Image.fromarray(grey).save(tmp_path / "a.png", transparency=40000)
    read, remarks = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(read)[[8, 16, 24], 0, 0], [156, 0, 117])
    assert remarks == ["16 bits are reduced to 8", "transparent pixels become black"]


def test_a_profile_that_cannot_be_inflated_is_said(tmp_path: Path):
    read, remarks = read_image(with_chunk(tmp_path / "a.png", b"iCCP", b"x\0\0not zlib"))
    assert (read.getpixel((0, 0)), remarks) == (RED, ["its ICC profile is unreadable and ignored"])


def with_chunk(path: Path, kind: bytes, content: bytes) -> Path:
    """A PNG of one colour with a chunk that Pillow does not write."""
    one_colour("RGB", RED).save(path)
    png, body = path.read_bytes(), kind + content
    chunk = struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))
    path.write_bytes(png[:33] + chunk + png[33:])  # after IHDR
    return path


def test_depth_transparency_animation_and_pixel_aspect(tmp_path: Path):
    grey = np.linspace(0, 65535, SIZE[0] * SIZE[1]).reshape(SIZE[1], SIZE[0]).astype(np.uint16)
    found, remarks = saved(tmp_path / "a.png", Image.fromarray(grey))
    assert remarks == ["16 bits are reduced to 8"]
    read = np.asarray(read_image(tmp_path / "a.png")[0])[..., 0]
    np.testing.assert_array_equal(read, (grey / 257).round())
    frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), 40000, np.uint16), format="rgb48le").reformat(
        format="rgb48be"
    )
    with av.open(str(tmp_path / "deep.png"), "w", format="image2", options={"update": "1"}) as container:
        stream = container.add_stream("png")
        stream.width, stream.height, stream.pix_fmt = *SIZE, "rgb48be"
        container.mux([*stream.encode(frame), *stream.encode()])
    read, remarks = read_image(tmp_path / "deep.png")
    assert remarks == ["16 bits are reduced to 8"]
    assert abs(read.getpixel((0, 0))[0] - 40000 / 257) <= 1
    found, remarks = saved(tmp_path / "b.png", one_colour("RGBA", (*RED, 51)))
    assert (found.tolist(), remarks) == ([c // 5 for c in RED], ["transparent pixels become black"])
    others = [one_colour("RGB", GREY)]
    found, remarks = saved(
        tmp_path / "c.webp", one_colour("RGB", RED), save_all=True, append_images=others, lossless=True
    )
    assert (found.tolist(), remarks) == (list(RED), ["the first of its 2 pictures is read"])
    _, remarks = saved(tmp_path / "d.png", one_colour("RGB", RED), dpi=(72, 144))
    assert remarks == ["pixels of 72 x 144 dpi are assumed to be square"]
    with pytest.raises(BadValue, match="mode F are not supported"):
        saved(tmp_path / "e.tiff", one_colour("F", 0.5))


def test_a_picture_that_was_cut_off_is_refused(tmp_path: Path):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)).save(buffer, "png")
    (tmp_path / "a.png").write_bytes(buffer.getvalue()[:1500])
    with pytest.raises(BadValue, match=r"a complete, readable image .*: .*truncated"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_with_zeros_instead_of_its_end_is_refused(tmp_path: Path, progressive: bool):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8))
    thumbnail = io.BytesIO()
    image.save(thumbnail, "jpeg")
    image.save(tmp_path / "a.jpg", progressive=progressive, exif=b"Exif\0\0" + thumbnail.getvalue())
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(content[:2] + b"\xff" + content[2:] + bytes(100))
    read_image(tmp_path / "b.jpg")  # fill bytes are allowed, and others may follow the picture
    (tmp_path / "a.jpg").write_bytes(content[:-1000] + bytes(1000))
    with pytest.raises(BadValue, match=r"a complete, readable image .*: truncated: the end marker is missing"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("quality", [20, 75, 95])
@pytest.mark.parametrize("kind", [{"subsampling": 0}, {"subsampling": 2}, {"format": "MPO"}])
def test_a_jpeg_with_a_block_of_zeros_is_refused(tmp_path: Path, quality: int, kind: dict[str, Any]):
    rng = np.random.default_rng(quality)
    image = Image.fromarray(rng.integers(0, 256, (160, 160, 3), np.uint8))
    image.save(tmp_path / "a.jpg", quality=quality, exif=b"Exif\0\0" + bytes(600), append_images=[image], **kind)
    content = (tmp_path / "a.jpg").read_bytes()
    read_image(tmp_path / "a.jpg")  # zeros in the header are no damage
    start = content.index(b"\xff\xda") + 20
    at = int(rng.integers(start, start + 1000))
    (tmp_path / "a.jpg").write_bytes(content[:at] + bytes(512) + content[at + 512 :])
    with pytest.raises(BadValue, match=r"a complete, readable image .*: damaged: 51\d zeros in its compressed data"):
        read_image(tmp_path / "a.jpg")


def test_zeros_that_a_jpeg_needs_are_no_damage():
    picture = np.zeros((512, 512, 3), np.uint8)
    picture[96:200, 64:256] = np.random.default_rng(0).integers(0, 256, (104, 192, 3))
    stripes = np.where(np.arange(512)[:, None] % 16 < 8, 255, 0).astype(np.uint8) * np.ones((1, 512), np.uint8)
    pictures = [Image.new("RGB", (512, 512), colour) for colour in ("black", "white", GREY, RED)]
    pictures += [Image.fromarray(picture), Image.fromarray(stripes), Image.new("CMYK", (512, 512), (9, 99, 0, 50))]
    zeros = 0
    for image in pictures:
        for quality in (5, 75, 100):
            for settings in ({}, {"optimize": True}, {"progressive": True}, {"restart_marker_rows": 1}):
                buffer = io.BytesIO()
                image.save(buffer, "jpeg", quality=quality, subsampling=quality % 3, **settings)
                zeros += HOLE in buffer.getvalue()
                assert jpeg_fault(buffer.getvalue()) == ""
                padded = buffer.getvalue()[:-2] + bytes(500) + buffer.getvalue()[-2:]
                assert jpeg_fault(padded) == ""
    assert zeros > 20  # areas of one colour have them


def test_a_picture_that_is_damaged_is_refused_in_one_line(tmp_path: Path):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)).save(buffer, "png")
    content = buffer.getvalue()
    at = content.rindex(b"IDAT")
    assert at > content.index(b"IDAT")
    (tmp_path / "a.png").write_bytes(content[:at] + bytes(4) + content[at + 4 :])
    info = PngImagePlugin.PngInfo()
    info.add_text("long", "x" * (1 << 21), zip=True)
    one_colour("RGB", RED).save(tmp_path / "b.png", pnginfo=info)
    for name, said in {"a": "broken PNG file", "b": "Decompressed data too large"}.items():
        with pytest.raises(
            BadValue, match=rf"{name}\.png: expected a complete, readable image \(png .* tiff\).*{said}"
        ) as caught:
            read_image(tmp_path / f"{name}.png")
        assert "\n" not in str(caught.value)


def test_what_else_pillow_raises_for_damage_is_one_line(tmp_path: Path):
    one_colour("RGB", RED).save(tmp_path / "a.avif")
    content = (tmp_path / "a.avif").read_bytes()
    (tmp_path / "a.avif").write_bytes(content.replace(b"iloc", b"free"))  # where the picture lies
    with pytest.raises(BadValue, match=r"a\.avif: expected a complete, readable image .*: [^\n]+$"):
        read_image(tmp_path / "a.avif")


def test_hdr_is_found_behind_a_long_text(tmp_path: Path):
    info = PngImagePlugin.PngInfo()
    info.add_text("long", "x" * (1 << 17))
    info.add(b"cICP", bytes([9, 16, 0, 1]))
    one_colour("RGB", RED).save(tmp_path / "a.png", pnginfo=info)
    with pytest.raises(BadValue, match=r"HDR \(PQ\) is not supported"):
        read_image(tmp_path / "a.png")
