"""Given keyframes: which frames, which values, and that nothing ever changes them."""

import os
import subprocess
import sys
from copy import copy
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interp_refiner.core import BadValue, Clip, Draws
from interp_refiner.forward.corruption import Corruption, GivenAtRandom, GivenFile, GivenFrames, NoGiven
from interp_refiner.forward.schedule import Schedule
from interp_refiner.forward.scheduled_sampling import Probability, Proposals, Replacing
from interp_refiner.model.sampler import Bridge, Sampler
from tests.config.small import SMALL
from tests.factories import make_corruption, make_interpolator, random_clip
from tests.helpers import CONF, build, group_members

SAMPLERS = {name: build("sampler", name) for name in group_members("sampler")} | {"bridge": Bridge(steps=3, eta=0.5)}
REPLACING = {name: build("scheduled_sampling", name) for name in group_members("scheduled_sampling")}
for member in REPLACING.values():
    if isinstance(member, Replacing):
        member.probability = Probability(end=0.8, evaluation=0.8)
OF_PATHS = {"linear", "slerp", "spline"}  # interpolators that match no positions in space
AS_COST = {"linear", "slerp"}  # cheap enough for the cost of every segment
BOARD = [2, 5, 9]  # frames of the storyboard file


@cache
def storyboard(space: tuple[int, ...]) -> GivenFile:
    latents = torch.randn(16, len(BOARD), *space, generator=torch.Generator().manual_seed(7))
    with TemporaryDirectory() as folder:
        torch.save({"frames": torch.tensor(BOARD), "latents": latents}, Path(folder) / "board.pt")
        return GivenFile(str(Path(folder) / "board.pt"))


@cache
def of_mode(mode: str, bridge_time: str) -> Corruption:
    return make_corruption(
        f"corruption={mode}",
        "schedule.endpoints=false",
        "corruption.keyframe_fraction=0.5",
        f"corruption/bridge_time={bridge_time}",
    )


GIVEN = {
    "none": lambda space: NoGiven(),
    "frames": lambda space: GivenFrames([0, 3, 9]),
    "random": lambda space: GivenAtRandom(1, 7),
    "file": storyboard,
}


CHOICES = st.fixed_dictionaries(
    {
        "mode": st.sampled_from(group_members("corruption")),
        "tau": st.sampled_from(group_members("corruption/bridge_time")),
        "schedule": st.sampled_from(group_members("schedule")),
        "interpolator": st.sampled_from(group_members("interpolator")),
        "scheduled_sampling": st.sampled_from(sorted(REPLACING)),
        "given": st.sampled_from(group_members("corruption/given")),
        "sampler": st.sampled_from(sorted(SAMPLERS)),
    }
)


def schedule_of(name: str, frames: int, interpolator: str) -> Schedule:
    """A member of the group for clips of so many frames."""
    if name == "dp" and interpolator not in AS_COST:
        name = "random"
    if name == "fixed":
        return build("schedule", name, f"schedule.frames=[0,3,7,{frames - 1}]", "schedule.endpoints=false")
    if name == "learned":
        return build("schedule", name, "schedule.checkpoint=null", "schedule.selector.grid=2")
    return build("schedule", name, *["schedule.endpoints=false"] * (name != "dp"))


def combined(choice: dict[str, str], space: tuple[int, ...], frames: int) -> tuple[Corruption, Sampler]:
    """The forward process and the sampler that are chosen, or where two do not go together, one of them by default."""
    forward = copy(of_mode(choice["mode"], "fully_corrupted" if choice["mode"] == "none" else choice["tau"]))
    forward.interpolator = make_interpolator(choice["interpolator"])
    forward.scheduled_sampling = REPLACING[choice["scheduled_sampling"]]
    forward.schedule = schedule_of(choice["schedule"], frames, choice["interpolator"])
    forward.given = GIVEN[choice["given"]](space)
    pointless = choice["mode"] == "none" and choice["sampler"] in ("bridge", "euler")
    return forward, SAMPLERS["one_jump" if pointless else choice["sampler"]]


def with_extras(clip: Clip, dtype: torch.dtype, seed: int) -> Clip:
    """The clip in ``dtype`` with negative zeros, a given frame of its own, and proposals for some frames."""
    generator = torch.Generator().manual_seed(seed)
    latents = clip.latents.clone()
    latents.view(-1)[::5] = -0.0
    brought, proposed = (torch.rand(2, clip.num_frames, generator=generator) < p for p in (0.1, 0.7))
    brought[:, 4] = True
    proposals = torch.randn(latents.shape, generator=generator)
    return replace(
        clip, latents=latents.to(dtype), given=brought, proposals=proposals.to(dtype), proposed=proposed, text=None
    )


def bits(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous().view(torch.int16 if x.element_size() == 2 else torch.int32)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(
    choice=CHOICES,
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    path=st.booleans(),
    frames=st.integers(10, 21),  # more than the 7 given ones and both endpoints
    stream=st.sampled_from(["train", "val"]),
    seed=st.integers(0, 2**30),
)
def test_given_frames_come_out_bit_for_bit(choice, dtype, path, frames, stream, seed):
    space = () if path and choice["interpolator"] in OF_PATHS else (8, 12)
    forward, sampler = combined(choice, space, frames)
    clip = with_extras(random_clip(2, frames, space, seed, channels=16, step=0), dtype, seed)
    corrupted = forward(clip, stream)
    if forward.scheduled_sampling.from_model:
        corrupted = forward.recorrupt(corrupted, Proposals(clip.proposals, clip.proposed), stream)
    told = corrupted.plan.given
    assert (told | ~clip.given).all()
    assert (corrupted.given | ~told).all()
    truth = clip.latents
    if isinstance(forward.given, GivenFile):
        truth = truth.clone()
        truth[:, :, BOARD] = forward.given.latents.to(dtype)
    noise = torch.Generator().manual_seed(seed)
    model = lambda c: 10 * torch.randn(c.x.shape, generator=noise).to(c.x.dtype)  # noqa: E731
    out = sampler(model, corrupted, Draws(0, "sample", clip.keys), forward)
    expected = bits(truth).transpose(1, 2)[told]
    states = [corrupted.x, corrupted.values, corrupted.interpolation, forward.with_finer(corrupted).finer, out]
    for state in states:
        assert state.dtype == dtype
        assert torch.equal(bits(state).transpose(1, 2)[told], expected)
    assert not torch.equal(out, clip.latents)


@pytest.mark.soak
def test_given_frames_are_exact_in_two_processes(tmp_path):
    """Validation of a run under DDP (gloo) looks at what every process samples."""
    overrides = ["+experiment=imputation", "scheduled_sampling=noisy", "sampler=hierarchical", *SMALL[1:]]
    processes = ["strategy=ddp", "trainer.devices=2", "trainer.max_steps=1", "trainer.val_check_interval=1"]
    law = "+callback.law._target_=tests.forward.corruption.given_law.GivenFramesAreExact"
    command = [sys.executable, "-m", "interp_refiner.train", *overrides, *processes, law, f"paths.root={tmp_path}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(CONF.parent), *sys.path])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(path.name for path in tmp_path.glob("**/given_frames_of_*")) == [
        "given_frames_of_0",
        "given_frames_of_1",
    ]


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
    forward = make_corruption("corruption/given=file", f"corruption.drawn.given.path={tmp_path / 'board.pt'}")
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
        "schedule.endpoints=false", "corruption/given=frames", "corruption.drawn.given.frames=[5,9,12,15]"
    )
    c = forward(random_clip(level=torch.full((3,), 4)), "val")
    assert c.known.sum(1).tolist() == [4, 4, 4]
    assert torch.equal(c.interpolation[:, :, 0], c.clean[:, :, 5])
    assert torch.equal(c.interpolation[:, :, 20], c.clean[:, :, 15])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GivenFrames([]), r"frames=\[\]: expected distinct frame indices"),
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
        ({"frames": torch.tensor([1]), "latents": [1.0]}, "a file with 'frames'"),
        ({"frames": torch.tensor([0.5]), "latents": torch.randn(4, 1, 4, 6)}, "the indices of frames"),
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
        make_corruption("corruption.drawn.level=9").check((4, 21, 4, 6))


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04 no zip"])
def test_a_damaged_file_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "board.pt").write_bytes(content)
    with pytest.raises(
        BadValue, match=r"^path=.*board\.pt: expected a tensor file of frames and latents: .+"
    ) as refused:
        GivenFile(str(tmp_path / "board.pt"))
    assert "\n" not in str(refused.value)
