"""Laws of replacement over all members of the group, and where proposals come from."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp_refiner.core import BadValue, Draws, per_frame
from interp_refiner.forward.corruption import BrownianBridge, Corruption
from interp_refiner.forward.interpolator import Linear
from interp_refiner.forward.schedule import Uniform
from interp_refiner.forward.scheduled_sampling import (
    ConstantConfidence,
    LinearConfidence,
    Noisy,
    Phase1,
    Probability,
    Proposals,
    Self,
)
from interp_refiner.model.objective import Correction
from tests.factories import make_corruption, random_clip, spec_of
from tests.helpers import build, group_members

ALL_PROPOSALS = make_corruption("scheduled_sampling=phase1", "scheduled_sampling.probability.end=1.0")
REPLACING = [name for name in group_members("scheduled_sampling") if build("scheduled_sampling", name).replaces]


def clip_with_proposals(**fields):
    clip = random_clip(step=0, **fields)
    generator = torch.Generator().manual_seed(9)
    proposals = torch.randn(clip.latents.shape, generator=generator)
    return replace(
        clip, proposals=proposals, proposed=torch.rand(clip.latents.shape[::2][:2], generator=generator) < 0.7
    )


def corrupt(name, clip, p=1.0, *overrides):
    """The clip corrupted with replacement probability p; the model's own proposals are random numbers."""
    corruption = make_corruption(f"scheduled_sampling={name}", f"scheduled_sampling.probability.end={p}", *overrides)
    c = corruption(clip, "train")
    if corruption.scheduled_sampling.from_model:
        c = corruption.recorrupt(c, Proposals(clip.proposals, clip.proposed))
    return c


def test_the_group_has_the_members_that_replace_and_one_that_does_not():
    assert REPLACING == ["noisy", "phase1", "self"]
    assert group_members("scheduled_sampling") == sorted([*REPLACING, "never"])


@pytest.mark.parametrize("name", REPLACING)
class TestEveryMember:
    def test_given_keyframes_are_never_replaced(self, name):
        given_frames = torch.rand(3, 21, generator=torch.Generator().manual_seed(2)) < 0.3
        clip = clip_with_proposals(given=given_frames)
        c = corrupt(name, clip)
        assert c.replaced.any()
        assert not (c.replaced & given_frames).any()
        kept = per_frame(given_frames, c.x).expand_as(c.x)
        assert torch.equal(c.x[kept], clip.latents[kept])

    def test_replaced_keyframes_differ_and_others_keep_the_truth(self, name):
        clip = clip_with_proposals()
        c = corrupt(name, clip, 0.5)
        changed = (c.values != clip.latents).flatten(3).any(3).any(1)
        assert torch.equal(changed & c.known, c.replaced)
        assert not (c.replaced & ~c.known).any()

    def test_every_proposal_is_taken_at_probability_one_and_none_at_zero(self, name):
        clip = clip_with_proposals()
        c = corrupt(name, clip)
        available = torch.ones_like(c.known) if name == "noisy" else clip.proposed
        assert torch.equal(c.replaced, c.known & available)
        assert not corrupt(name, clip, 0.0).replaced.any()

    def test_endpoints_can_be_exempt(self, name):
        clip = clip_with_proposals(batch=8)
        assert corrupt(name, clip).replaced[:, [0, -1]].any()
        exempt = corrupt(name, clip, 1.0, "scheduled_sampling.exempt_endpoints=true").replaced
        assert exempt.any()
        assert not exempt[:, [0, -1]].any()

    def test_one_draw_serves_all_levels(self, name):
        fine, coarse = (corrupt(name, clip_with_proposals(level=torch.full((3,), level)), 0.5) for level in (1, 3))
        assert coarse.replaced.any()
        assert torch.equal(fine.replaced & coarse.known, coarse.replaced)
        assert torch.equal(
            fine.values[per_frame(coarse.known, fine.x).expand_as(fine.x)],
            coarse.values[per_frame(coarse.known, fine.x).expand_as(fine.x)],
        )

    @settings(max_examples=10)
    @given(low=st.floats(0, 1), high=st.floats(0, 1), seed=st.integers(0, 99))
    def test_a_higher_probability_only_adds(self, name, low, high, seed):
        member, draws = build("scheduled_sampling", name), Draws(seed, "train", ["a", "b"], [0, 0])
        known = torch.rand(2, 40, generator=torch.Generator().manual_seed(seed)) < 0.6
        few, many = (type(member)(Probability(end=p)).chosen(known, draws, 0) for p in sorted([low, high]))
        assert not (few & ~many).any()
        assert not (many & ~known).any()

    def test_torch_s_own_generator_is_neither_read_nor_moved(self, name):
        clip = clip_with_proposals()
        torch.manual_seed(1)
        first, state = corrupt(name, clip, 0.5), torch.get_rng_state()
        torch.manual_seed(2)
        again = corrupt(name, clip, 0.5)
        assert torch.equal(first.x, again.x)
        torch.manual_seed(1)
        assert torch.equal(torch.get_rng_state(), state)

    def test_confidence_does_not_tell_the_draw(self, name):
        clip = clip_with_proposals()
        shown, hidden = corrupt(name, clip, 1.0), corrupt(name, clip, 0.0)
        assert not torch.equal(shown.replaced, hidden.replaced)
        assert torch.equal(shown.confidence, hidden.confidence)


def test_keyframes_are_drawn_with_probability_p():
    draws = Draws(0, "train", [str(i) for i in range(300)], [0] * 300)
    chosen = Noisy(Probability(end=0.3)).chosen(torch.ones(300, 21, dtype=torch.bool), draws, 0)
    assert 0.28 < chosen.float().mean() < 0.32  # 0.3 +- 3.5 standard deviations
    assert ((chosen.float().mean(0) - 0.3).abs() < 0.1).all()  # every frame: 3.8 standard deviations


def test_the_ramp_is_a_line_and_then_constant():
    ramp = Probability(start=0.1, end=0.5, warmup_steps=4, evaluation=0.9)
    assert [ramp(step) for step in (0, 1, 2, 4, 100)] == pytest.approx([0.1, 0.2, 0.3, 0.5, 0.5])
    assert ramp(None) == 0.9
    assert Probability(start=0.7, end=0.2)(0) == 0.2  # without warm-up p is constant
    assert Probability(start=0.8, end=0.0, warmup_steps=2)(1) == pytest.approx(0.4)


def test_the_step_comes_with_the_clip():
    ramp = "scheduled_sampling.probability.warmup_steps=10"
    clip = clip_with_proposals(batch=6)
    counts = [int(corrupt("noisy", replace(clip, step=step), 1.0, ramp).replaced.sum()) for step in (0, 5, 10)]
    assert counts[0] == 0 < counts[1] < counts[2]
    outside = replace(clip, step=None, epochs=None)
    assert not corrupt("noisy", outside).replaced.any()
    evaluated = corrupt("noisy", outside, 0.0, "scheduled_sampling.probability.evaluation=1.0")
    assert torch.equal(evaluated.replaced, evaluated.known)


def test_noisy_proposals_are_the_truth_with_noise_of_its_own():
    clip = random_clip(batch=6)
    proposals = Noisy(sigma=0.4).propose(clip, Draws(0, "train", clip.keys, clip.epochs))
    difference = proposals.latents - clip.latents
    assert 0.38 < difference.std() < 0.42
    noise = make_corruption()(clip, "train").noise
    assert abs(torch.corrcoef(torch.stack([difference.flatten(), noise.flatten()]))[0, 1]) < 0.05


def test_phase_1_frames_without_a_proposal_keep_the_truth_and_are_never_read():
    clip = clip_with_proposals()
    hidden = torch.where(per_frame(clip.proposed, clip.latents), clip.proposals, torch.nan)
    c = corrupt("phase1", replace(clip, proposals=hidden))
    assert torch.equal(c.x, corrupt("phase1", clip).x)
    bare = c.known & ~clip.proposed
    assert bare.any()
    assert torch.equal(c.values[per_frame(bare, c.x).expand_as(c.x)], clip.latents[per_frame(bare, c.x).expand_as(c.x)])


def test_phase_1_needs_proposals():
    with pytest.raises(BadValue, match=r"clip\.proposals=None: expected proposals and their mask"):
        Phase1().propose(random_clip(), Draws(0, "train", ["a"]))


def test_only_self_asks_for_the_model_and_only_phase_1_for_anchors():
    flags = {n: build("scheduled_sampling", n) for n in group_members("scheduled_sampling")}
    assert [n for n, member in flags.items() if member.from_model] == ["self"]
    assert [n for n, member in flags.items() if member.needs_anchors] == ["phase1"]
    assert Self().propose(random_clip(), Draws(0, "train", ["a"])) is None


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"start": -0.1}, "start=-0.1: expected a probability"),
        ({"end": 1.5}, "end=1.5: expected a probability"),
        ({"evaluation": 2.0}, "evaluation=2.0: expected a probability"),
        ({"warmup_steps": -1}, "warmup_steps=-1: expected a number of steps"),
    ],
)
def test_bad_probabilities_name_themselves(setting, message):
    with pytest.raises(BadValue, match=message):
        Probability(**setting)


def test_a_negative_sigma_is_refused():
    with pytest.raises(BadValue, match="sigma=-1"):
        Noisy(sigma=-1.0)


class TestConfidence:
    """What the model is told of proposals, annealed by level; the draw is not told, and the loss is not weighed."""

    ANNEALED = group_members("scheduled_sampling/confidence")

    @pytest.mark.parametrize("name", ANNEALED)
    def test_it_depends_on_the_level_and_not_on_the_draw(self, name):
        clip = clip_with_proposals(batch=4, level=torch.tensor([1, 2, 3, 4]), given=torch.eye(4, 21).bool())
        option = f"scheduled_sampling/confidence={name}"
        shown, hidden = (corrupt("phase1", clip, p, option) for p in (1.0, 0.0))
        assert not torch.equal(shown.replaced, hidden.replaced)
        assert torch.equal(shown.confidence, hidden.confidence)
        flat = shown.confidence.flatten(2)[..., 0]
        law = make_corruption("scheduled_sampling=phase1", option).scheduled_sampling.confidence(clip.level / 4)
        for sample in range(4):
            assert (flat[sample][shown.given[sample]] == 1).all()
            assert (flat[sample][shown.missing[sample]] == 0).all()
            assert (flat[sample][shown.known[sample] & ~shown.given[sample]] == law[sample]).all()
        assert ((law > 0) & (law < 1)).all()

    def test_known_values(self):
        sparsity = torch.tensor([0.0, 0.25, 0.5, 1.0])
        for name, expected in {
            "none": [0.5, 0.5, 0.5, 0.5],
            "linear": [0.75, 0.625, 0.5, 0.25],
            "cosine": [0.75, 0.676777, 0.5, 0.25],
        }.items():
            law = build("scheduled_sampling/confidence", name)
            torch.testing.assert_close(law(sparsity), torch.tensor(expected), atol=1e-6, rtol=0)

    def test_the_loss_does_not_know_it(self):
        clip, output = clip_with_proposals(), torch.randn(3, 4, 21, 4, 6)
        losses = [
            Correction(spec_of(), 4)(output, corrupt("phase1", clip, 1.0, f"scheduled_sampling/confidence={name}"))
            for name in self.ANNEALED
        ]
        assert all(torch.equal(losses[0].total, loss.total) for loss in losses)

    @pytest.mark.parametrize("setting", [{"finest": 1.2}, {"sparsest": -0.1}])
    def test_bad_values_name_themselves(self, setting):
        name, value = next(iter(setting.items()))
        with pytest.raises(BadValue, match=f"{name}={value}: expected a confidence from 0 to 1"):
            LinearConfidence(**setting)
        with pytest.raises(BadValue, match=r"value=2\.0: expected a confidence"):
            ConstantConfidence(value=2.0)


@settings(max_examples=20)
@given(level=st.integers(1, 4), seed=st.integers(0, 999), frames=st.sets(st.integers(0, 20)))
def test_proposals_of_some_frames_replace_only_those(level, seed, frames):
    """Frames without a proposal keep the truth, are as free as the others, and their proposals are never read."""
    clip = random_clip(seed=seed, step=0, level=torch.full((3,), level))
    proposed = torch.zeros(3, 21, dtype=torch.bool)
    proposed[:, sorted(frames)] = True
    proposals = torch.where(per_frame(proposed, clip.latents), clip.latents + 1, torch.nan)
    c = ALL_PROPOSALS(replace(clip, proposals=proposals, proposed=proposed), "train")
    assert torch.equal(c.replaced, c.known & proposed)
    expected = torch.where(per_frame(c.replaced, c.x), clip.latents + 1, clip.latents)
    known = per_frame(c.known, c.x).expand_as(c.x)
    assert torch.equal(c.values[known], expected[known])
    assert c.x.isfinite().all()
    assert not c.given.any()


class TestEvaluationFromProposalsOnly:
    """Keyframes without a proposal are refused, unless the truth may be shown there."""

    def shown(self, frames, *overrides, evaluation=1.0, **fields):
        proposed = torch.zeros(3, 21, dtype=torch.bool)
        proposed[:, frames] = True
        clip = random_clip(level=torch.tensor([2, 3, 4]), **fields)
        clip = replace(clip, proposals=torch.randn_like(clip.latents), proposed=proposed)
        probability = f"scheduled_sampling.probability.evaluation={evaluation}"
        corruption = make_corruption("scheduled_sampling=phase1", probability, *overrides)
        corrupted = corruption(clip, "val")
        corruption.scheduled_sampling.check_shown(corrupted)
        return corrupted

    def test_all_keyframes_have_a_proposal(self):
        c = self.shown(list(range(21)))
        assert torch.equal(c.replaced, c.known)

    def test_uncovered_keyframes_are_refused_with_their_number(self):
        said = r"uncovered=error: expected truth, or a proposal for every keyframe: 6 of 9 have none in clip clip_0_0"
        with pytest.raises(BadValue, match=said):
            self.shown([0, 10, 20])

    def test_the_truth_may_be_shown_where_it_is_asked_for(self):
        c = self.shown([0, 10, 20], "scheduled_sampling.uncovered=truth")
        assert c.replaced.sum(1).tolist() == [3, 2, 2]

    def test_what_is_not_replaced_on_purpose_needs_no_proposal(self):
        self.shown([0, 10, 20], evaluation=0.9)
        self.shown(list(range(1, 20)), "scheduled_sampling.exempt_endpoints=true")
        given = torch.zeros(3, 21, dtype=torch.bool)
        given[:, 7] = True
        self.shown([frame for frame in range(21) if frame != 7], given=given)


@pytest.mark.parametrize("sigma", [-0.1, float("nan"), float("inf")])
def test_an_amplitude_is_a_finite_number(sigma):
    for make in (
        lambda: Noisy(sigma=sigma),
        lambda: Corruption(Uniform(), Linear(), BrownianBridge(), sigma=sigma),
    ):
        with pytest.raises(BadValue, match=f"sigma={sigma}: expected a finite number >= 0, in units of latent"):
            make()
