"""Training a selector on the keyframes of dynamic programming."""

import pytest
import torch

from interp_refiner.core import BadValue, Clip, save_weights
from interp_refiner.evaluation.measures import missing_frame_mse
from interp_refiner.forward.schedule import ClipPreview, Learned, Selector
from interp_refiner.training import SelectorFit
from interp_refiner.training.optimizer import AdamW
from tests.factories import make_corruption, spec_of

SMALL = {"channels": 4, "grid": 2, "width": 8}


def small_fit(*overrides, **schedule):
    torch.manual_seed(0)
    learned = Learned(selector=Selector(**SMALL), preview=ClipPreview(), **schedule)
    corruption = make_corruption("schedule=dp", "corruption=none", *overrides)
    return SelectorFit(learned, AdamW(lr=2e-2, warmup_steps=0), corruption, spec_of())


def hidden_motion(batch=16, seed=0):
    """Clips whose second channel, visible in every cell, tells how much the others move where cells average it out."""
    generator = torch.Generator().manual_seed(seed)
    busy = (torch.rand(batch, 21, generator=generator) < 0.3).float().view(batch, 1, 21, 1, 1)
    checks = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(2, 3)
    noise = torch.randn(batch, 4, 21, 1, 1, generator=generator)
    latents = 4 * busy * noise * checks + 0.1 * torch.randn(batch, 4, 21, 4, 6, generator=generator)
    latents[:, 1] += busy[:, 0] * 0.5
    return Clip(latents, [f"clip{i}" for i in range(batch)], epochs=[0] * batch)


def test_a_few_steps_make_the_labels_likelier():
    fit, clip = small_fit(), hidden_motion()
    fit.log = lambda *_, **__: None
    corrupted = fit.corruption(clip, "train")
    optimizer = fit.recipe.optimizer(fit)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        losses.append(fit.training_step(corrupted, 0))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.9 * losses[0]


def test_validation_compares_with_even_spacing_and_with_dp():
    fit, clip = small_fit(), hidden_motion(batch=4)
    clip.level = torch.tensor([1, 2, 3, 4])
    corrupted = fit.corruption(clip, "val")
    fit.validation_step(corrupted, 0)
    logged = {}
    fit.log_dict = logged.update
    fit.on_validation_epoch_end()
    uniform = make_corruption("schedule=uniform", "corruption=none")(clip, "val")
    learned = make_corruption(
        "schedule=learned", "schedule/preview=clip", "schedule.checkpoint=null", "corruption=none",
        *(f"schedule.selector.{name}={value}" for name, value in SMALL.items()),
    )(clip, "val")  # fmt: skip
    plans = {"interpolation": uniform, "refined": learned, "dp": corrupted}
    for name, c in plans.items():
        errors = missing_frame_mse(c.interpolation, c.clean, c.missing)
        for level in range(1, 5):
            torch.testing.assert_close(logged[f"val/level_{level}/{name}_mse"], errors[level - 1])
    assert logged["val/level_4/dp_mse"] <= logged["val/level_4/refined_mse"]
    assert "val/mean/ratio" in logged


def test_only_the_selector_is_trained_and_saved():
    fit = small_fit("interpolator=flow_warp", "interpolator.checkpoint=null")
    names = set(fit.state_dict())
    assert {name for name in names if name.startswith("selector.")} == {name for name, _ in fit.named_parameters()}
    assert not any("interpolator" in name for name in names)


def test_what_cannot_be_trained_is_named(tmp_path):
    save_weights(Selector(**SMALL), tmp_path / "selector.safetensors")
    with pytest.raises(BadValue, match=r"schedule\.checkpoint=.*: expected null: a frozen selector"):
        small_fit(checkpoint=str(tmp_path / "selector.safetensors"))
    with pytest.raises(BadValue, match=r"corruption\.schedule=uniform: expected dp: the selector"):
        small_fit("schedule=uniform")
