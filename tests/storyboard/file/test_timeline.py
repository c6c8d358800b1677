"""Snapping to the latent grid, by the codec's factor and first-frame rule."""

import pytest
import torch

from interp_refiner.core import BadValue
from interp_refiner.data.codec import Codec, PatchDCT
from interp_refiner.storyboard import Keyframe
from interp_refiner.storyboard.conditioning.encoding import encode_keyframe
from interp_refiner.storyboard.file.keyframe import frame_at
from interp_refiner.storyboard.file.timeline import Grid, collisions, place, refuse_collisions
from interp_refiner.storyboard.plan.plan import Planner


class FourFrames(Codec):
    """Wan's factors; a latent frame holds the mean of the pixel frames that it codes."""

    name = "four_frames"

    def __init__(self):
        super().__init__(4, 1, True, 3)

    def transform(self, video):
        later = video[:, :, 1:].unflatten(2, (-1, 4)).mean(3)
        return torch.cat([video[:, :, :1], later], 2)

    def inverse(self, latents):
        return latents[:, :, torch.tensor(self.latent_frame(latents.shape[2]))]


def still(time, **fields):
    return Keyframe(image=torch.full((3, 4, 4), 0.5), time=time, **fields)


@pytest.mark.parametrize(
    ("time", "frame"),
    [(0, 0), (20, 20), ("7", 7), ("50%", 10), ("100%", 20), ("33%", 7), ("1.5s", 12), ("0s", 0), (" 2.5 s", 20)],
)
def test_times_in_frames_seconds_and_percent(time, frame):
    assert frame_at(time, 21, fps=8.0) == frame


@pytest.mark.parametrize(
    ("time", "said"),
    [
        (21, "time=21: expected a frame from 0 to 20"),
        ("101%", "time=101%: expected 0% to 100%"),
        ("3s", r"time=3s: expected 0s to 2\.5s, of 21 frames at 8 per second"),
        ("soon", r"time=soon: expected a frame \(12\), seconds \('1\.5s'\), minutes and seconds \(1:30\) or percent"),
        ("2.5", "time=2.5: expected a frame"),
        (-1, "time=-1: expected a frame"),
        ("9" * 400 + ":00:00", "time=9+:00:00: expected 0s to"),
    ],
)
def test_times_outside_the_clip_are_refused(time, said):
    with pytest.raises(BadValue, match=said):
        frame_at(time, 21, fps=8.0)


def test_stills_take_the_slot_that_codes_their_frame():
    codec, grid = FourFrames(), Grid.of(FourFrames(), 17)
    assert grid.slots == (0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4)
    placed = place([still(t) for t in (0, 1, 8, "2.25s", "100%")], grid, 4.0, codec)
    assert [(p.frame, list(p.slots), (p.shown.start, p.shown.stop)) for p in placed] == [
        (0, [0], (0, 1)),
        (1, [1], (1, 5)),
        (8, [2], (5, 9)),
        (9, [3], (9, 13)),
        (16, [4], (13, 17)),
    ]
    assert collisions(placed) == []


def test_two_in_one_slot_collide_and_both_are_named():
    codec = FourFrames()
    keyframes = [still(12), still(6), still("1.75s")]
    placed = place(keyframes, Grid.of(codec, 17), 4.0, codec)
    assert [(a.index, b.index) for a, b in collisions(placed)] == [(1, 2)]
    with pytest.raises(BadValue) as error:
        refuse_collisions(placed, keyframes)
    assert str(error.value) == (
        "keyframes[2].time=1.75s: expected a latent slot of its own: "
        "it would share frames 5 to 8 with keyframes[1] (time 6)"
    )


@pytest.mark.parametrize(("frames", "said"), [(16, "such as 13 or 17"), (3, "such as 1 or 5"), (80, "77 or 81")])
def test_a_length_that_the_codec_does_not_divide_names_the_nearest(frames, said):
    with pytest.raises(BadValue, match=f"frames={frames}: expected 1 \\+ a multiple of 4 frames, such as.*{said[-5:]}"):
        Grid.of(FourFrames(), frames)


@pytest.mark.parametrize(
    ("frames", "seconds", "told"),
    [
        (10**11, None, "frames=100000000000: expected at most"),
        (None, 1e300, r"seconds=1e\+300: expected at most 250000"),
    ],
)
def test_a_length_beyond_all_videos_is_refused(frames, seconds, told):
    planner = Planner(FourFrames(), (3, 5, 4, 4), levels=None, fps=8.0, divisor=(1, 1), replaces=False)
    with pytest.raises(BadValue, match=f"^{told}"):
        planner.length(frames, seconds, fps=4.0)


@pytest.mark.parametrize(("time", "frames", "slots"), [(0, 9, [0, 1, 2]), (0, 8, [0, 1]), (5, 8, [2, 3]), (5, 7, [2])])
def test_videos_take_the_slots_they_fill(time, frames, slots):
    video = Keyframe(video=torch.rand(3, frames, 4, 4), time=time)
    (placed,) = place([video], Grid.of(FourFrames(), 17), 4.0, FourFrames())
    assert list(placed.slots) == slots


def test_videos_that_do_not_fit_are_refused():
    grid, codec = Grid.of(FourFrames(), 17), FourFrames()
    with pytest.raises(BadValue, match=r"keyframes\[0\]\.time=13: .*an earlier time, or a clip of at most 4 frames"):
        place([Keyframe(video=torch.rand(3, 8, 4, 4), time=13)], grid, 4.0, codec)
    with pytest.raises(BadValue, match=r"keyframes\[0\]\.clip=3 frames: expected at least 4"):
        place([Keyframe(video=torch.rand(3, 3, 4, 4), time=13)], grid, 4.0, codec)


@pytest.mark.parametrize("time", [0, 7])
def test_a_still_is_encoded_as_what_stands_still_at_its_slot(time):
    codec, picture = FourFrames(), torch.rand(3, 4, 4)
    keyframe = Keyframe(image=picture, time=time)
    (placed,) = place([keyframe], Grid.of(codec, 17), 4.0, codec)
    latents = encode_keyframe(codec, keyframe, placed, (3, 4, 4), torch.device("cpu"))
    torch.testing.assert_close(latents, picture.unsqueeze(1))


def test_a_video_is_encoded_frame_by_frame_where_it_stands():
    codec, video = FourFrames(), torch.rand(3, 9, 4, 4)
    for time, wanted in ((0, codec.encode(video[None])[0]), (5, video[:, :8].unflatten(1, (2, 4)).mean(2))):
        keyframe = Keyframe(video=video, time=time)
        (placed,) = place([keyframe], Grid.of(codec, 17), 4.0, codec)
        latents = encode_keyframe(codec, keyframe, placed, (3, 4, 4), torch.device("cpu"))
        torch.testing.assert_close(latents, wanted)


def test_latents_of_another_size_are_refused():
    codec, device = PatchDCT(), torch.device("cpu")
    (placed,) = place([still(0)], Grid.of(codec, 5), 8.0, codec)
    wrong = Keyframe(latents=torch.rand(16, 1, 4, 4))
    with pytest.raises(BadValue, match=r"latents=\[16, 1, 4, 4\]: expected \[c, n, y, x\]"):
        encode_keyframe(codec, wrong, placed, (16, 4, 6), device)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "keyframe=None: expected exactly one of image, video, latents, generated"),
        ({"image": torch.zeros(3, 4, 4), "latents": torch.zeros(3, 1, 4, 4)}, "keyframe=image and latents"),
        ({"image": torch.zeros(3, 4, 4), "strength": 1.2}, "strength=1.2: expected a number from 0"),
        ({"image": torch.zeros(3, 4, 4), "strength": 0.5, "hard": True}, "hard: true or a strength, not both"),
        ({"image": torch.zeros(3, 4, 4), "hard": False}, "hard=false: expected a strength"),
    ],
)
def test_keyframes_that_contradict_themselves_are_refused(fields, said):
    with pytest.raises(BadValue, match=said):
        Keyframe(**fields)
