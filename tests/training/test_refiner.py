"""The training step's own proposals (``scheduled_sampling=self``)."""

import torch

from interp_refiner.core import per_frame
from interp_refiner.model.attention import Flops
from interp_refiner.model.backbone import Backbone
from interp_refiner.model.objective import Correction
from interp_refiner.model.sampler import OneJump
from interp_refiner.training import Refiner
from interp_refiner.training.optimizer import AdamW
from tests.factories import make_corruption, make_objective, random_clip, spec_of


class Shift(Backbone):
    """Outputs one learned number everywhere, and notes what it was shown."""

    def __init__(self):
        super().__init__()
        self.shift = torch.nn.Parameter(torch.tensor(0.25))
        self.seen = []

    def forward(self, corrupted):
        self.seen.append((corrupted, torch.is_grad_enabled()))
        return self.shift.expand_as(corrupted.x)

    def zero_output(self):
        pass


def refiner(*overrides):
    corruption = make_corruption("scheduled_sampling=self", "scheduled_sampling.probability.end=1.0", *overrides)
    return Refiner(Shift(), Correction(spec_of(), 4), AdamW(), OneJump(), corruption), corruption


def test_proposals_are_the_prediction_from_one_level_coarser():
    model, corruption = refiner()
    clip = random_clip(batch=4, level=torch.tensor([1, 2, 3, 4]), step=0)
    before = corruption(clip, "train")
    assert not before.replaced.any()
    after = model.with_own_proposals(before)
    ((seen, grad),) = model.backbone.seen
    assert not grad
    assert seen.level.tolist() == [2, 3, 4, 4]
    expected = before.known & ~before.plan.mask_at(seen.level)
    assert torch.equal(after.replaced, expected)
    assert after.replaced.any(1).tolist() == [True, True, True, False]
    frames = per_frame(after.replaced, after.x).expand_as(after.x)
    torch.testing.assert_close(after.values[frames], (seen.interpolation + 0.25)[frames])
    assert torch.equal(after.noise, before.noise)
    assert torch.equal(after.known, before.known)


def test_the_training_step_trains_on_its_own_proposals_with_one_gradient():
    model, corruption = refiner()
    model.log = model.log_dict = lambda *args, **kwargs: None
    clip = random_clip(batch=4, level=torch.tensor([1, 2, 3, 4]), step=0)
    model.training_step(corruption(clip, "train"), 0).backward()
    (_, first), (trained, second) = model.backbone.seen
    assert (first, second) == (False, True)
    assert trained.replaced.any()
    assert model.backbone.shift.grad.abs() > 0


class Counted(Shift):
    """A network whose forward pass takes 7 operations a clip."""

    def flops(self, batch, latent_shape, text_tokens):
        return Flops(linear=7.0 * batch)


def test_every_sample_of_a_loss_that_compares_some_costs_a_forward_and_a_backward_pass():
    for scheduled, predicted in (("never", 0), ("self", 7)):
        corruption = make_corruption(f"scheduled_sampling={scheduled}", "corruption.keyframe_fraction=0.5")
        for name, passes in (("correction", 1), ("energy_score", 2)):
            objective = make_objective(name)
            model = Refiner(Counted(), objective, AdamW(), OneJump(), corruption)
            corrupted = corruption(random_clip(batch=4, step=0), "train")
            assert model.step_flops(corrupted) == 4 * (passes * 3 * 7 + predicted), (scheduled, name)


def test_keyframes_that_are_given_stay():
    model, corruption = refiner()
    frames = torch.zeros(3, 21, dtype=torch.bool)
    frames[:, [0, 5, 9]] = True
    clip = random_clip(given=frames, level=torch.tensor([1, 1, 2]), step=0)
    after = model.with_own_proposals(corruption(clip, "train"))
    assert after.replaced.any()
    kept = per_frame(frames, after.x).expand_as(after.x)
    assert torch.equal(after.x[kept], clip.latents[kept])
