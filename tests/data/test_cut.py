"""How videos are cut, frame by frame."""

import random
from itertools import count as numbers
from pathlib import Path

import numpy as np
import pytest
import torch

from interp_refiner.core import BadValue, derived_seed
from interp_refiner.data import ClipSource, Cut, DatasetMetadata, ShardDataset, VideoEncoder, find_videos
from interp_refiner.data.codec import PatchDCT, count_frames, read_video, write_mp4
from interp_refiner.data.preparation.cut import automatic_buckets
from interp_refiner.data.text import CaptionEncoder

BUCKETS = [[9, 16, 32], [9, 32, 16], [5, 16, 32]]


def frames(count: int, height: int = 4, width: int = 4) -> list[np.ndarray]:
    """Frame n shows the number n."""
    return [np.full((height, width, 3), number, np.uint8) for number in range(count)]


def shown(clip: torch.Tensor) -> list[int]:
    return clip[0, :, 0, 0].tolist()


@pytest.mark.parametrize("seed", range(20))
def test_clips_lie_on_a_grid_and_the_last_is_flush_with_the_end(seed: int) -> None:
    chance = random.Random(seed)
    length, step, count = chance.randint(1, 9), chance.randint(1, 12), chance.randint(1, 60)
    cut = Cut((4, 4), (length, 4, 4), (step, 4, 4), shot_change=None)
    border = chance.choice([None, chance.randint(0, count)])
    found = {"train": [], "val": []}
    for piece in cut.clips(iter(frames(count)), border):
        assert shown(piece.pixels) == list(range(piece.corner[0], piece.corner[0] + length))
        found[piece.split].append(piece.corner[0])
    parts = (
        {"train": (0, border, step), "val": (border, count, length)}
        if border is not None
        else {"train": (0, count, step)}
    )
    for split, (first, last, stride) in parts.items():
        fits = last - first >= length
        wanted = sorted({*range(first, last - length + 1, stride), last - length}) if fits else []
        assert found[split] == wanted


def test_few_frames_are_held_however_long_a_shot_is() -> None:
    alive, most = set(), 0

    class Counted(np.ndarray):
        def __del__(self):
            alive.discard(id(self))

    def film():
        nonlocal most
        for _ in range(2000):
            frame = np.zeros((4, 4, 3), np.uint8).view(Counted)
            alive.add(id(frame))
            most = max(most, len(alive))
            yield frame

    clips = sum(1 for _ in Cut((4, 4), (5, 4, 4), (7, 4, 4), shot_change=None).clips(film()))
    assert clips == 286
    assert most <= 5 + 7 + 1


def test_a_shot_takes_the_longest_clip_that_fits() -> None:
    cut = Cut(buckets=[[9, 4, 4], [5, 4, 4], [9, 4, 8]], shot_change=0.5)
    film = [*frames(12), *(frame + 200 for frame in frames(7)), *frames(4), *(frame + 200 for frame in frames(10))]
    found = [(piece.corner[0], piece.size[0]) for piece in cut.clips(iter(film))]
    assert found == [(0, 9), (3, 9), (12, 5), (14, 5), (23, 9), (24, 9)]  # the third shot has four frames


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [((1080, 1920), (16, 32)), ((1920, 1080), (32, 16)), ((100, 101), (16, 32)), ((101, 100), (32, 16))],
)
def test_what_is_upright_stays_upright(shape: tuple[int, int], wanted: tuple[int, int]) -> None:
    assert Cut(buckets=BUCKETS).frame_shape(*shape) == wanted


def test_automatic_buckets_have_the_area_and_the_divisor() -> None:
    sizes = automatic_buckets(81, 480 * 832, 16)
    assert (81, 480, 848) in sizes
    assert {(t, w, h) for t, h, w in sizes} == set(sizes)
    for frames_, height, width in sizes:
        assert frames_ == 81
        assert height % 16 == width % 16 == 0
        assert height * width == pytest.approx(480 * 832, rel=0.05)
    assert Cut(size=(9, 16, 32), frame_size=(16, 32), stride=(9, 16, 32), buckets="auto", divisor=4).sizes[2] == (
        9,
        24,
        24,
    )


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"buckets": []}, r"buckets=\[\]: expected auto, null or different \[frames, height, width\]"),
        ({"buckets": [[9, 16]]}, r"buckets=\[\[9, 16\]\]: expected auto"),
        ({"buckets": [[9, 16, 16], [9, 16, 16]]}, "expected auto, null or different"),
        ({"buckets": "auto", "divisor": 0}, "divisor=0: expected at least 1"),
        ({"buckets": "auto", "divisor": 5000}, "divisor=5000: expected a number that fits"),
        ({"buckets": BUCKETS, "max_frames": 4}, "max_frames=4: expected at least 5, the frames"),
    ],
)
def test_buckets_that_cannot_be_are_refused(setting: dict, said: str) -> None:
    with pytest.raises(BadValue, match=said):
        _ = Cut(**setting).sizes


def test_frames_are_counted_without_decoding(tmp_path: Path) -> None:
    write_mp4(tmp_path / "a.mp4", torch.rand(3, 20, 16, 32), fps=10.0)
    for fps in (None, 5.0, 7.0, 10.0, 20.0):
        assert count_frames(tmp_path / "a.mp4", fps) == len(read_video(tmp_path / "a.mp4", 16, 32, fps=fps))


def test_every_bucket_becomes_a_data_set_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    for name, shape in {
        "wide": (12, 32, 64),
        "upright": (12, 64, 32),
        "short": (6, 32, 64),
        "none": (4, 32, 64),
    }.items():
        write_mp4(
            tmp_path / "videos" / f"{name}.mp4", torch.rand(3, 1, *shape[1:]).expand(-1, shape[0], -1, -1), fps=8.0
        )
        if name != "none":
            write_mp4(
                tmp_path / "videos" / f"{name}2.mp4", torch.rand(3, 1, *shape[1:]).expand(-1, shape[0], -1, -1), fps=8.0
            )
    cut = Cut(buckets=BUCKETS, held_out_videos=0.4)
    encoded = VideoEncoder(PatchDCT(), CaptionEncoder(4, 8), cut, batch_size=4).write(
        find_videos(tmp_path / "videos"), tmp_path / "set"
    )
    assert encoded.skipped == {"none.mp4": "no shot has the 5 frames of a clip (4 in all)"}
    found: dict[str, set[str]] = {}
    for file in sorted((tmp_path / "set").rglob("dataset.json")):
        data = ShardDataset(file.parent)
        frames_, height, width = map(int, file.parent.name.split("x"))
        assert data.metadata.latent_shape == (16, frames_, height // 4, width // 4)
        assert data[0].latents.shape == data.metadata.latent_shape
        found.setdefault(file.parent.name, set()).update(data.key(i).split("-")[0] for i in range(len(data)))
    assert found == {
        "9x16x32": {"wide", "wide2"}, "9x32x16": {"upright", "upright2"}, "5x16x32": {"short", "short2"},
    }  # fmt: skip
    assert sum(encoded.clips.values()) == 2 * 2 + 2 * 2 + 2 * 2
    assert DatasetMetadata.load(file.parent).made_by["settings"]["cut"]["buckets"] == BUCKETS


def test_a_size_that_only_held_out_clips_have_is_trained(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def named(start: str, held_out: bool) -> str:
        drawn = ((f"{start}{number}", derived_seed("held out", f"{start}{number}-mp4") / 2**63) for number in numbers())
        return next(name for name, draw in drawn if (draw < 0.3) == held_out)

    (tmp_path / "videos").mkdir()
    wide, wide_val, upright_val = named("wide", False), named("wide", True), named("upright", True)
    for name, shape in ((wide, (16, 32)), (wide_val, (16, 32)), (upright_val, (32, 16))):
        write_mp4(tmp_path / "videos" / f"{name}.mp4", torch.rand(3, 1, *shape).expand(-1, 9, -1, -1), fps=8.0)
    encoder = VideoEncoder(PatchDCT(), CaptionEncoder(4, 8), Cut(buckets=BUCKETS, held_out_videos=0.3))
    videos = find_videos(tmp_path / "videos")
    whole = encoder.write(videos, tmp_path / "set")
    assert whole.clips == {"train": 2, "val": 1}
    assert "held-out clips of 9x32x16 become training clips" in caplog.text
    clips = ClipSource(str(tmp_path / "set")).open()
    assert (len(clips.train), len(clips.val)) == (2, 1)
    rows = (tmp_path / "set/clips.csv").read_text()
    assert f"{upright_val}-mp4-t00000-h0000-w0000,train/9x32x16," in rows
    assert encoder.write(videos, tmp_path / "set") == whole
    held_out = [video for video in videos if video.name != f"{wide}.mp4"]
    with pytest.raises(BadValue, match="train would be empty"):
        encoder.write(held_out, tmp_path / "none")


def test_a_video_that_is_held_out_is_in_no_other_split(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its shots have two lengths, and no training clip has the shorter one."""
    flash = torch.rand(3, 14, 16, 32, generator=torch.Generator().manual_seed(0)) * 0.1
    flash[:, 9:] += 0.8  # shots of 9 and 5 frames
    drawn = {number: derived_seed("held out", f"v{number}-mp4") / 2**63 for number in range(99)}
    held_out = [number for number, draw in drawn.items() if draw < 0.3][:2]
    training = next(number for number, draw in drawn.items() if draw >= 0.3)
    (tmp_path / "videos").mkdir()
    for number, frames in ((training, 9), (held_out[0], 14), (held_out[1], 9)):
        write_mp4(tmp_path / "videos" / f"v{number}.mp4", flash[:, :frames], fps=8.0)
    cut = Cut(buckets=BUCKETS, held_out_videos=0.3)
    whole = VideoEncoder(PatchDCT(), CaptionEncoder(4, 8), cut).write(
        find_videos(tmp_path / "videos"), tmp_path / "set"
    )
    assert whole.clips == {"train": 1, "val": 2}
    assert whole.left_out == {"no training clip has their size, and their video is held out": 1}
    assert "held-out clips of 5x16x32 are left out: no training clip" in caplog.text
    clips = ClipSource(str(tmp_path / "set")).open()
    assert (len(clips.train), len(clips.val)) == (1, 2)
    assert not list((tmp_path / "set").rglob("5x16x32"))
    assert "1 of 4 clips are left out" in (tmp_path / "set" / "report.md").read_text()
    found = VideoEncoder(PatchDCT(), CaptionEncoder(4, 8), cut).write(
        find_videos(tmp_path / "videos"), tmp_path / "set"
    )
    assert found == whole


@pytest.mark.parametrize("shot_change", [None, 0.1])
def test_a_change_of_size_begins_a_new_shot(shot_change: float | None) -> None:
    cut = Cut(buckets=[[3, 4, 4], [3, 4, 8]], shot_change=shot_change)
    pieces = list(cut.clips([*frames(7), *frames(7, 4, 8)]))
    found = [(piece.corner[0], piece.size[2]) for piece in pieces]
    assert found == [(0, 4), (3, 4), (4, 4), (7, 8), (10, 8), (11, 8)]
