"""Laws of the forward process over all members of its groups."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from interp_refiner.core import BadValue, per_frame, per_sample
from interp_refiner.forward.corruption import LogitNormal, Uniform
from interp_refiner.forward.scheduled_sampling import Proposals, ScheduledSampling
from tests.factories import chosen_schedule, make_corruption, make_interpolator, random_clip, with_modes
from tests.helpers import NoHostSync, group_members

MODES = group_members("corruption")
INTERPOLATORS = group_members("interpolator")
SCHEDULES = group_members("schedule")
# Every mode with two schedules and every schedule with two modes: keyframes are chosen before a mode sees them.
PAIRS = [(mode, SCHEDULES[(n + step) % len(SCHEDULES)]) for n, mode in enumerate(MODES) for step in (0, 2)]
DRAWS_EVERYTHING = make_corruption("corruption/bridge_time=logit_normal", "schedule=random")


def bits(x):
    return x.contiguous().view(torch.int16 if x.element_size() == 2 else torch.int32)


def assert_same(a, b):
    """Every tensor of two corrupted clips is equal bit for bit."""
    for name, value in vars(a).items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, getattr(b, name)), name


class AlwaysShifted(ScheduledSampling):
    """Replaces every keyframe that is not given by the truth plus one."""

    def propose(self, clip, draws):
        return Proposals(clip.latents + 1, torch.ones(clip.latents.shape[0], clip.num_frames, dtype=torch.bool))

    def chosen(self, known, draws, step=None):
        return known

    def confidence(self, sparsity):
        return torch.full_like(sparsity, 0.5)


@pytest.mark.parametrize(("interpolator", "mode"), with_modes(INTERPOLATORS))
def test_x_is_the_equation(mode, interpolator):
    bridge = [] if mode == "none" else ["corruption/bridge_time=uniform"]
    corruption = make_corruption(f"corruption={mode}", *bridge)
    corruption.interpolator = make_interpolator(interpolator)
    clip = random_clip(batch=8, frames=9, space=(8, 12), channels=16)
    c = corruption(clip, "train")
    noise = 0 if c.noise is None else c.amplitude * corruption.noise.eps(c.noise, c)
    tau = c.tau.view(-1, *[1] * (c.x.ndim - 1))
    expected = (1 - tau) * clip.latents + tau * (c.interpolation + noise)
    torch.testing.assert_close(c.x, torch.where(per_frame(c.given, c.x), clip.latents, expected))
    assert (c.noise is None) == (mode == "none")
    assert set(c.level.tolist()) <= {1, 2, 3, 4}


@pytest.mark.parametrize(("mode", "schedule"), PAIRS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_given_frames_are_bit_for_bit(mode, schedule, dtype):
    corruption = make_corruption(f"corruption={mode}", *chosen_schedule(schedule))
    clip = random_clip()
    clip.latents[:, :, 0] *= -0.0
    clip = replace(clip, latents=clip.latents.to(dtype))
    c = corruption(clip, "train")
    where = c.given.nonzero(as_tuple=True)
    assert len(where[0]) > 0
    assert torch.equal(bits(c.x.transpose(1, 2)[where]), bits(clip.latents.transpose(1, 2)[where]))
    assert c.x.dtype == dtype


@settings(max_examples=25)
@given(st.permutations(range(5)), st.integers(1, 5), st.integers(0, 3))
def test_a_sample_is_corrupted_alike_in_any_batch(order, size, epoch):
    corruption = DRAWS_EVERYTHING
    clip = random_clip(batch=5, epochs=[epoch] * 5)
    together = corruption(clip, "train")
    index = list(order)[:size]
    apart = corruption(clip.select(index), "train")
    for name in ("x", "interpolation", "noise", "level", "tau", "known", "noise_profile"):
        assert torch.equal(getattr(together, name)[index], getattr(apart, name)), name


@pytest.mark.parametrize("change", ["epoch", "seed", "key", "stream"])
def test_another_epoch_seed_key_or_stream_is_another_corruption(change):
    base, clip = make_corruption("corruption/bridge_time=uniform"), random_clip(batch=8)
    first = base(clip, "train")
    assert_same(first, base(clip, "train"))
    other = {
        "epoch": lambda: base(replace(clip, epochs=[1] * 8), "train"),
        "seed": lambda: make_corruption("corruption/bridge_time=uniform", "seed=1")(clip, "train"),
        "key": lambda: base(replace(clip, keys=[f"other_{k}" for k in clip.keys]), "train"),
        "stream": lambda: base(clip, "val"),
    }[change]()
    assert not torch.equal(first.noise, other.noise)
    assert not torch.equal(first.level, other.level)
    assert not torch.equal(first.tau, other.tau)


def test_a_pinned_level_is_kept_and_others_are_drawn_uniformly():
    clip = random_clip(batch=400, frames=21, space=())
    counts = Counter(make_corruption()(clip, "train").level.tolist())
    assert sorted(counts) == [1, 2, 3, 4]
    assert all(60 < n < 140 for n in counts.values())  # 100 +- 4.6 standard deviations
    assert set(make_corruption("corruption.drawn.level=3")(clip, "train").level.tolist()) == {3}
    pinned = torch.arange(400) % 4 + 1
    assert torch.equal(make_corruption()(replace(clip, level=pinned), "val").level, pinned)


@pytest.mark.parametrize("law", [Uniform(at_one=0.4), LogitNormal(at_one=0.4)], ids=["uniform", "logit_normal"])
def test_bridge_times_have_their_share_at_one(law):
    from interp_refiner.core import Draws

    tau = law.draw(Draws(0, "train", [str(i) for i in range(2000)], [0] * 2000), "cpu")
    assert ((tau > 0) & (tau <= 1)).all()
    assert 0.35 < (tau == 1).float().mean() < 0.45
    below = tau[tau < 1]
    assert 0.45 < below.median() < 0.55


def test_validation_stands_at_tau_one_whatever_training_draws():
    corruption = make_corruption("corruption/bridge_time=uniform")
    assert (corruption(random_clip(batch=8), "val").tau == 1).all()
    assert (corruption(random_clip(batch=8), "train").tau < 1).any()


def test_at_tau_one_missing_frames_are_never_read():
    corruption, clip = make_corruption(), random_clip(level=torch.tensor([1, 3, 4]))
    known = corruption(clip, "val").known
    hidden = replace(clip, latents=torch.where(per_frame(known, clip.latents), clip.latents, torch.nan))
    assert torch.equal(corruption(clip, "val").x, corruption(hidden, "val").x)


def test_explicitly_given_frames_are_keyframes_at_every_level():
    given_frames = torch.zeros(3, 21, dtype=torch.bool)
    given_frames[0, [5, 6, 13]] = True
    given_frames[1, 3] = True
    c = make_corruption()(random_clip(given=given_frames), "train")
    assert (c.known | ~given_frames).all()
    assert torch.equal(c.plan.given, given_frames)


class TestScheduledSampling:
    """Only explicitly given keyframes are constraints once proposals may occur."""

    def corrupt(self, **fields):
        corruption = make_corruption("corruption.keyframe_fraction=0.5")
        corruption.scheduled_sampling = AlwaysShifted()
        given_frames = torch.zeros(3, 21, dtype=torch.bool)
        given_frames[:, 0] = True
        clip = random_clip(given=given_frames, **fields)
        return corruption, clip, corruption(clip, "train")

    def test_every_keyframe_but_the_given_is_replaced(self):
        _, clip, c = self.corrupt()
        assert torch.equal(c.replaced, c.known & ~clip.given)
        frames = per_frame(c.replaced, c.values).expand_as(c.values)
        torch.testing.assert_close(c.values[frames], clip.latents[frames] + 1)
        assert torch.equal(c.interpolation[frames], c.values[frames])
        assert torch.equal(c.given, clip.given)

    def test_confidence_says_what_may_be_replaced_not_what_was(self):
        corruption, clip, c = self.corrupt()
        corruption.scheduled_sampling.chosen = lambda known, draws, step: known & False
        spared = corruption(clip, "train")
        assert not spared.replaced.any()
        assert torch.equal(c.confidence, spared.confidence)
        flat = c.confidence.flatten(2)[..., 0]
        assert (flat[c.given] == 1).all()
        assert (flat[c.known & ~c.given] == 0.5).all()
        assert (flat[c.missing] == 0).all()

    def test_replaced_keyframes_are_noised_by_their_fraction_and_given_never(self):
        _, _, c = self.corrupt()
        assert (c.noise_profile[c.known & ~c.given] == 0.5).all()
        assert (c.noise_profile[c.given] == 0).all()

    def test_recorrupt_reuses_every_draw(self):
        corruption, clip, c = self.corrupt()
        again = corruption.recorrupt(c, Proposals(clip.latents + 1, torch.ones_like(c.known)))
        assert_same(c, again)
        moved = corruption.recorrupt(c, Proposals(clip.latents + 2, torch.ones_like(c.known)))
        assert torch.equal(moved.noise, c.noise)
        assert torch.equal(moved.known, c.known)
        assert not torch.equal(moved.x, c.x)


def test_moving_to_another_level_keeps_plan_noise_and_given_frames():
    corruption, clip = make_corruption(), random_clip(level=torch.tensor([4, 4, 3]))
    c = corruption(clip, "val")
    finer = corruption.at_level(c, c.level - 1, torch.randn_like(clip.latents))
    assert torch.equal(finer.known, c.plan.mask_at(c.level - 1))
    assert (finer.known | ~c.known).all()  # nested
    assert torch.equal(finer.noise, c.noise)
    frames = per_frame(c.given, c.x).expand_as(c.x)
    assert torch.equal(finer.x[frames], clip.latents[frames])


class CountOperators(TorchDispatchMode):
    """Counts the operators that run under it."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


# what draws the numbers of one sample into its row; hosts know the rows beforehand
PER_DRAW = {"uniform_", "normal_", "unbind", "select", "detach", "randn", "randint"}


@pytest.mark.parametrize(("mode", "schedule"), PAIRS)
@pytest.mark.parametrize("replacing", ["never", "noisy"])
def test_nothing_waits_for_the_device_and_nothing_loops_over_samples(mode, schedule, replacing):
    corruption = make_corruption(f"corruption={mode}", *chosen_schedule(schedule), f"scheduled_sampling={replacing}")
    counts = []
    for batch in (2, 6):
        with NoHostSync(), CountOperators() as operators:
            corruption(random_clip(batch=batch, step=0), "train")
        counts.append(operators.counts)
    grown = {name for name in counts[1] if counts[1][name] > counts[0][name]}
    assert grown <= PER_DRAW, {name: (counts[0][name], counts[1][name]) for name in grown - PER_DRAW}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("corruption.sigma=-1.0", "sigma=-1.0"),
        ("corruption.keyframe_fraction=2.0", "keyframe_fraction=2.0"),
        ("corruption.drawn.level=0", "level=0"),
    ],
)
def test_bad_settings_name_themselves(override, message):
    with pytest.raises(Exception, match=message):
        make_corruption(override)


def test_a_bridge_without_noise_is_refused():
    with pytest.raises(Exception, match="bridge_time=Uniform: expected FullyCorrupted"):
        make_corruption("corruption=none", "corruption/bridge_time=uniform")


def test_a_level_that_the_schedule_does_not_have_is_refused():
    with pytest.raises(BadValue, match="level=9: expected a level from 1 to 4 for 21 frames"):
        make_corruption("corruption.drawn.level=9")(random_clip(), "train")


def test_other_noise_leaves_everything_else_and_is_another_draw():
    corruption = make_corruption("corruption/bridge_time=uniform", "corruption.noise.temporal_correlation=0.5")
    clip = random_clip(epochs=[2, 0, 1])
    c = corruption(clip, "train")
    assert_same(c, corruption.renoised(c, "train", "noise"))
    other = corruption.renoised(c, "train", "noise_1")
    for name in ("interpolation", "known", "tau", "noise_profile", "confidence"):
        assert torch.equal(getattr(other, name), getattr(c, name))
    missing = per_frame(c.missing, c.x).expand_as(c.x)
    tau, scale = per_sample(c.tau, c.x), per_frame(c.sigma * c.noise_profile, c.x)
    expected = (1 - tau) * clip.latents + tau * (c.interpolation + scale * other.noise)
    torch.testing.assert_close(other.x[missing], expected[missing])
    assert torch.equal(other.x[~missing], c.x[~missing])
    assert (other.noise - c.noise).abs().mean() > 0.5


@pytest.mark.parametrize("scale", [0.0, float("nan"), float("inf")])
def test_a_spread_of_bridge_times_without_a_meaning_is_refused(scale):
    with pytest.raises(BadValue, match=f"scale={scale}: expected a finite number > 0"):
        LogitNormal(scale=scale)


def test_a_bridge_that_is_always_at_its_end_is_full_corruption():
    """``at_one=1`` needs neither noise nor noised keyframes, which keep a drawn ``tau`` from revealing the truth."""
    replacing = ["scheduled_sampling=noisy", "scheduled_sampling.probability.end=1.0"]
    ended = ["corruption/bridge_time=uniform", "corruption.drawn.bridge_time.at_one=1.0"]
    for others in (replacing, ["corruption=none"]):
        with pytest.raises(Exception, match=r"keyframe_fraction=|bridge_time=Uniform"):
            make_corruption(*others, "corruption/bridge_time=uniform")
        found, wanted = (make_corruption(*others, *time)(random_clip(), "train") for time in (ended, []))
        assert torch.equal(found.tau, torch.ones(len(found.tau)))
        assert torch.equal(found.x, wanted.x)
