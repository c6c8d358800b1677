import numpy as np
import pytest
import torch

from interp_refiner.core import BadValue
from interp_refiner.data.codec import as_frames, contact_sheet, side_by_side, stacked
from interp_refiner.data.codec.contact_sheet import BORDER, KEYFRAME, LINE, PAPER, fitting, panel_size

LABELS = ["truth", "interpolation", "refined"]


def random_videos(num_frames: int = 5) -> list[torch.Tensor]:
    return [torch.rand(3, num_frames, 4, 6) for _ in LABELS]


def test_sheet_holds_every_frame_of_every_row():
    videos, scale = random_videos(), 3
    sheet = np.array(contact_sheet(videos, LABELS, scale=scale))
    height, width = 4 * scale + 2 * BORDER, 6 * scale + 2 * BORDER
    assert sheet.shape[0] == LINE + 3 * height
    left = sheet.shape[1] - 5 * width
    for row, video in enumerate(videos):
        for column, frame in enumerate(as_frames(video, scale).numpy()):
            y, x = LINE + row * height + BORDER, left + column * width + BORDER
            assert np.array_equal(sheet[y : y + 4 * scale, x : x + 6 * scale], frame)


def test_keyframes_are_bordered_and_no_others():
    keyframes = torch.tensor([True, False, False, True, False])
    sheet = np.array(contact_sheet(random_videos(), LABELS, keyframes, scale=2))
    width = 12 + 2 * BORDER
    corners = sheet[LINE, sheet.shape[1] - 5 * width :: width]
    assert [tuple(corner) for corner in corners] == [KEYFRAME if key else PAPER for key in keyframes.tolist()]


def test_long_videos_are_thinned_and_keep_their_ends():
    video = torch.arange(50).view(1, 50, 1, 1).expand(3, 50, 4, 6) / 255
    sheet = np.array(contact_sheet([video], ["truth"], columns=8, scale=1))
    width = 6 + 2 * BORDER
    row = sheet[LINE + BORDER + 1, sheet.shape[1] - 8 * width + BORDER :: width, 0]
    assert row.tolist() == [0, 7, 14, 21, 28, 35, 42, 49]


def test_title_labels_and_numbers_leave_ink():
    plain, titled = (np.array(contact_sheet(random_videos(), LABELS, title=t)) for t in ("", "level 3"))
    assert titled.shape[0] == plain.shape[0] + LINE
    assert (titled[:LINE] < 128).any()
    assert (plain[:LINE] < 128).any()
    assert (plain[LINE:, : 5 * BORDER] < 128).any()


def test_side_by_side_shows_all_videos_at_once():
    videos, keyframes = random_videos(), torch.tensor([True, False, True, False, True])
    frames = side_by_side(videos, LABELS, keyframes, "a title", scale=20).numpy()
    height, width = 80 + 2 * BORDER, 120 + 2 * BORDER
    assert frames.shape == (5, 2 * LINE + height, 3 * width, 3)
    for panel, video in enumerate(videos):
        x, y = panel * width + BORDER, 2 * LINE + BORDER
        assert np.array_equal(frames[:, y : y + 80, x : x + 120], as_frames(video, 20).numpy())
        assert [tuple(c) == KEYFRAME for c in frames[:, 2 * LINE, panel * width]] == keyframes.tolist()
    assert not np.array_equal(frames[0, :LINE], frames[1, :LINE])  # the counter


def test_sheets_are_stacked_whole():
    sheets = [contact_sheet(random_videos(n), LABELS, scale=1) for n in (5, 3)]
    both = np.array(stacked(sheets))
    assert both.shape == (2 * sheets[0].height, sheets[0].width, 3)
    assert np.array_equal(both[sheets[0].height :, : sheets[1].width], np.array(sheets[1]))


def test_refuses_what_does_not_belong_together():
    with pytest.raises(BadValue, match=r"videos=.*expected at least one video, all of the same"):
        contact_sheet([torch.rand(3, 5, 4, 6), torch.rand(3, 4, 4, 6)], ["a", "b"])
    with pytest.raises(BadValue, match=r"labels=.*expected 1 labels"):
        contact_sheet([torch.rand(3, 5, 4, 6)], ["a", "b"])
    with pytest.raises(BadValue, match="keyframes=4: expected 5 values"):
        side_by_side([torch.rand(3, 5, 4, 6)], ["a"], torch.ones(4, dtype=torch.bool))


def test_labels_that_are_wider_than_their_panel_are_cut_short():
    assert fitting("truth", 200) == "truth"
    long = "a_method_with_a_very_long_name"
    cut = fitting(long, 100)
    assert cut.endswith("...")
    assert long.startswith(cut.removesuffix("..."))
    assert 1 < len(cut) < len(long)


def test_the_shorter_side_of_a_video_has_256_pixels():
    wide, tall = torch.rand(3, 2, 16, 64), torch.rand(3, 2, 64, 16)
    assert [panel_size(*video.shape[2:]) for video in (wide, tall)] == [(256 + 6, 1024 + 6), (1024 + 6, 256 + 6)]
    assert panel_size(300, 400) == (306, 406)


def test_a_long_title_widens_no_picture():
    videos, prompt = random_videos(), "a pale ring moves " * 40
    assert contact_sheet(videos, LABELS, title=prompt).width == contact_sheet(videos, LABELS).width
    assert side_by_side(videos, LABELS, title=prompt).shape == side_by_side(videos, LABELS).shape
