"""Quality measures of clips, the clips that they leave out, and the report."""

import csv
from pathlib import Path

import pytest
import torch

from interp_refiner.core import BadValue
from interp_refiner.data import Cut, DatasetMetadata, Quality, ShardDataset, VideoEncoder, find_videos
from interp_refiner.data.codec import PatchDCT, write_mp4
from interp_refiner.data.preparation.quality import Measures, measured
from interp_refiner.data.preparation.report import histogram
from interp_refiner.data.text import CaptionEncoder

CUT = Cut(
    frame_size=(16, 16), size=(5, 16, 16), stride=(5, 16, 16), shot_change=None, held_out_videos=0.0, held_out_end=0.5
)


def noise(seed: int) -> torch.Tensor:
    return torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(seed))


def test_measures_of_known_clips() -> None:
    still = torch.full((3, 5, 8, 8), 51, dtype=torch.uint8)
    assert measured(still) == Measures(0.2, 0.0, 0.0, 0.0)
    board = (torch.arange(8).view(-1, 1) + torch.arange(8)) % 2  # four neighbours of the other colour: -4 or 4 of 255
    assert measured((255 * board).byte().expand(3, 1, 8, 8)).sharpness == pytest.approx((4 * 255) ** 2, rel=1e-3)
    ramp = torch.stack([torch.full((3, 8, 8), value, dtype=torch.uint8) for value in (0, 5, 10, 15, 117)], 1)
    found = measured(ramp)
    assert found.motion == pytest.approx(117 / 255 / 4, rel=1e-3)
    assert found.jump == pytest.approx((102 - 5) / 255, rel=1e-3)  # one step of 102 among steps of 5


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 3, 3), (5, 16, 8)])
def test_blurred_clips_are_less_sharp_and_dimmer_ones_darker(shape: tuple[int, int, int]) -> None:
    clip = torch.randint(0, 256, (3, *shape), generator=torch.Generator().manual_seed(3)).byte()
    blurred = torch.nn.functional.avg_pool2d(clip.float(), 3, 1, 1, count_include_pad=False).byte()
    assert measured(blurred).sharpness <= measured(clip).sharpness
    assert measured(clip // 2).brightness < measured(clip).brightness
    assert measured(clip[:, :1]).motion == measured(clip[:, :1]).jump == 0


def test_thresholds_name_why_a_clip_is_left_out() -> None:
    found = Measures(brightness=0.1, motion=0.01, sharpness=50.0, jump=0.2)
    assert Quality().fault(found) == ""
    assert Quality(0.1, 0.01, 50.0, 0.2).fault(found) == ""
    cases = {"too dark": Quality(brightness=0.11), "static": Quality(motion=0.02), "blurred": Quality(sharpness=51.0)}
    for why, quality in {**cases, "a cut inside": Quality(jump=0.19)}.items():
        assert quality.fault(found) == why


@pytest.mark.parametrize(
    "setting", [{"brightness": -0.1}, {"motion": 1.5}, {"jump": float("nan")}, {"sharpness": -1.0}]
)
def test_thresholds_that_cannot_be_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(BadValue, match=f"{next(iter(setting))}=.*expected a number from 0"):
        Quality(**setting)


def test_clips_are_left_out_told_and_shown_in_the_report(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    steps = torch.linspace(0.5, 1, 20).view(1, -1, 1, 1)
    for name, video in {
        "moves": noise(0) * steps,
        "still": noise(1).expand(-1, 20, -1, -1),
        "dark": noise(2) * steps / 50,
    }.items():
        write_mp4(tmp_path / "videos" / f"{name}.mp4", video, fps=10.0)
    (tmp_path / "videos" / "torn.mp4").write_bytes(b"no video" * 100)
    quality = Quality(brightness=0.1, motion=0.005)
    encoder = VideoEncoder(PatchDCT(), CaptionEncoder(4, 8), CUT, quality)
    encoded = encoder.write(find_videos(tmp_path / "videos"), tmp_path / "set")
    assert encoded.left_out == {"static": 4, "too dark": 4}
    assert encoded.clips == {"train": 2, "val": 2}
    data = [ShardDataset(tmp_path / "set" / split) for split in ("train", "val")]
    keys = {part.key(i) for part in data for i in range(len(part))}
    with open(tmp_path / "set" / "clips.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["key"] for row in rows if not row["left_out"]} == keys
    assert len(rows) == 12
    assert all(float(row["motion"]) < 0.005 for row in rows if row["left_out"] == "static")
    page = (tmp_path / "set" / "report.md").read_text()
    assert "8 of 12 clips are left out" in page
    assert "- `torn.mp4`: Invalid data" in page
    made_by = DatasetMetadata.load(tmp_path / "set" / "train").made_by
    assert made_by["left_out"] == encoded.left_out
    assert made_by["settings"]["quality"] == {"brightness": 0.1, "motion": 0.005}
    with pytest.raises(BadValue, match=r"quality\.motion=0\.005 instead of None"):
        VideoEncoder(PatchDCT(), CaptionEncoder(4, 8), CUT, Quality(brightness=0.1)).write(
            find_videos(tmp_path / "videos"), tmp_path / "set"
        )


def test_thresholds_that_leave_nothing_are_told(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    write_mp4(tmp_path / "videos" / "a.mp4", noise(0).expand(-1, 20, -1, -1), fps=10.0)
    encoder = VideoEncoder(PatchDCT(), CaptionEncoder(4, 8), CUT, Quality(motion=0.5))
    with pytest.raises(BadValue, match="train and val would be empty; 4 clips are left out"):
        encoder.write(find_videos(tmp_path / "videos"), tmp_path / "set")


def test_a_histogram_counts_every_clip_once() -> None:
    values = torch.rand(500, generator=torch.Generator().manual_seed(0)).tolist()
    assert sum(int(line.split()[3]) for line in histogram([*values, 1000.0])) == 501  # one far out
    assert histogram([]) == []
    assert sum(int(line.split()[3]) for line in histogram([0.5, 0.5])) == 2
