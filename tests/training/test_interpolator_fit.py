"""Training an interpolator from clean clips."""

import pytest
import torch
import torch.nn.functional as F

from interp_refiner.core import BadValue, Draws, neighbours
from interp_refiner.forward.interpolator import FlowWarp, Interpolation, Linear
from interp_refiner.model.backbone import Interface
from interp_refiner.model.objective import Correction
from interp_refiner.model.sampler import OneJump
from interp_refiner.training import InterpolatorFit, Refiner
from interp_refiner.training.interpolator_fit import calibration, chain
from interp_refiner.training.optimizer import AdamW
from tests.factories import corrupted_clip, make_corruption, spec_of
from tests.helpers import build


def draws(keys=("a", "b", "c"), epoch=0):
    return Draws(0, "train", list(keys), [epoch] * len(keys))


def small_fit(**options):
    torch.manual_seed(0)
    network = FlowWarp(channels=4, width=12, radius=2)
    weights = {"l1": 0.1, "confidence": 0.05, "roughness": 0.001} | options.pop("weights", {})
    recipe, corruption = AdamW(lr=5e-3, warmup_steps=0), make_corruption()
    return InterpolatorFit(network, recipe, corruption, spec_of(), weights, **options)


def moving(batch=4, frames=7, seed=0):
    """Smooth random pictures that move by a whole position a frame, each in a direction of its own."""
    generator = torch.Generator().manual_seed(seed)
    picture = F.avg_pool2d(F.pad(torch.randn(batch, 4, 12, 16, generator=generator), (1,) * 4, "circular"), 3, 1) * 3
    step = [(1, 0), (-1, 0), (0, 1), (0, -1)]
    return torch.stack(
        [torch.stack([clip.roll((t * dy, t * dx), (1, 2)) for t in range(frames)], 1)
         for clip, (dy, dx) in zip(picture, step, strict=False)]
    )  # fmt: skip


@pytest.mark.parametrize("max_gap", [2, 5, 8])
def test_a_chain_has_keyframes_at_both_ends_and_gaps_of_every_length(max_gap):
    known = chain(draws([str(i) for i in range(200)]), 21, max_gap, torch.device("cpu"))
    assert known[:, [0, -1]].all()
    gap = neighbours(known).gap
    assert gap.max() == max_gap
    assert set(gap[~known].tolist()) == set(range(2, max_gap + 1))
    ends = known.roll(-1, 1) & known  # neighbouring keyframes: only where the clip ends
    assert not ends[:, :-2].any()


def test_a_chain_depends_on_key_and_epoch_alone():
    device = torch.device("cpu")
    whole = chain(draws(), 21, 8, device)
    assert torch.equal(chain(draws("b"), 21, 8, device), whole[1:2])
    assert not torch.equal(chain(draws(epoch=1), 21, 8, device), whole)


@pytest.mark.parametrize("frames", [2, 3])
def test_a_chain_of_a_short_clip(frames):
    known = chain(draws(), frames, 8, torch.device("cpu"))
    assert known[:, [0, -1]].all()


def test_a_few_steps_learn_to_follow_motion():
    fit, clips = small_fit(), moving()
    optimizer = fit.recipe.optimizer(fit)
    known = torch.zeros(4, 7, dtype=torch.bool)
    known[:, [0, 3, 6]] = True
    first = fit.loss(clips, known)
    for _ in range(40):
        optimizer.zero_grad()
        sum(fit.loss(clips, known).values()).backward()
        optimizer.step()
    last = fit.loss(clips, known)
    assert last["error"] < 0.6 * first["error"]
    assert last["confidence"] < first["confidence"]
    assert first["roughness"] == 0 < last["roughness"]


def test_terms_carry_their_weights():
    clips, known = moving(), torch.tensor([True, False, False, True, False, False, True]).expand(4, -1)
    plain, heavy = (small_fit(weights={"l1": one, "confidence": other}) for one, other in ((1.0, 1.0), (3.0, 5.0)))
    plain, heavy = plain.loss(clips, known), heavy.loss(clips, known)
    torch.testing.assert_close(heavy["l1"], 3 * plain["l1"])
    torch.testing.assert_close(heavy["confidence"], 5 * plain["confidence"])
    error = (Linear()(clips, known).latents - clips)[:, :, [1, 2, 4, 5]]
    torch.testing.assert_close(plain["error"], error.square().mean())
    torch.testing.assert_close(plain["l1"], error.abs().mean())


def test_confidence_is_judged_by_the_error_it_foretells():
    error = torch.full((1, 4, 3, 2, 2), 1.0)
    missing = torch.tensor([[False, True, False]])
    right, wrong = (Interpolation(error, torch.full((1, 3, 2, 2), value)) for value in (0.5, 0.9))
    assert calibration(right, error, missing) == 0
    torch.testing.assert_close(calibration(wrong, error, missing), torch.tensor(0.16))


def test_validation_compares_by_level_and_by_gap():
    fit = small_fit()
    corrupted, _, _ = corrupted_clip("corruption=none", "schedule=random", batch=4)
    estimate = fit.validation_step(corrupted, 0)
    assert torch.equal(estimate, corrupted.interpolation)  # untrained
    logged = {}
    fit.log_dict = logged.update
    gap = neighbours(corrupted.known).gap
    expected = {int(g) for g in gap[corrupted.missing & (gap <= 8)] if g > 0}
    fit.on_validation_epoch_end()
    assert {int(name.split("/")[1][4:]) for name in logged if "gap_" in name} == expected
    assert all(logged[name] == 1 for name in logged if name.endswith("/ratio"))
    assert "val/mean/ratio" in logged
    gaps = [int(g) for g in gap[corrupted.missing & (gap > 0)]]
    squared = (estimate - corrupted.clean).square().mean((1, 3, 4))
    some = gaps[0]
    by_hand = squared[corrupted.missing & (gap == some)].mean()
    torch.testing.assert_close(logged[f"val/gap_{some}/refined_mse"], by_hand)


def test_the_refiner_holds_no_weight_of_its_corruptions_interpolator():
    backbone = build("backbone", "wan_tiny", interface=Interface(spec_of(16)))
    corruption = make_corruption("interpolator=flow_warp", "interpolator.checkpoint=null")
    refiner = Refiner(backbone, Correction(spec_of(), 4), AdamW(), OneJump(), corruption)
    learned = {id(weight) for weight in corruption.interpolator.parameters()}
    assert learned
    assert not learned & {id(weight) for weight in refiner.parameters()}
    assert not any("interpolator" in name for name in refiner.state_dict())


def test_bad_settings_are_named():
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(BadValue, match=rf"weights\.l1={weight}: expected a finite number >= 0, a weight"):
            small_fit(weights={"l1": weight})
    with pytest.raises(
        BadValue, match=r"weights=roughnes: expected l1 \| confidence \| roughness; did you mean 'roughn"
    ):
        small_fit(weights={"roughnes": 1.0})
    with pytest.raises(BadValue, match="max_gap=1: expected at least 2"):
        small_fit(max_gap=1)
    with pytest.raises(BadValue, match="interpolator=Linear: expected one with weights and no checkpoint"):
        InterpolatorFit(Linear(), AdamW(), make_corruption(), spec_of(), {})
