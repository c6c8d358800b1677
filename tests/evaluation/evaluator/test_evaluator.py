"""Evaluations of clips and models whose quality is known."""

import pytest
import torch

from interp_refiner.core import BadValue, Clip, Corrupted
from interp_refiner.data.codec import LatentPreview, PatchDCT
from interp_refiner.data.medium import Video
from interp_refiner.data.medium.soft import blurred
from interp_refiner.evaluation import Evaluation, Evaluator, Methods, config_name
from interp_refiner.evaluation.measures import Bootstrap, energies, energy_score, missing_frame_mse, psnr
from interp_refiner.forward.interpolator import Linear
from interp_refiner.model.backbone import Backbone
from interp_refiner.model.objective import Adjacent, Correction, EnergyScore
from interp_refiner.model.sampler import Bridge, ClassifierFree, Hierarchical, MirroredViews, OneJump
from interp_refiner.training import Refiner
from interp_refiner.training.optimizer import AdamW
from tests.evaluation.measures.moving import moving_textures
from tests.factories import make_corruption, spec_of

B, T, LEVELS = 6, 21, 4
FEW = Bootstrap(num_resamples=20)
CODEC = PatchDCT()
VIDEO = Video(CODEC, spec_of(16))


class Echo(Backbone):
    """A correction of ``gain`` times the noise that the state carries; 0 leaves the interpolation as it is."""

    def __init__(self, gain: float):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(gain))

    def forward(self, corrupted):
        return self.gain * (corrupted.x - corrupted.interpolation)

    def zero_output(self):
        pass


def videos() -> torch.Tensor:
    """Moving textures in colour, inside 0..1."""
    two = moving_textures(B, T, 16, 20)
    return (0.5 + 0.15 * torch.cat([two, two.mean(1, keepdim=True)], 1)).clamp(0.01, 0.99)


def make(gain: float = 0.0, sampler=None, *overrides: str) -> Refiner:
    corruption = make_corruption(*overrides)
    refiner = Refiner(Echo(gain), Correction(spec_of(), LEVELS), AdamW(), sampler or OneJump(), corruption)
    return refiner.eval()


def corrupt(refiner: Refiner, level: int, rows: slice = slice(None)) -> Corrupted:
    latents = CODEC.encode(videos())[rows]
    keys = [f"clip_{i}" for i in range(B)][rows]
    return refiner.corruption(Clip(latents, keys, level=torch.full((len(keys),), level)), "val")


def evaluate(refiner, batch: int = B, levels=(1, 2, 3, 4), **settings) -> tuple[Evaluation, Evaluator]:
    methods = Methods(refiner, VIDEO, settings.pop("num_samples", 1), rivals=settings.pop("rivals", ()))
    evaluator = Evaluator(methods, bootstrap=FEW, **settings)
    for level in levels:
        for first in range(0, B, batch):
            evaluator.update(corrupt(refiner, level, slice(first, first + batch)), level, first)
    return evaluator.compute({"clips": B}), evaluator


@pytest.fixture(scope="module")
def zero() -> Evaluation:
    return evaluate(make(gain=0.0))[0]


@pytest.fixture(scope="module")
def noisy() -> Evaluation:
    return evaluate(make(gain=0.8))[0]


def test_an_objective_of_finer_levels_is_judged_by_its_way_down():
    refiner = make()
    adjacent = Refiner(
        Echo(0.0), Adjacent(spec_of(), LEVELS), AdamW(), Hierarchical(), make_corruption("corruption=none")
    ).eval()
    methods = Methods(adjacent, VIDEO)
    corrupted = corrupt(adjacent, 3)
    assert methods.roles["hierarchical"] == "estimate"
    assert "one_jump" not in methods.roles
    clips = methods(corrupted)
    assert set(clips) == set(methods.roles)
    torch.testing.assert_close(clips["hierarchical"], adjacent.sample(corrupted))
    torch.testing.assert_close(clips["zero output"], corrupted.interpolation, atol=1e-5, rtol=0)
    assert "one_jump" in Methods(refiner, VIDEO).roles


def test_the_mean_of_mirrored_views_is_an_estimate_beside_the_mean():
    """It is no sample, so there cannot be several."""
    refiner = make(0.5)
    refiner.corruption, refiner.sampler = refiner.corruption.with_codec(CODEC), OneJump(views=MirroredViews())
    methods = Methods(refiner, VIDEO)
    assert methods.own == ["one_jump", "one_jump mirrored"]
    refiner.sampler = OneJump(strength=0.5)
    assert Methods(refiner, methods.medium).own == ["one_jump", "one_jump strength 0.5"]
    with pytest.raises(BadValue, match="num_samples=2: expected 1"):
        Methods(refiner, VIDEO, num_samples=2)
    with pytest.raises(BadValue, match="num_samples=2: expected 1"):
        Methods(make(0.5, OneJump(ClassifierFree())), VIDEO, num_samples=2)


@pytest.mark.parametrize("level", range(1, LEVELS + 1))
def test_a_model_that_says_nothing_has_a_ratio_of_exactly_1(zero, noisy, level):
    for evaluation, method in ((zero, "one_jump"), (zero, "zero output"), (noisy, "zero output")):
        ratio = evaluation.record("mse_ratio", method, "linear", level=level)
        assert (ratio.value, ratio.low, ratio.high) == (1.0, 1.0, 1.0)
        assert evaluation.record("mse_better", method, "linear", level=level).value == 0
        assert evaluation.record("frechet_ratio", method, "linear", level=level).value == 1
    assert noisy.record("mse_ratio", "one_jump", "linear", level=level).low > 1


@pytest.mark.parametrize("level", range(1, LEVELS + 1))
def test_controls_have_their_known_places(noisy, level):
    def mse(method):
        return noisy.record("mse", method, level=level).value

    assert mse("truth") == 0
    assert noisy.record("frechet", "truth", level=level).value == pytest.approx(0, abs=1e-6)
    assert noisy.record("psnr", "truth", level=level).value == 100
    for quantity in ("boundary_motion", "high_frequency"):
        assert noisy.record(quantity, "truth", level=level).value == 1
    assert mse("shuffled keyframes") > 1.2 * mse("one_jump")
    assert mse("nearest keyframe") > mse("linear")
    assert 0 < mse("blurred truth") < mse("shuffled keyframes")
    assert noisy.record("high_frequency", "blurred truth", level=level).value < 0.9


@pytest.mark.parametrize("level", [1, 4])
def test_figures_are_those_computed_directly(noisy, level):
    refiner = make(gain=0.8)
    c = corrupt(refiner, level)
    estimate = c.keep_given(0.8 * (c.x - c.interpolation) + c.interpolation)
    expected = missing_frame_mse(estimate, c.clean, c.missing).mean()
    assert noisy.record("mse", "one_jump", level=level).value == pytest.approx(float(expected), rel=1e-5)
    video, truth = CODEC.decode(estimate), CODEC.decode(c.clean)
    expected = (psnr(video, truth) * c.missing).sum(1) / c.missing.sum(1)
    assert noisy.record("psnr", "one_jump", level=level).value == pytest.approx(float(expected.mean()), rel=1e-5)
    motion, true = (energies(v, c.known)["boundary_motion"].mean() for v in (video, truth))
    found = noisy.record("boundary_motion", "one_jump", level=level).value
    assert found == pytest.approx(float(motion / true), rel=1e-4)
    soft = CODEC.encode(blurred(truth, torch.zeros(B, T, dtype=torch.bool)))
    expected = missing_frame_mse(soft, c.clean, c.missing).mean()
    assert noisy.record("mse", "blurred truth", level=level).value == pytest.approx(float(expected), rel=1e-4)


def test_keyframes_are_exact_and_truth_has_no_seams(noisy):
    for method in ("one_jump", "linear", "truth"):
        for level in noisy.levels:
            assert noisy.record("exact_share", method, level=level).value == 1
            assert noisy.record("colour_shift_max", method, level=level).value < 1e-5
    seams = {m: noisy.record("seam_flicker", m, level=4).value for m in ("truth", "linear")}
    assert seams["linear"] > 2 * seams["truth"]


def test_batches_change_nothing_but_the_donors_of_shuffled_keyframes(noisy):
    halves, evaluator = evaluate(make(gain=0.8), batch=3, levels=[1, 4])
    for level in (1, 4):
        for method in ("one_jump", "linear", "blurred truth"):
            both = [e.record("mse", method, level=level) for e in (halves, noisy)]
            assert both[0].value == pytest.approx(both[1].value, rel=1e-5)
            assert both[0].low == pytest.approx(both[1].low, rel=1e-5)
        both = [e.record("frechet", "one_jump", level=level).value for e in (halves, noisy)]
        assert both[0] == pytest.approx(both[1], rel=1e-3)
    ranking = evaluator.ranking(4)
    assert len({clip.key for clip in ranking}) == B
    assert [clip.ratio for clip in ranking] == sorted(clip.ratio for clip in ranking)
    c = corrupt(make(gain=0.8), 4)
    estimate = c.keep_given(0.8 * (c.x - c.interpolation) + c.interpolation)
    errors = [missing_frame_mse(x, c.clean, c.missing) for x in (estimate, c.interpolation)]
    worst = int((errors[0] / errors[1]).argmax())
    assert ranking[-1].key == f"clip_{worst}"
    assert ranking[-1].ratio == pytest.approx(float(errors[0][worst] / errors[1][worst]), rel=1e-5)


def test_the_one_jump_has_the_figures_of_validation(noisy):
    refiner = make(gain=0.8)
    for level in range(1, LEVELS + 1):
        refiner.validation_step(corrupt(refiner, level), 0)
    for name, value in refiner.validation_error.compute().items():
        if name.startswith("level_") and name.endswith("/ratio"):
            found = noisy.record("mse_ratio", "one_jump", "linear", level=int(name[6]))
            assert found.value == pytest.approx(float(value), rel=1e-5)


def test_only_so_many_clips_are_decoded():
    evaluation, _ = evaluate(make(), 3, levels=[2], scores_clips=4)
    clips = {r.measure: r.clips for r in evaluation.records if r.gap is None}
    assert clips["mse"] == clips["exact_share"] == B
    assert clips["psnr"] == clips["flicker"] == clips["frechet"] == 4
    with pytest.raises(BadValue, match="scores_clips=0: expected at least 1"):
        evaluate(make(), scores_clips=0)


def test_samples_start_from_noise_of_their_own_and_the_first_is_that_of_validation():
    refiner = make(0.5, Bridge(steps=3))
    c = corrupt(refiner, 4)
    with torch.no_grad():
        samples = Methods(refiner, VIDEO, num_samples=3).samples(c)
    assert torch.equal(samples[0], refiner.sample(c, "val"))
    missing = c.missing[:, None, :, None, None].expand_as(c.clean)
    assert (samples[0] - samples[1])[missing].std() > 0.01
    assert all(torch.equal(sample, c.keep_given(sample)) for sample in samples)
    assert (samples[1] - samples[2])[missing].std() > 0.01
    evaluation, _ = evaluate(refiner, levels=[4], num_samples=3)
    score = evaluation.record("energy_score", "bridge", level=4).value
    assert score == pytest.approx(float(energy_score(samples, c.clean, c.missing).mean()), rel=1e-5)
    first = float(missing_frame_mse(samples[0], c.clean, c.missing).mean())
    assert evaluation.record("mse", "bridge", level=4).value == pytest.approx(first, rel=1e-5)
    assert evaluation.named("estimate") == ["one_jump", "bridge"]


def test_a_sampler_that_adds_nothing_but_noise_is_no_better_than_noise_of_its_size(noisy):
    """Its estimate is the interpolation with half of the state's noise."""
    refiner = make(0.5, Bridge(steps=2))
    evaluation, _ = evaluate(refiner, levels=[3, 4])
    assert evaluation.methods["noise of its size"] == "control"
    for level in (3, 4):
        for name in ("mse", "high_frequency", "inside_motion"):
            sample, noise = (evaluation.record(name, m, level=level).value for m in ("bridge", "noise of its size"))
            assert noise == pytest.approx(sample, rel=0.1), (name, level)
    c = corrupt(refiner, 4)
    with torch.no_grad():
        control = Methods(refiner, VIDEO)(c, refiner.sample(c, "val")[None])["noise of its size"]
    assert torch.equal(control, c.keep_given(control))
    assert "noise of its size" not in noisy.methods  # the mean draws none


def test_a_one_step_sampler_has_several_samples():
    refiner = make(0.5)
    refiner.objective = EnergyScore(spec_of(16), LEVELS)
    evaluation, _ = evaluate(refiner, levels=[4], num_samples=2)
    assert evaluation.named("estimate") == ["one_jump", "one_jump sampled"]
    spread = evaluation.record("spread", "one_jump sampled", level=4).value
    assert spread > 0.01
    one, sampled = (evaluation.record("mse", name, level=4).value for name in evaluation.named("estimate"))
    assert one == pytest.approx(sampled, rel=1e-5)


@pytest.mark.parametrize(("sampler", "overrides"), [(OneJump(), ()), (Bridge(1), ("corruption=none",))])
def test_samples_that_would_all_be_the_same_are_refused(sampler, overrides):
    with pytest.raises(BadValue, match="num_samples=2: expected 1, since there is only one estimate"):
        evaluate(make(0.0, sampler, *overrides), num_samples=2)


def test_the_run_s_own_interpolation_stands_beside_linear():
    refiner = make(0.0, None, "interpolator=spline")
    evaluation, _ = evaluate(refiner, levels=[3])
    assert evaluation.named("baseline") == ["spline", "linear"]
    assert evaluation.record("mse_ratio", "one_jump", "spline", level=3).value == 1
    c = corrupt(refiner, 3)
    expected = missing_frame_mse(Linear()(c.values, c.known).latents, c.clean, c.missing).mean()
    assert evaluation.record("mse", "linear", level=3).value == pytest.approx(float(expected), rel=1e-5)
    ratio = missing_frame_mse(c.interpolation, c.clean, c.missing).mean() / expected
    found = evaluation.record("mse_ratio", "one_jump", "linear", level=3).value
    assert found == pytest.approx(float(ratio), rel=1e-5)
    assert found != 1


def test_a_preview_is_never_taken_for_a_video():
    refiner = make()
    latents = CODEC.encode(torch.rand(3, 3, T, 16, 20, generator=torch.Generator().manual_seed(1)))
    clip = Clip(latents, ["a", "b", "c"], level=torch.full((3,), 2))
    c = refiner.corruption(clip, "val")
    evaluator = Evaluator(Methods(refiner, Video(LatentPreview(16), spec_of(16))), bootstrap=FEW)
    evaluator.update(c, 2, 0)
    evaluation = evaluator.compute({})
    assert not {record.measure for record in evaluation.records} & {"psnr", "ssim"}
    assert evaluation.about["measured in"].startswith("latents")
    expected = energies(c.interpolation, c.known)["boundary_motion"] / energies(latents, c.known)["boundary_motion"]
    found = evaluation.record("boundary_motion", "linear", level=2).value
    assert found == pytest.approx(float(expected.mean()), rel=0.05)
    soft = missing_frame_mse(blurred(latents, c.known), latents, c.missing).mean()
    assert evaluation.record("mse", "blurred truth", level=2).value == pytest.approx(float(soft), rel=1e-5)


def test_components_are_called_what_the_config_calls_them():
    class FlowWarp:
        pass

    assert [config_name(x) for x in (FlowWarp(), Bridge(), OneJump())] == ["flow_warp", "bridge", "one_jump"]


def test_rivals_stand_beside_the_first_with_paired_intervals():
    rival = Methods(make(gain=0.8), VIDEO, label="b")
    evaluation, _ = evaluate(make(gain=0.4), levels=[4], rivals=[rival])
    assert evaluation.named("estimate") == ["one_jump", "b: one_jump"]
    alone, _ = evaluate(make(gain=0.8), levels=[4])
    assert evaluation.record("mse", "b: one_jump", level=4)[2:5] == alone.record("mse", "one_jump", level=4)[2:5]
    paired = evaluation.record("mse_ratio", "b: one_jump", "one_jump", level=4)
    first, second = (evaluation.record("mse", name, level=4) for name in evaluation.named("estimate"))
    assert paired.value == pytest.approx(second.value / first.value)
    assert paired.high / paired.low < (second.high / first.low) / (second.low / first.high)  # narrower than unpaired
    assert "MSE / one_jump" in [column.heading for column in evaluation.brief()]
    other = Methods(make(0.8, None, "schedule.counts=[9,7,5,3]"), VIDEO, label="b")
    with pytest.raises(BadValue, match="checkpoint=b: expected a run with the keyframes of the first one"):
        evaluate(make(), levels=[4], rivals=[other])
