"""Given keyframes: which, with what values, and that nothing ever changes them."""

from copy import copy
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp_refiner.core import BadValue, Draws
from interp_refiner.corruption import Corruption, GivenAtRandom, GivenFile, GivenFrames
from interp_refiner.interpolator import Linear, Slerp, Spline
from interp_refiner.sampler import Bridge, Hierarchical, OneJump, Sampler
from interp_refiner.scheduled_sampling import Never, Noisy, Self
from tests.factories import make_corruption, random_clip
from tests.helpers import group_members

SAMPLERS = {"one_jump": OneJump(), "bridge": Bridge(steps=3, eta=0.5), "hierarchical": Hierarchical()}
INTERPOLATORS = {"linear": Linear(), "slerp": Slerp(), "spline": Spline()}
SCHEDULED_SAMPLING = {"never": Never(), "noisy": Noisy(), "self": Self()}


@cache
def of_mode(mode: str) -> Corruption:
    return make_corruption(
        f"corruption={mode}",
        "schedule.endpoints=false",
        "corruption/given=random",
        "corruption.given.most=7",
        "corruption.keyframe_fraction=0.5",
    )


def corruption(mode: str, interpolator: str, scheduled_sampling: str) -> Corruption:
    forward = copy(of_mode(mode))
    forward.interpolator = INTERPOLATORS[interpolator]
    forward.scheduled_sampling = SCHEDULED_SAMPLING[scheduled_sampling]
    return forward


def bits(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous().view(torch.int16 if x.element_size() == 2 else torch.int32)


@settings(max_examples=30, deadline=None)
@given(
    mode=st.sampled_from(group_members("corruption")),
    interpolator=st.sampled_from(list(INTERPOLATORS)),
    scheduled_sampling=st.sampled_from(list(SCHEDULED_SAMPLING)),
    sampler=st.sampled_from(group_members("sampler")),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    space=st.sampled_from([(4, 6), (3, 1), ()]),
    frames=st.integers(10, 21),  # more than the 7 given ones and both endpoints
    stream=st.sampled_from(["train", "val"]),
    seed=st.integers(0, 2**30),
)
def test_given_frames_come_out_bit_for_bit(
    mode, interpolator, scheduled_sampling, sampler, dtype, space, frames, stream, seed
):
    clip = random_clip(batch=2, frames=frames, space=space, seed=seed, step=0)
    clip.latents = clip.latents.to(dtype)
    clip.latents.view(-1)[::5] = -0.0
    forward = corruption(mode, interpolator, scheduled_sampling)
    corrupted = forward(clip, stream)
    told = corrupted.plan.given
    assert told.any(1).all()
    assert (corrupted.given | ~told).all()
    sample: Sampler = SAMPLERS["one_jump" if mode == "none" and sampler == "bridge" else sampler]
    noise = torch.Generator().manual_seed(seed)
    model = lambda c: 10 * torch.randn(c.x.shape, generator=noise).to(c.x.dtype)  # noqa: E731
    out = sample(model, corrupted, Draws(0, "sample", clip.keys), forward)
    truth = bits(clip.latents).transpose(1, 2)[told]
    for state in (corrupted.x, corrupted.values, corrupted.interpolation, out):
        assert state.dtype == dtype
        assert torch.equal(bits(state).transpose(1, 2)[told], truth)
    assert not torch.equal(out, clip.latents)


def test_frames_are_given_in_every_clip_beside_those_it_brings():
    brought = torch.zeros(3, 21, dtype=torch.bool)
    brought[1, 4] = True
    clip = GivenFrames([0, 7, 13])(random_clip(given=brought), Draws(0, "val", ["a"] * 3))
    expected = brought.clone()
    expected[:, [0, 7, 13]] = True
    assert torch.equal(clip.given, expected)


def test_random_frames_are_as_many_as_said_and_differ_by_clip_and_epoch():
    clip = random_clip(batch=300, space=())
    draws = lambda epoch: Draws(0, "train", clip.keys, [epoch] * 300)  # noqa: E731
    first, second = (GivenAtRandom(2, 5)(clip, draws(epoch)).given for epoch in (0, 1))
    assert set(first.sum(1).tolist()) == {2, 3, 4, 5}
    assert (first != second).any(1).float().mean() > 0.9
    share = first.float().mean(0)
    assert ((share - 3.5 / 21).abs() < 0.09).all()  # every frame: 4 standard deviations
    assert torch.equal(first, GivenAtRandom(2, 5)(clip, draws(0)).given)


def test_a_storyboard_from_a_file_is_what_the_frames_show(tmp_path):
    latents, frames = torch.randn(4, 2, 4, 6), torch.tensor([17, 3])
    torch.save({"frames": frames, "latents": latents}, tmp_path / "board.pt")
    forward = make_corruption("corruption/given=file", f"corruption.given.path={tmp_path / 'board.pt'}")
    clip = random_clip()
    forward.check(clip.latents.shape[1:])
    c = forward(clip, "val")
    for sample in range(3):
        assert torch.equal(c.x[sample, :, 17], latents[:, 0])
        assert torch.equal(c.clean[sample, :, 3], latents[:, 1])
    assert not torch.equal(clip.latents[0, :, 17], latents[:, 0])  # the clip itself is left alone
    others = [t for t in range(21) if t not in (3, 17)]
    assert torch.equal(c.clean[:, :, others], clip.latents[:, :, others])


def test_ends_may_be_missing_beside_given_frames():
    forward = make_corruption(
        "schedule.endpoints=false", "corruption/given=frames", "corruption.given.frames=[5,9,12,15]"
    )
    c = forward(random_clip(level=torch.full((3,), 4)), "val")
    assert c.known.sum(1).tolist() == [4, 4, 4]
    assert torch.equal(c.interpolation[:, :, 0], c.clean[:, :, 5])
    assert torch.equal(c.interpolation[:, :, 20], c.clean[:, :, 15])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GivenFrames([]), r"frames=\[\]: expected different frame indices"),
        (lambda: GivenFrames([3, 3]), r"frames=\[3, 3\]"),
        (lambda: GivenFrames([-1]), r"frames=\[-1\]"),
        (lambda: GivenFrames([2, 21]).check((4, 21, 4, 6)), r"frames=\[2, 21\]: expected indices from 0 to 20"),
        (lambda: GivenAtRandom(-1, 2), "least=-1"),
        (lambda: GivenAtRandom(3, 2), "most=2: expected a number of frames >= least=3"),
        (lambda: GivenAtRandom(1, 22).check((4, 21)), "most=22: expected at most the 21 frames"),
        (lambda: GivenFile("/nowhere.pt"), r"path=/nowhere\.pt: .*no such file"),
    ],
)
def test_bad_settings_name_themselves(make, message):
    with pytest.raises(BadValue, match=message):
        make()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"frames": torch.tensor([1])}, "a file with 'frames'"),
        ({"frames": torch.tensor([1, 2]), "latents": torch.randn(4, 3, 4, 6)}, r"it holds \[4, 3, 4, 6\] for 2 frames"),
        ({"frames": torch.tensor([1]), "latents": torch.randn(4, 1, 5, 6)}, r"latents \[4, 1, 4, 6\] like the data"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "board.pt")
    with pytest.raises(BadValue, match=message):
        GivenFile(str(tmp_path / "board.pt")).check((4, 21, 4, 6))


def test_a_level_beyond_the_schedule_is_refused_with_the_shape():
    with pytest.raises(BadValue, match="level=9: expected a level from 1 to 4 for 21 frames"):
        make_corruption("corruption.level=9").check((4, 21, 4, 6))
